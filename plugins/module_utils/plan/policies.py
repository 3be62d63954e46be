# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Policies by outcome: what matters most to the user, as a schedule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, Mapping, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import (
    ABORT,
    AUTO,
    EXTEND,
    IF_NEEDED,
    NEVER,
    PAUSE,
    POSTCOPY,
    Schedule,
)

BALANCED = "balanced"

# docs/policies.md shows this table; a test keeps the two equal.
POLICIES: Dict[str, Schedule] = {
    # A stop of up to two seconds is better than a guest that is slowed down for long, or that does not move.
    BALANCED: Schedule(
        downtime_start_ms=50,
        downtime_top_ms=500,
        downtime_steps=8,
        pause_most_ms=2000,
        connections=0,
        compression=AUTO,
        auto_converge=IF_NEEDED,
        throttle_start_percent=20,
        throttle_step_percent=10,
        bandwidth_share_percent=100,
        stall_window=0.5,
        patience=12,
        at_stall=(EXTEND, POSTCOPY, ABORT),
    ),
    # The stop is all that counts: rather a slowed guest, or no move at all.
    "minimal_downtime": Schedule(
        downtime_start_ms=30,
        downtime_top_ms=150,
        downtime_steps=6,
        pause_most_ms=150,
        connections=0,
        compression=AUTO,
        auto_converge=IF_NEEDED,
        throttle_start_percent=20,
        throttle_step_percent=10,
        bandwidth_share_percent=90,
        stall_window=1.0,
        patience=16,
        at_stall=(POSTCOPY, ABORT),
    ),
    # The host has to be emptied: a stop of up to half a minute is allowed.
    "must_finish": Schedule(
        downtime_start_ms=100,
        downtime_top_ms=30000,
        downtime_steps=12,
        pause_most_ms=30000,
        connections=0,
        compression=AUTO,
        auto_converge=IF_NEEDED,
        throttle_start_percent=30,
        throttle_step_percent=15,
        bandwidth_share_percent=100,
        stall_window=0.5,
        patience=12,
        at_stall=(EXTEND, POSTCOPY, PAUSE, ABORT),
    ),
    # Neither the guest nor its neighbours on the link shall notice; the move may take long, or be given up.
    "least_impact": Schedule(
        downtime_start_ms=30,
        downtime_top_ms=300,
        downtime_steps=8,
        pause_most_ms=300,
        connections=0,
        compression=AUTO,
        auto_converge=NEVER,
        throttle_start_percent=20,
        throttle_step_percent=10,
        bandwidth_share_percent=50,
        stall_window=2.0,
        patience=4,
        at_stall=(ABORT,),
    ),
}


def schedule_of(policy: str, given: Optional[Mapping[str, Any]], max_downtime_ms: Optional[int]) -> Schedule:
    """The policy's schedule, with what the user put in its place.

    max_downtime_ms bounds every stop, and the ramp goes up to it. What was not said bends to what was.
    """
    told = said(given)
    schedule = replace(POLICIES[policy], **told)
    most = max_downtime_ms or schedule.pause_most_ms
    top = max_downtime_ms or min(schedule.downtime_top_ms, most)
    top = schedule.downtime_top_ms if "downtime_top_ms" in told else top
    start = schedule.downtime_start_ms if "downtime_start_ms" in told else min(schedule.downtime_start_ms, top)
    return replace(schedule, downtime_start_ms=start, downtime_top_ms=top, pause_most_ms=most)


def said(given: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    """Of the option `schedule`, the keys that were given."""
    told = {key: value for key, value in (given or {}).items() if value is not None}
    return dict(told, at_stall=tuple(told["at_stall"])) if "at_stall" in told else told


def ramp(schedule: Schedule) -> Tuple[int, ...]:
    """The downtimes in ms that QEMU is allowed one after the other: evenly by ratio, so that the first steps are small."""
    start, top, steps = schedule.downtime_start_ms, schedule.downtime_top_ms, schedule.downtime_steps
    if steps == 1:
        return (top,)
    return tuple(round(start * (top / start) ** (step / (steps - 1))) for step in range(steps))
