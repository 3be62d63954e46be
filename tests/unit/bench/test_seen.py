# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the bench makes of the moments at which a guest answered."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import pytest

from ansible_collections.kvmops.fleet.tests.bench.migrate.seen import summary


def answers(*stops: Tuple[float, float], pace: float = 1.0) -> List[Tuple[float, int]]:
    """A hundred answers and units of work a second for twelve seconds, but for the stops; from the fifth second on at another pace."""
    told, units = [], 0.0
    for tick in range(1200):
        moment = tick / 100.0
        if any(start <= moment < end for start, end in stops):
            continue
        units += pace if moment >= 5 else 1.0
        told.append((moment, int(units)))
    return told


def seen(told: List[Tuple[float, int]]) -> Dict[str, Any]:
    """A move from the fourth to the tenth second."""
    return summary({"answers": told, "began": 4.0, "ended": 10.0, "alone_until": 3.0, "samples": [[4.5, 10.0, 90.0]]})


def test_a_guest_that_nobody_disturbs_loses_nothing() -> None:
    move = seen(answers())
    assert (
        move["pause_ms"] <= 20
        and abs(move["lost_s"]) < 0.05
        and move["units_per_s_before"] == pytest.approx(100, abs=2)
    )
    assert move["seconds"] == 6.0 and move["samples"] == [[0.5, 10.0, 90.0]]


def test_a_stop_is_a_pause_and_lost_work() -> None:
    move = seen(answers((8.0, 9.5)))
    assert 1490 <= move["pause_ms"] <= 1530 and move["lost_s"] == pytest.approx(1.5, abs=0.05)
    assert min(move["pace"]) == 0.0 and move["pace"][0] == pytest.approx(1.0, abs=0.1)


def test_a_guest_that_is_slowed_down_loses_work_without_a_pause() -> None:
    """Half of it from the fifth second to 0.8 s after the end."""
    move = seen(answers(pace=0.5))
    assert move["pause_ms"] <= 20 and move["lost_s"] == pytest.approx(2.9, abs=0.1)


def test_a_stop_that_lasts_to_the_end_of_the_look_counts() -> None:
    assert seen(answers((9.0, 20.0)))["pause_ms"] >= 1750


def test_a_move_that_never_began_has_no_numbers() -> None:
    assert "pause_ms" not in summary({"answers": answers(), "began": None, "ended": None, "error": "refused"})
