# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a live move is expected to cost, and from what that was computed. MiB, MiB/s, ms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple


@dataclass(frozen=True)
class Load:
    """The guest as measured before the move. None: not measured.

    dirty_mib_s: memory written to, as QEMU's page sampling sees it within a second. content_mib: memory that is not
    empty; an empty page goes as a mark. working_set_mib: the memory it writes to, over and over; written_mib_s: how fast it
    does that, which is more than dirty_mib_s when it comes back to the same pages within the second. compresses_by: how many
    times smaller zstd makes the memory that is not empty; written_compresses_by: that of it which is written to.
    """

    dirty_mib_s: Optional[float] = None
    content_mib: Optional[float] = None
    working_set_mib: Optional[float] = None
    written_mib_s: Optional[float] = None
    compresses_by: Optional[float] = None
    written_compresses_by: Optional[float] = None


@dataclass(frozen=True)
class Task:
    """What is to be moved. link_mib_s: None when it is not known; link_from: where that number comes from. The rest: see Load."""

    memory_mib: float
    link_mib_s: Optional[float] = None
    link_from: str = "not known"
    dirty_mib_s: Optional[float] = None
    disk_mib: float = 0.0
    is_content_known: bool = False
    working_set_mib: Optional[float] = None
    written_mib_s: Optional[float] = None
    compresses_by: Optional[float] = None
    written_compresses_by: Optional[float] = None


@dataclass(frozen=True)
class Prediction:
    """total_ms, downtime_ms, rounds: None when they cannot be told. converges: without anything done at a stall.

    ends_by: converged, or what ended it: extend, postcopy, pause, abort. confidence: high, medium, low, none; because: why.
    """

    total_ms: Optional[int] = None
    downtime_ms: Optional[int] = None
    rounds: Optional[int] = None
    converges: Optional[bool] = None
    ends_by: Optional[str] = None
    memory_mib: Optional[float] = None
    disk_mib: float = 0.0
    link_mib_s: Optional[float] = None
    dirty_mib_s: Optional[float] = None
    confidence: str = "none"
    because: Tuple[str, ...] = ()

    def as_dict(self) -> Dict[str, Any]:
        return dict(self.__dict__, because=list(self.because))
