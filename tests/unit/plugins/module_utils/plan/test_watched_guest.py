# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The policies on a guest page by page: passes until it has moved, the stop within what is declared, who is left alone."""

from __future__ import annotations

from typing import Optional

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.plan.course import begin
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.policies import POLICIES
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.plan.watched_guest import (
    SWITCHED,
    Flight,
    Scene,
    fly,
    sockets_ms,
)

# Goal G6, in memory / link rate.
PASSES = 1.6
MEMORY, LINK = 94.0, 22.8
# The moments at which the watch happens to look, within its period.
LATE = (0.02, 0.12, 0.21)
ENDING = ("balanced", "must_finish")
# As the benchmark's guest: random bytes are written to, and what lies around them compresses.
PACKED = {"packs_by": 2.9, "written_packs_by": 1.0}


def scene(ratio: float, busy: float, late: float = LATE[0], **more: float) -> Scene:
    """ratio: what the guest writes, of what the link carries of it. busy: the working set, of the memory."""
    rate = ratio * LINK * more.get("written_packs_by", 1.0)
    return Scene(rate, busy * MEMORY, MEMORY, LINK, late_s=late, **more)  # type: ignore[arg-type]


def moved(policy: str, found: Scene, dirty_mib_s: Optional[float]) -> Flight:
    packs_by = found.written_packs_by if found.packs_by > 1 else None
    connections = 2 if found.packs_by > 1 else 1
    schedule = POLICIES[policy]
    course = begin(schedule, dirty_mib_s, limited=True, connections=connections, written_packs_by=packs_by)
    flight = fly(found, course)
    assert flight.stop_ms + sockets_ms(found, connections) <= schedule.pause_most_ms * 1.02 + 10, flight
    return flight


@pytest.mark.parametrize("policy", ENDING)
@pytest.mark.parametrize("ratio", [1.2, 1.5, 3.0])
@pytest.mark.parametrize("walks", [True, False])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("late", LATE)
def test_who_never_converges_has_moved_within_the_goal(
    policy: str, ratio: float, walks: bool, packed: bool, late: float
) -> None:
    """Its rate was measured, a tenth too low. The working set fits into the stop that is declared."""
    for busy in (0.05, 0.2, 0.34):
        found = scene(ratio, busy, late, walks=walks, **(PACKED if packed else {}))
        flight = moved(policy, found, 0.9 * found.dirty_mib_s)
        assert flight.ended == SWITCHED and flight.passes <= PASSES, (found, flight)


@pytest.mark.parametrize("policy", ENDING)
@pytest.mark.parametrize("ratio", [1.2, 1.5, 3.0])
@pytest.mark.parametrize("late", LATE)
def test_whose_rate_nobody_knows_takes_one_round_more(policy: str, ratio: float, late: float) -> None:
    """The first two rounds tell it."""
    for busy in (0.2, 0.34):
        found = scene(ratio, busy, late, **PACKED)
        first = busy + (1 - busy) / found.packs_by
        # Then what is written, once while the guest runs and once while it stands still.
        assert moved(policy, found, None).passes <= first + 2 * busy + 0.1, found


@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("walks", [True, False])
def test_no_move_is_given_up_where_a_stop_would_do(late: float, walks: bool) -> None:
    for ratio in (0.3, 0.6, 0.8, 0.9, 0.95, 1.0, 1.1, 1.2, 2.0):
        for known in (0.8, 1.0, None):
            found = scene(ratio, 0.34, late, walks=walks, **PACKED)
            flight = moved("balanced", found, None if known is None else known * found.dirty_mib_s)
            assert flight.ended == SWITCHED, (found, known, flight)


@pytest.mark.parametrize("policy", ENDING)
@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.7])
def test_who_converges_is_left_to_it(policy: str, late: float, ratio: float) -> None:
    """No act but the ramp's small steps."""
    for busy in (0.05, 0.34, 0.7, 1.0):
        for packs in ({}, PACKED):
            found = scene(ratio, busy, late, **packs)
            flight = moved(policy, found, found.dirty_mib_s)
            assert set(flight.whats) <= {"downtime"} and flight.ended == SWITCHED, (found, flight)


@pytest.mark.parametrize("late", LATE)
def test_what_is_written_may_compress_less_than_the_rest(late: float) -> None:
    """The first round goes three times as fast as the working set will: a stop of 2.6 s is not begun for one of 0.9 s."""
    found = scene(3.0, 0.64, late, **PACKED)
    assert moved("balanced", found, found.dirty_mib_s).ended == "abort"
