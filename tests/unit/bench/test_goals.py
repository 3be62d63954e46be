# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the bench says of its goals when only some took part."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from ansible_collections.kvmops.fleet.tests.bench.migrate import goals
from ansible_collections.kvmops.fleet.tests.bench.migrate.contenders import CONTENDERS
from ansible_collections.kvmops.fleet.tests.bench.migrate.figures import Figures, pass_mib_of
from ansible_collections.kvmops.fleet.tests.bench.migrate.scenarios import SCENARIOS

PASS_MIB = 91.2  # four seconds at 22.8 MiB/s
ALONE = [(name, who) for name, scenario in SCENARIOS.items() for who in scenario.contenders]


def move(who: str, seconds: float = 5.0, moved: bool = True) -> Dict[str, Any]:
    """As rounds.py keeps it."""
    told = {"schedule": {"pause_most_ms": 2000}, "prediction": {"ratio": {"total_ms": 1.1}}}
    seen = {"who": who, "round": 0, "moved": moved, "pause_ms": 1500, "lost_s": 1.5, "wall_s": seconds + 0.3}
    if CONTENDERS[who].virsh is None:
        seen.update(told=told, task_s=seconds + 1.5, nothing_s=0.5)
    return dict(seen, stats={"time_elapsed": seconds * 1000})


def said(*found: Figures) -> Dict[str, Any]:
    return {verdict.goal: verdict for verdict in goals.verdicts({one.name: one for one in found})}


@pytest.mark.parametrize(("name", "who"), ALONE)
def test_a_contender_alone_has_its_goals_judged_and_the_others_left_open(name: str, who: str) -> None:
    told = said(Figures(name, PASS_MIB, [move(who)]))
    compared = [verdict for verdict in told.values() if "of doubling's" in verdict.found or "at least" in verdict.goal]
    assert all(verdict.reached is None for verdict in compared), told
    ending = [verdict for goal, verdict in told.items() if "never converge arrive" in goal and verdict.reached]
    assert len(ending) == (name in goals.NEVER_CONVERGE and who in goals.ENDING)


def test_nothing_measured_is_said_of_every_goal() -> None:
    assert {verdict.found for verdict in said().values()} == {"not measured"}


def test_passes_are_judged_by_the_worst_and_a_guest_that_stayed_fails() -> None:
    good, slow = move("balanced"), move("balanced", seconds=7.0)
    stayed = move("balanced", moved=False)
    for moves, reached in (([good], True), ([good, slow], False), ([good, stayed], False), ([stayed], False)):
        told = said(Figures("busy12", PASS_MIB, moves))
        (verdict,) = [one for goal, one in told.items() if "`balanced`: guests that never converge" in goal]
        assert verdict.reached is reached, verdict


def test_a_pass_is_what_moves_without_compression_send_first() -> None:
    sent = {"doubling": 104.0, "balanced": 62.0, "autoconverge": 100.0, "tuned": 57.0, "one_connection": 102.0}
    moves = [dict(move(who), first_pass_mib=mib) for who, mib in sent.items()]
    gone = dict(move("default", moved=False), first_pass_mib=None)
    assert pass_mib_of({"pass_mib": 69.0, "moves": [*moves, gone]}) == 102.0
    assert pass_mib_of({"pass_mib": 69.0, "moves": [gone, moves[1]]}) == 69.0
