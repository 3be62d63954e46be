# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What may not stand in the option `schedule`: everything that is wrong with it, at once."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import (
    ABORT,
    ALWAYS,
    AUTO,
    EXTEND,
    IF_NEEDED,
    NEVER,
    NONE,
    PAUSE,
    POSTCOPY,
    XBZRLE,
    ZLIB,
    ZSTD,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.policies import POLICIES, said, schedule_of

# QEMU's own ceiling for downtime-limit (qapi/migration.json, MAX_MIGRATE_DOWNTIME).
MAX_DOWNTIME_MS = 2000 * 1000

# Smallest and largest. connections: one byte in QEMU's multifd-channels. throttle: QEMU's cpu-throttle-*.
RANGES: Dict[str, Tuple[float, float]] = {
    "downtime_start_ms": (1, MAX_DOWNTIME_MS),
    "downtime_top_ms": (1, MAX_DOWNTIME_MS),
    "downtime_steps": (1, 100),
    "pause_most_ms": (1, MAX_DOWNTIME_MS),
    "connections": (0, 255),
    "throttle_start_percent": (1, 99),
    "throttle_step_percent": (1, 99),
    "bandwidth_share_percent": (1, 100),
    "stall_window": (0.1, 100),
    "patience": (0, 1000),
}
WORDS: Dict[str, Tuple[str, ...]] = {
    "compression": (AUTO, NONE, ZSTD, ZLIB, XBZRLE),
    "auto_converge": (NEVER, IF_NEEDED, ALWAYS),
}
ACTIONS = (EXTEND, POSTCOPY, PAUSE, ABORT)


def schedule_problems(policy: str, given: Optional[Mapping[str, Any]], max_downtime_ms: Optional[int]) -> List[str]:
    """Each names the key, its value and what is right."""
    told = said(given)
    problems = [
        "schedule.%s is %s; give a number from %g to %g" % (key, told[key], least, most)
        for key, (least, most) in RANGES.items()
        if key in told and not least <= told[key] <= most
    ]
    problems += [
        "schedule.%s is %r; it is one of %s" % (key, told[key], ", ".join(words))
        for key, words in WORDS.items()
        if key in told and told[key] not in words
    ]
    problems += _action_problems(told.get("at_stall"))
    if problems:
        return problems
    return _contradictions(policy, told, max_downtime_ms)


def _action_problems(actions: Optional[Tuple[str, ...]]) -> List[str]:
    if actions is None:
        return []
    problems = [
        "schedule.at_stall has %r; its entries are %s" % (action, ", ".join(ACTIONS))
        for action in actions
        if action not in ACTIONS
    ]
    for final in (ABORT, PAUSE):
        after = actions[actions.index(final) + 1 :] if final in actions else ()
        if [action for action in after if action != ABORT]:
            problems.append("schedule.at_stall goes on after %s with %s; remove those" % (final, ", ".join(after)))
    return problems


def _contradictions(policy: str, told: Mapping[str, Any], max_downtime_ms: Optional[int]) -> List[str]:
    if policy not in POLICIES:
        return []
    whole = schedule_of(policy, told, max_downtime_ms)
    problems = []
    if whole.downtime_start_ms > whole.downtime_top_ms:
        problems.append(
            "schedule.downtime_start_ms (%d) is above downtime_top_ms (%d); the ramp goes up"
            % (whole.downtime_start_ms, whole.downtime_top_ms)
        )
    if whole.downtime_top_ms > whole.pause_most_ms:
        problems.append(
            "schedule.downtime_top_ms (%d) is above pause_most_ms (%d), which bounds every stop; raise that one too"
            % (whole.downtime_top_ms, whole.pause_most_ms)
        )
    if max_downtime_ms is not None and told.get("pause_most_ms", max_downtime_ms) != max_downtime_ms:
        problems.append("max_downtime_ms and schedule.pause_most_ms say the same; give one of them")
    if whole.compression == XBZRLE and whole.connections:
        problems.append("schedule.compression is xbzrle, which goes over one connection; set schedule.connections to 0")
    return problems
