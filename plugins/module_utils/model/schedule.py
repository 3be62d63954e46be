# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a policy is made of, and what is done to a live move while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

# What may be done at a stall, in Schedule.at_stall.
EXTEND, POSTCOPY, PAUSE, ABORT = "extend", "postcopy", "pause", "abort"
# What else may be done to a running move. downtime: the next step of the ramp. leave: nothing; it goes on without us.
DOWNTIME, BANDWIDTH, LEAVE = "downtime", "bandwidth", "leave"

NEVER, IF_NEEDED, ALWAYS = "never", "if_needed", "always"
AUTO, NONE, ZSTD, ZLIB, XBZRLE = "auto", "none", "zstd", "zlib", "xbzrle"


@dataclass(frozen=True)
class Schedule:
    """How a live move is steered, as data.

    downtime_*: what QEMU is allowed for the switch-over: from start to top, in so many steps, one at each round that
    does not halve what remains. pause_most_ms: the declared bound: no stop that is expected to last longer is begun.
    connections: in parallel for memory; 0 means one, or as many as encryption or compression need. compression: auto,
    none, zstd, zlib, xbzrle. auto_converge: never, if_needed, always; throttle_*: the first and each further slowdown.
    bandwidth_share_percent: of the link's rate. stall_window: the move has stalled when what remains did not get
    smaller while this many times what remains was sent. patience: stalls to wait for an action to become possible.
    at_stall: what is done, one after the other; it ends with abort, said or not.
    """

    downtime_start_ms: int
    downtime_top_ms: int
    downtime_steps: int
    pause_most_ms: int
    connections: int
    compression: str
    auto_converge: str
    throttle_start_percent: int
    throttle_step_percent: int
    bandwidth_share_percent: int
    stall_window: float
    patience: int
    at_stall: Tuple[str, ...]

    def as_dict(self) -> Dict[str, Any]:
        return dict(self.__dict__, at_stall=list(self.at_stall))


@dataclass(frozen=True)
class Act:
    """One thing done to a running move. what: see the words above. value: ms or MiB/s, if it takes any. at_ms: since the start.
    remedy: what the user can do when it ended the move, where the reason alone says that."""

    what: str
    why: str
    value: Optional[int] = None
    at_ms: int = 0
    remedy: str = ""

    def as_dict(self) -> Dict[str, Any]:
        return {"at_ms": self.at_ms, "what": self.what, "value": self.value, "why": self.why}


@dataclass(frozen=True)
class Choice:
    """What was chosen before the start, and why."""

    what: str
    why: str

    def as_dict(self) -> Dict[str, str]:
        return {"what": self.what, "why": self.why}


@dataclass(frozen=True)
class Chosen:
    """How a live move goes. bandwidth_mib_s: None for no limit. compression: zstd, zlib, xbzrle or None. choices: all of it in words."""

    tls: bool = False
    connections: int = 0
    compression: Optional[str] = None
    auto_converge: bool = False
    postcopy: bool = False
    bandwidth_mib_s: Optional[int] = None
    choices: Tuple[Choice, ...] = ()
