# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a live migration has taken long enough, and what then."""

from __future__ import annotations

from typing import Callable, Optional


def rule(timeout_s: Optional[int], on_timeout: str) -> Callable[[float], Optional[str]]:
    """elapsed seconds -> None while in time, then `on_timeout` (abort or pause)."""

    def overdue(elapsed_s: float) -> Optional[str]:
        return on_timeout if timeout_s is not None and elapsed_s > timeout_s else None

    return overdue
