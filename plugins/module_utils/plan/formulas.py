# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The formulas of pre-copy migration. Sizes in MiB, rates in MiB/s, times in s.

From Liu et al., HPDC 2011 (rounds), and algebra on them. memory: what is sent at first. rate: of the link. dirty: what
the guest writes per second. ratio: dirty / rate. working_set: the memory it writes to.
"""

from __future__ import annotations

import math
from typing import Optional


def round_mib(memory: float, ratio: float, number: int) -> float:
    """What the round of that number sends; the first is 0."""
    return memory * ratio**number


def total_mib(memory: float, ratio: float, rounds: int) -> float:
    """What all rounds send together, when `rounds` follow the first."""
    if ratio == 1:
        return memory * (rounds + 1)
    return float(memory * (1 - ratio ** (rounds + 1)) / (1 - ratio))


def rounds_needed(memory: float, rate: float, dirty: float, downtime: float) -> Optional[int]:
    """Rounds after the first until what remains fits into the downtime. None: never, it does not get less."""
    if memory <= downtime * rate or dirty == 0:
        return 0
    if dirty >= rate:
        return None
    return max(0, math.ceil(math.log(downtime * rate / memory) / math.log(dirty / rate)))


def limit_s(memory: float, rate: float, dirty: float) -> Optional[float]:
    """Time of a move that converges without any downtime allowed. None: never."""
    return memory / (rate - dirty) if dirty < rate else None


def stop_s(remaining: float, rate: float) -> float:
    """How long sending what remains takes."""
    return remaining / rate


def written_mib(working_set: float, dirty: float, seconds: float) -> float:
    """Different memory written to in that time: at most the working set."""
    return working_set * (1 - math.exp(-dirty * seconds / working_set)) if working_set > 0 else 0.0


def least_stop_mib(working_set: float, rate: float, dirty: float) -> float:
    """What remains for good when the guest writes faster than the link sends: V = W (1 - e^(-d V / (R W)))."""
    if dirty <= rate:
        return 0.0
    remaining = working_set
    for _turn in range(200):
        remaining = written_mib(working_set, dirty, remaining / rate)
    return remaining


def compressed_rate(rate: float, ratio: float, compressing: float) -> float:
    """Memory per second over a link with compression of that ratio. compressing: what the processors manage."""
    return min(ratio * rate, compressing)


def postcopy_s(memory: float, remaining: float, rate: float) -> float:
    """One round, then what was written meanwhile; the guest runs on the destination during the latter."""
    return (memory + remaining) / rate


def disk_s(allocated: float, rate: float, written: float = 0.0) -> Optional[float]:
    """Time of a disk's copy while the guest writes to it. None: never."""
    return allocated / (rate - written) if written < rate else None
