# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Figures of a probe: guests whose pause is known, and what holds for every record."""

from __future__ import annotations

import math
from typing import List, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kvmops.fleet.plugins.module_utils.model.probe import Probe, Record, Shot
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.impact import (
    beside,
    concerns,
    downtime_seen_ms,
    figures,
    gaps,
    impact,
    percentile,
)

TCP = Probe("tcp", "10.0.0.5", 22)


def record(pause_at: float, pause: float, end: float, lost: bool, interval: int = 20, took: float = 2.0) -> Record:
    """Asked from 2 s before the move to 2 s after it, of a guest that stands still once; its requests are lost, or wait."""
    shots: List[Shot] = []
    for number in range(int((end + 4000) / interval)):
        at = -2000.0 + number * interval
        if not pause_at <= at + took / 2 < pause_at + pause:
            shots.append(Shot(at, took))
        else:
            shots.append(Shot(at, None if lost else pause_at + pause - at + took / 2))
    return Record(interval, end, tuple(shots))


@pytest.mark.parametrize("lost", [True, False])
def test_a_known_pause(lost: bool) -> None:
    seen = figures(record(pause_at=3005, pause=500, end=3600, lost=lost))
    assert seen["downtime_seen_ms"] == pytest.approx(500, abs=20)
    told = seen["impact"]
    assert (told["before"]["sent"], told["before"]["lost"]) == (100, 0)
    assert told["during"]["lost"] == told["lost"] == told["lost_work"] == (25 if lost else 0)
    assert told["during"]["max_ms"] == (2.0 if lost else pytest.approx(500, abs=20))
    assert told["before"]["p99_ms"] == told["during"]["p50_ms"] == 2.0
    assert [gap["window"] for gap in told["gaps"]] == ["during"]


def test_no_pause_no_downtime() -> None:
    seen = figures(record(pause_at=0, pause=0, end=1000, lost=True))
    assert seen["downtime_seen_ms"] == 0 and seen["impact"]["gaps"] == [] and seen["impact"]["lost_work"] == 0


def test_a_guest_that_lost_answers_before_is_not_measured_by_what_it_never_did() -> None:
    plain = record(pause_at=0, pause=0, end=2000, lost=True)
    every_other = tuple(Shot(shot.at_ms, shot.took_ms if n % 2 else None) for n, shot in enumerate(plain.shots))
    told = impact(Record(20, 2000, every_other))
    assert told["lost"] > 90 and told["lost_work"] <= 1


def test_a_guest_that_never_comes_back_has_an_open_gap() -> None:
    seen = record(pause_at=500, pause=1e9, end=1000, lost=True)
    assert downtime_seen_ms(seen) == pytest.approx(2500 - 20, abs=40), "from the last answer to the last request"
    assert [concern.id for concern in concerns(TCP, seen, "web1")] == ["probe-silent-after"]


def test_a_gap_that_outlasts_the_move_is_told() -> None:
    late = record(pause_at=900, pause=1500, end=1100, lost=True)
    assert concerns(TCP, late, "web1") == (), "how long it stood still is not known"
    (concern,) = concerns(TCP, late, "web1", 100)
    assert (concern.id, concern.level) == ("probe-gap", "warning")
    assert "stood still for 100 ms" in concern.detail and "only 1.4 s later" in concern.detail
    assert "RARP" in concern.remedy


@pytest.mark.parametrize(
    ("pause_at", "pause", "end", "downtime"),
    [
        (900, 1500, 2500, 1490),  # it stood still for all of it
        (900, 1500, 2600, 100),  # over before the move was: something slowed the guest down
        (3000, 1500, 1000, 100),  # began after the move
        (900, 900, 1100, 100),  # as late as a busy client is
    ],
)
def test_other_gaps_are_not(pause_at: int, pause: int, end: int, downtime: int) -> None:
    assert concerns(TCP, record(pause_at, pause, end, lost=True), "web1", downtime) == ()


def test_a_silent_guest_is_a_concern_and_no_number() -> None:
    for shots in ((), (Shot(-10.0), Shot(10.0, 1.0))):
        seen = Record(20, 1000.0, shots, "Connection refused")
        assert figures(seen) == {"downtime_seen_ms": None, "impact": None}
        (concern,) = concerns(TCP, seen, "web1")
        assert (concern.id, concern.level) == ("probe-silent", "warning")
        assert "tcp to 10.0.0.5:22" in concern.detail and "Connection refused" in concern.detail


def test_no_probe_no_number() -> None:
    assert figures(None) == {"downtime_seen_ms": None, "impact": None}
    assert beside([{"at_ms": 5}], None) == [{"at_ms": 5}]


def test_the_time_line_holds_every_request_once() -> None:
    seen = record(pause_at=3005, pause=500, end=3600, lost=True)
    rows = beside([{"at_ms": at, "phase": "memory"} for at in range(250, 3600, 250)], seen)
    assert [row["at_ms"] for row in rows] == sorted(row["at_ms"] for row in rows)
    assert sum(row["probe_sent"] for row in rows) == len(seen.shots)
    assert sum(row["probe_lost"] for row in rows) == 25
    assert {row["phase"] for row in rows} == {"before", "memory", "after"}
    assert rows[0]["at_ms"] == -1750


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, None), ([3], 0.99, 3), ([1, 2, 3, 4], 0.5, 2), (range(1, 101), 0.95, 95), (range(1, 101), 1.0, 100)],
)
def test_percentile_is_the_nearest_rank(values: List[float], share: float, expected: Optional[float]) -> None:
    assert percentile(values, share) == expected


@given(
    pause=st.integers(0, 3000),
    pause_at=st.integers(100, 2000),
    interval=st.integers(5, 200),
    took=st.floats(0.1, 4.0),
    lost=st.booleans(),
)
def test_the_downtime_seen_is_within_one_interval(
    pause: int, pause_at: int, interval: int, took: float, lost: bool
) -> None:
    seen = downtime_seen_ms(record(pause_at, pause, pause_at + pause + 200, lost, interval, took))
    assert seen is not None and abs(seen - pause) <= interval + took + 1


@given(
    st.lists(st.tuples(st.floats(-5000, 20000), st.one_of(st.none(), st.floats(0.01, 5000))), max_size=80),
    st.floats(0, 15000),
    st.integers(5, 500),
)
def test_what_holds_for_every_record(raw: List, end: float, interval: int) -> None:
    seen = Record(interval, end, tuple(Shot(at, took) for at, took in sorted(raw, key=lambda one: one[0])))
    told = impact(seen)
    windows = [told[window] for window in ("before", "during", "after")]
    assert sum(window["sent"] for window in windows) == len(raw)
    for window in windows:
        assert window["received"] + window["lost"] == window["sent"]
        order = [window[key] for key in ("p50_ms", "p95_ms", "p99_ms", "max_ms")]
        assert order == [None] * 4 if not window["received"] else order == sorted(order)
    assert all(gap.ms > 0 and math.isfinite(gap.ms) for gap in gaps(seen))
    assert told["lost_work"] is None or 0 <= told["lost_work"] <= told["during"]["sent"]
    assert len(told["gaps"]) <= 10
    rows = beside([{"at_ms": int(end * part / 7)} for part in range(1, 7)], seen)
    assert sum(row["probe_sent"] for row in rows) == len(raw) and all(row["probe_sent"] >= 0 for row in rows)
