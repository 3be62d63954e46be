# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long a guest is waited for while it shuts down."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """Seconds. total_s: for all of it. agent_s: after the guest agent was asked, where it is connected; 0: it is not asked.

    acpi_s: after the power button was pressed, within total_s; 0: it is not pressed.
    """

    total_s: float
    agent_s: float
    acpi_s: float
