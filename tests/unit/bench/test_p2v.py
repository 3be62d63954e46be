# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the bench of P2V makes of its copies."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from ansible_collections.kvmops.fleet.tests.bench.p2v import felt, goals, rounds
from ansible_collections.kvmops.fleet.tests.bench.p2v.contenders import BASELINES, BUSY, CONTENDERS, FIRST, SECOND
from ansible_collections.kvmops.fleet.tests.bench.p2v.figures import Figures


def copy(who: str, seconds: float, number: int = 0, **more: Any) -> Dict[str, Any]:
    """As rounds.py keeps it."""
    told = {"metrics": {"total_s": 10.0, "verify_s": more.get("verify_s", 0.5)}, "passes": [{"seconds": 8.0}]}
    told["pause_s"] = more.get("pause_s", 0.3)
    ours = {} if CONTENDERS[who].typed else {"told": told}
    return {"who": who, "round": number, "seconds": seconds, "wire_mib": 1.0, "load": [1.0], "disk_mib": 64, **ours}


def test_ratios_are_of_the_same_round() -> None:
    """The machine was twice as slow in the second one; nobody was better or worse for it."""
    copies = [copy("dd", 60), copy(FIRST, 10), copy("dd", 130, 1), copy(FIRST, 20, 1), copy("zstd", 500, 2)]
    measured = Figures(copies)
    assert measured.ratios("dd", FIRST, lambda each: each["seconds"]) == [6.0, 6.5]
    (verdict,) = [each for each in goals.verdicts(measured) if "`dd \\| ssh`" in each.goal]
    assert verdict.reached and verdict.found == "6.25 (6.00 to 6.50)"


def test_nothing_measured_is_said_of_every_goal() -> None:
    assert {(each.found, each.reached) for each in goals.verdicts(Figures([]))} == {("not measured", None)}


@pytest.mark.parametrize(
    ("copies", "goal", "reached"),
    [
        ([copy(BUSY, 10, pause_s=0.4)], "At a write rate", True),
        ([copy(BUSY, 10, pause_s=0.41)], "At a write rate", False),
        ([copy(FIRST, 10, verify_s=1.0)], "Reading the image back", True),
        ([copy(FIRST, 10, verify_s=1.1)], "Reading the image back", False),
        ([copy(FIRST, 10), copy(SECOND, 1)], "A second image", True),
        ([copy(FIRST, 10), copy(SECOND, 1.1)], "A second image", False),
    ],
)
def test_each_goal_can_be_missed(copies: Any, goal: str, reached: bool) -> None:
    (verdict,) = [each for each in goals.verdicts(Figures(copies)) if each.goal.startswith(goal)]
    assert verdict.reached is reached


def test_the_second_image_is_made_behind_the_first_in_every_round() -> None:
    for number in range(2):
        turn = rounds.order(list(CONTENDERS), number)
        assert sorted(turn) == sorted(CONTENDERS) and turn.index(SECOND) == turn.index(FIRST) + 1
    assert rounds.order(BASELINES, 1) == list(reversed(BASELINES))


def test_what_the_writer_felt_is_told_apart_by_the_run() -> None:
    """A hundred writes a second, 2 ms each; from the tenth second on, fifty of 20 ms, and one that stood still for a second."""
    alone = [[n / 100, 0.002] for n in range(1000)]
    beside = [[10 + n / 50, 0.02] for n in range(500) if not 5 <= n / 50 < 6] + [[15.0, 1.0]]
    told = felt.impact({"writes": alone + beside, "began": 10.0, "ended": 20.0})
    assert told["without"]["p99_ms"] == told["without"]["max_ms"] == 2.0
    assert told["without"]["mib_s"] == pytest.approx(100 / 64, rel=0.01)
    assert told["with"]["p50_ms"] == 20.0 and told["with"]["max_ms"] == 1000.0
    assert told["with"]["mib_s"] == pytest.approx(45 / 64, rel=0.01)
