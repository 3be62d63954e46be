# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a probe saw of a P2V run: machines and guests whose silence is known."""

from __future__ import annotations

from typing import List, Sequence, Tuple

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_course import COMMAND, DOMAIN, Course
from ansible_collections.kvmops.fleet.plugins.module_utils.model.probe import Probe, Record, Shot
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import p2v_impact
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_impact import concerns, figures, sentences, trimmed

TCP = Probe("tcp", "10.0.0.5", 80, interval_ms=100)
REHEARSED = Course(frozen=10_000.0, thawed=11_000.0)
LEFT = Course(frozen=10_000.0, off=15_000.0, successor=DOMAIN)


def record(*silent: Tuple[float, float], end: float = 30_000.0, waits: bool = False, took: float = 4.0) -> Record:
    """Asked every 100 ms from 2 s before the copy; in these stretches requests are lost, or wait until their end."""
    shots: List[Shot] = []
    for number in range(int((end + 2000) / 100)):
        at = -2000.0 + number * 100
        over = [until for since, until in silent if since <= at < until]
        answer = (over[0] - at + took if waits else None) if over else took
        shots.append(Shot(at, answer))
    return Record(100, 0.0, tuple(shots))


@pytest.mark.parametrize("waits", [True, False])
def test_a_rehearsal_tells_for_how_long_the_freeze_was_felt(waits: bool) -> None:
    seen = trimmed(record((10_000, 11_000), waits=waits), REHEARSED, 2.0)
    told = figures(seen, REHEARSED)
    assert told["downtime_ms"] is None and told["downtime_seen_ms"] == pytest.approx(1000, abs=100)
    impact = told["impact"]
    assert (impact["before"]["sent"], impact["during"]["sent"]) == (20, 100)
    # What comes later than two seconds behind it is another matter.
    assert (impact["pause"]["sent"], impact["after"]["sent"]) == (11, 20)
    lost = 0 if waits else 10
    assert impact["pause"]["lost"] == impact["lost"] == impact["lost_work"] == lost
    assert impact["pause"]["max_ms"] == (1004.0 if waits else 4.0)
    assert [gap["window"] for gap in impact["gaps"]] == ["pause"]
    assert concerns(TCP, seen, REHEARSED, "old1", False) == ()
    assert "for %.2f s at most" % (told["downtime_seen_ms"] / 1000) in sentences(TCP, told, REHEARSED)[0]


def test_a_machine_that_does_not_feel_the_freeze_has_no_downtime() -> None:
    told = figures(record(), REHEARSED)
    assert told["downtime_seen_ms"] == 0 and told["impact"]["lost_work"] == 0 and told["impact"]["gaps"] == []


def test_a_hiccup_of_the_network_during_the_passes_is_no_downtime() -> None:
    told = figures(record((4000, 8000), (10_000, 10_500)), REHEARSED)
    assert told["downtime_seen_ms"] == pytest.approx(500, abs=100)
    assert told["impact"]["during"]["longest_gap_ms"] == pytest.approx(4000, abs=100)
    assert [gap["window"] for gap in told["impact"]["gaps"]] == ["during", "pause"]


def test_a_guest_s_first_answer_ends_the_downtime() -> None:
    """The machine's kernel answers until it is switched off, at 12 s; that it is off is known 3 s later."""
    seen = trimmed(record((12_000, 25_000)), LEFT, 2.0)
    told = figures(seen, LEFT)
    assert told["downtime_ms"] == 25_000 - 11_900
    assert told["downtime_seen_ms"] == 25_000 - 11_900 - 100
    assert told["impact"]["pause"]["lost"] == 130 and told["impact"]["after"]["sent"] == 20
    assert concerns(TCP, seen, LEFT, "old1", False) == ()
    assert "for 13.10 s, from the last of the machine to the first of its guest" in sentences(TCP, told, LEFT)[0]


def test_an_answer_of_the_machine_after_a_short_silence_is_not_its_guest_s() -> None:
    assert figures(record((10_000, 10_800), (12_000, 25_000)), LEFT)["downtime_ms"] == 25_000 - 11_900


@pytest.mark.parametrize(
    ("silent", "expected"),
    [
        # The guest answers before the machine is known to be off.
        ([(12_000, 14_000)], 2100),
        # It answers after that.
        ([(12_000, 20_000)], 8100),
        # A silence before the freeze is none of it.
        ([(3000, 9000), (12_000, 14_000)], 2100),
    ],
)
def test_what_a_command_started_may_answer_early(silent: Sequence[Tuple[float, float]], expected: int) -> None:
    course = Course(frozen=10_000.0, off=15_000.0, successor=COMMAND)
    assert figures(record(*silent), course)["downtime_ms"] == expected


def test_a_guest_that_does_not_answer_gives_a_lower_bound_and_says_so() -> None:
    seen = record((12_000, 99_000))
    told = figures(seen, LEFT)
    assert told["downtime_ms"] is None and told["downtime_seen_ms"] == pytest.approx(18_000, abs=200)
    assert [each.id for each in concerns(TCP, seen, LEFT, "old1", False)] == ["p2v-probe-silent-after"]
    assert "at least" in sentences(TCP, told, LEFT)[0]


def test_without_a_guest_no_downtime_is_told() -> None:
    course = Course(frozen=10_000.0, off=15_000.0)
    seen = record((12_000, 99_000), end=15_000.0)
    told = figures(seen, course)
    assert told["downtime_ms"] is None and told["downtime_seen_ms"] is None and told["impact"]["during"]["sent"] == 100
    assert [each.id for each in concerns(TCP, seen, course, "old1", False)] == ["p2v-probe-no-guest"]
    assert "was not measured: no guest" in sentences(TCP, told, course)[0]


def test_a_machine_that_never_answered_gives_no_number() -> None:
    seen = record((-2000, 99_000))
    told = figures(seen, REHEARSED)
    assert told == p2v_impact.NOTHING
    assert [each.id for each in concerns(TCP, seen, REHEARSED, "old1", False)] == ["p2v-probe-silent"]
    assert "not measured" in sentences(TCP, told, REHEARSED)[0]


def test_a_prober_that_ended_early_has_not_seen_the_pause() -> None:
    """0 ms would be a lie: nobody looked."""
    seen = record(end=5000.0)
    told = figures(seen, REHEARSED, cut_short=True)
    assert told["downtime_seen_ms"] is None and told["impact"]["during"]["sent"] == 50
    assert [each.id for each in concerns(TCP, seen, REHEARSED, "old1", True)] == ["p2v-probe-failed"]
    assert "not to the end" in sentences(TCP, told, REHEARSED)[0]


def test_a_run_that_failed_before_the_freeze_tells_what_the_passes_did() -> None:
    told = figures(record((4000, 4500), end=9000.0), Course())
    assert told["downtime_ms"] is None and told["downtime_seen_ms"] is None
    assert told["impact"]["during"]["longest_gap_ms"] == pytest.approx(500, abs=100)
    assert told["impact"]["pause"]["sent"] == told["impact"]["after"]["sent"] == 0
    assert "until the run failed" in sentences(TCP, told, Course())[0]
