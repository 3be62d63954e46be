# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The moments of a P2V run that its clients could feel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

FROZEN, THAWED, OFF = "frozen", "thawed", "off"
# No guest was put into service; a command did it while the source stood still; a domain was started once the source was off.
NOBODY, COMMAND, DOMAIN = "nobody", "command", "domain"


@dataclass(frozen=True)
class Course:
    """frozen, thawed, off: ms since the copy began at which the source was told to stand still, served again, was known to be
    off; None: it did not come to that. successor: who put the guest into service, one of the above.
    """

    frozen: Optional[float] = None
    thawed: Optional[float] = None
    off: Optional[float] = None
    successor: str = NOBODY
