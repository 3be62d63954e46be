# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steering, sample by sample: when something is done, and when not."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, Iterable, List, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Sample
from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import Act
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.course import Course, begin
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.policies import POLICIES, ramp
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.steering import steer

MUST, BALANCED = POLICIES["must_finish"], POLICIES["balanced"]
PLAIN = replace(BALANCED, downtime_steps=1, stall_window=1.0, patience=4, at_stall=("extend", "pause", "abort"))


def moment(seconds: float, sent: float, remaining: float, iteration: int, **more: Any) -> Sample:
    return Sample(int(seconds * 1000), "memory", sent, remaining, iteration=iteration, **more)


def fly(course: Course, samples: Iterable[Sample]) -> Tuple[Course, List[Act]]:
    acts: List[Act] = []
    for sample in samples:
        course, new = steer(course, sample)
        acts += new
    return course, acts


PARTS = [part / 40 for part in range(41)]


def rounds(remaining: List[float], first: float = 100.0, rate: float = 10.0) -> List[Sample]:
    """A move at `rate` MiB/s: the first round sends `first`, then each what remained at its sync; forty samples a round, the
    last of which shows all of it sent."""
    samples: List[Sample] = []
    sent, at = 0.0, 0.0
    for number, size in enumerate([first, *remaining], 1):
        samples += [moment(at + size / rate * part, sent + size * part, size * (1 - part), number) for part in PARTS]
        sent, at = sent + size, at + size / rate
    return samples


def whats(acts: List[Act]) -> List[Tuple[str, Optional[int]]]:
    return [(act.what, act.value) for act in acts]


def test_a_move_that_halves_each_round_is_left_alone() -> None:
    _course, acts = fly(begin(BALANCED), rounds([50, 25, 12, 6, 3, 1]))
    assert acts == []


def test_the_ramp_goes_up_one_small_step_a_round() -> None:
    _course, acts = fly(begin(BALANCED), rounds([60, 35, 22]))
    steps = ramp(BALANCED)
    assert whats(acts) == [("downtime", steps[1]), ("downtime", steps[2]), ("downtime", steps[3])]
    assert all(later / earlier < 1.5 for earlier, later in itertools.pairwise(steps))


def test_no_stall_before_the_window_is_over() -> None:
    """The window is what remains, sent so many times more; a sync within it proves nothing."""
    twice = replace(PLAIN, stall_window=2.0)
    _course, acts = fly(begin(twice), rounds([10, 10]))
    assert acts == []
    _course, acts = fly(begin(twice), rounds([10, 10, 10]))
    assert [act.what for act in acts] == ["extend"]


def test_less_by_more_than_four_percent_is_no_stall() -> None:
    _course, acts = fly(begin(PLAIN), rounds([10, 9.5, 9.0, 8.5, 8.1]))
    assert acts == []
    _course, acts = fly(begin(PLAIN), rounds([10, 9.8]))
    assert [act.what for act in acts] == ["extend"]


def marks_of(samples: Iterable[Sample]) -> List[Tuple[float, float]]:
    course, _acts = fly(begin(replace(PLAIN, downtime_top_ms=50)), samples)
    return [(round(mark.sent_mib, 1), round(mark.remaining_mib, 1)) for mark in course.marks]


FIRST = [moment(at / 4, at * 2.5, 100 - at * 2.5, 1) for at in range(39)]


def test_a_look_that_comes_late_is_counted_back_to_the_sync() -> None:
    """2.5 MiB go between two looks. QEMU, allowed 50 ms, looks for written pages when 0.5 MiB are left."""
    late = [moment(9.75, 97.5, 2.5, 1), moment(10.0, 100, 29.5 + 0.5, 2)]
    assert marks_of([*FIRST, *late])[1:] == [(99.5, 30.0)]
    later = [*late, moment(12.75, 127.5, 2.5, 2), moment(13.0, 130, 29.5, 3)]
    assert marks_of([*FIRST, *later])[1:] == [(99.5, 30.0), (129.5, 30.0)]


def test_empty_pages_that_passed_meanwhile_are_counted_back_too() -> None:
    empty = [replace(sample, memory_remaining_mib=sample.memory_remaining_mib + 40) for sample in FIRST]
    late = [moment(9.75, 97.5, 42.5, 1), moment(10.0, 100, 29.5, 2, memory_empty_mib=40.0)]
    assert marks_of([*empty, *late])[1:] == [(99.5, 29.5)]


def test_rounds_shorter_than_two_looks_are_told_by_what_they_sent() -> None:
    short = [moment(9.75, 97.5, 2.5, 1), moment(10.0, 100, 0.2, 6)]
    assert marks_of([*FIRST, *short])[1:] == [(100, 0.4)]


def test_a_stop_that_fits_is_allowed_with_some_room() -> None:
    _course, acts = fly(begin(PLAIN), rounds([10, 10]))
    assert whats(acts) == [("extend", 1250)]
    assert "takes 1000 ms, and 2000 are allowed" in acts[0].why


def test_never_more_than_the_bound() -> None:
    _course, acts = fly(begin(PLAIN), rounds([19, 19]))
    assert whats(acts) == [("extend", 2000)]


def test_what_is_on_its_way_counts_for_the_stop() -> None:
    """1.7 MiB at 10 MiB/s: QEMU is allowed 170 ms less, and what fits by less than that does not fit."""
    _course, acts = fly(begin(PLAIN, connections=1), rounds([18, 18]))
    assert 1825 < (acts[0].value or 0) <= 1830 and ", and 2000 are allowed" in acts[0].why
    _course, acts = fly(begin(PLAIN, connections=1, throttled=True), rounds([19, 19]))
    assert acts == []


def test_a_stop_that_does_not_fit_is_waited_for_and_then_given_up() -> None:
    course, acts = fly(begin(PLAIN, throttled=True), rounds([40] * 8))
    assert [act.what for act in acts] == ["abort"] and course.ended == "abort"
    assert "a stop of 4000 ms would be needed, where 2000 are allowed" in acts[0].why


def test_it_waits_for_a_local_minimum() -> None:
    _course, acts = fly(begin(PLAIN, throttled=True), rounds([10, 14, 12]))
    assert acts == []
    _course, acts = fly(begin(PLAIN, throttled=True), rounds([10, 14, 12, 10.3]))
    assert [act.what for act in acts] == ["extend"]


def test_a_low_that_does_not_come_again_is_not_waited_for_in_vain() -> None:
    """The last of the patience goes to a stop that fits, not to giving up."""
    quarter = begin(PLAIN)
    assert quarter.schedule.patience == 1
    _course, acts = fly(quarter, rounds([10, 14]))
    assert [act.what for act in acts] == ["extend"] and "14.0 MiB remain (least so far: 10.0)" in acts[0].why
    _course, acts = fly(begin(replace(PLAIN, patience=3), throttled=True), rounds([10, 14, 14]))
    assert acts == []
    _course, acts = fly(begin(replace(PLAIN, patience=3), throttled=True), rounds([10, 14, 14, 14]))
    assert [act.what for act in acts] == ["extend"]
    _course, acts = fly(begin(PLAIN), rounds([10, 21, 21, 21]))
    assert "extend" not in [act.what for act in acts], "it would be longer than declared"


def test_an_estimate_needs_a_rate() -> None:
    _course, acts = fly(begin(PLAIN), [moment(0, 0, 10, 1), moment(1, 0, 10, 2), moment(2, 0, 10, 3)])
    assert acts == []


def test_after_a_longer_stop_did_not_help_the_guest_is_paused() -> None:
    course, acts = fly(begin(PLAIN), rounds([10, 10, 10, 10]))
    assert [act.what for act in acts] == ["extend", "pause"] and course.ended == "pause"
    _course, more = fly(course, rounds([10] * 9)[200:])
    assert more == [], "one pause is enough"


def test_what_cannot_converge_is_not_waited_for() -> None:
    """The guest was seen to write faster than the link carries: the longer stop is allowed at the first sync."""
    _course, acts = fly(begin(PLAIN, dirty_mib_s=12), rounds([10]))
    assert whats(acts) == [("extend", 1250)] and "12.0 MiB/s written" in acts[0].why
    _course, acts = fly(begin(PLAIN, dirty_mib_s=6), rounds([10]))
    assert acts == []


def packed(samples: List[Sample], times: float) -> List[Sample]:
    """The same, but the first round sends `times` as much memory over the same wire."""
    first = max(sample.memory_processed_mib for sample in samples if sample.iteration == 1)
    return [
        replace(sample, memory_normal_mib=at * times if at <= first else first * times + at - first)
        for sample in samples
        for at in [sample.memory_processed_mib + 1e-6]
    ]


def test_what_is_written_is_judged_by_how_it_compresses_not_by_the_rest() -> None:
    """Three MiB go for one in the first round, but what is written goes as it is: 12 MiB/s are more than the link's 10."""
    moved = packed(rounds([10]), 3)
    _course, acts = fly(begin(PLAIN, dirty_mib_s=12, written_packs_by=1.0), moved)
    assert whats(acts) == [("extend", 1250)] and "sending what remains takes 1000 ms" in acts[0].why
    _course, acts = fly(begin(PLAIN, dirty_mib_s=12), moved)
    assert acts == []
    _course, acts = fly(begin(PLAIN, dirty_mib_s=12, written_packs_by=2.0), moved)
    assert acts == []
    _course, acts = fly(begin(PLAIN, dirty_mib_s=12, written_packs_by=1.0), packed(rounds([21]), 3))
    assert acts == [], "2100 ms would be needed, and 2000 are declared"


def test_post_copy_only_by_consent() -> None:
    schedule = replace(PLAIN, at_stall=("postcopy",))
    course, acts = fly(begin(schedule, postcopy=True), rounds([40, 40]))
    assert [act.what for act in acts] == ["postcopy"]
    _course, more = fly(course, [moment(3600, 300, 40, 9), moment(7200, 300, 40, 9)])
    assert more == [], "what has switched over cannot be taken back"
    _course, acts = fly(begin(schedule), rounds([40] * 9))
    assert [act.what for act in acts] == ["abort"]


def test_nothing_sent_for_a_minute_is_given_up() -> None:
    start = rounds([])
    _course, acts = fly(begin(MUST), [*start, moment(70, 100, 0, 1)])
    assert acts == []
    _course, acts = fly(begin(MUST), [*start, moment(70.1, 100, 0, 1)])
    assert [act.what for act in acts] == ["abort"] and "nothing was sent for 60 s" in acts[0].why


def test_a_disk_that_is_copied_is_growth_too() -> None:
    copying = [Sample(int(at * 1000), "disk", disk_processed_mib=at, disk_remaining_mib=1) for at in range(0, 300, 50)]
    _course, acts = fly(begin(MUST), copying)
    assert acts == []


def test_a_paused_guest_on_a_dead_link_is_not_left_there() -> None:
    course = begin(MUST).ending("pause")
    _course, acts = fly(course, [moment(0, 10, 5, 2), moment(61, 10, 5, 2)])
    assert [act.what for act in acts] == ["abort"]


def test_the_share_of_the_link_is_taken_once_it_is_measured() -> None:
    _course, acts = fly(begin(POLICIES["least_impact"]), rounds([]))
    assert whats(acts) == [("bandwidth", 5)]
    _course, acts = fly(begin(POLICIES["least_impact"], limited=True), rounds([]))
    assert acts == []


def test_compression_is_counted_in_what_qemu_is_allowed() -> None:
    """It divides pages by what goes over the wire, so it expects three times the stop."""
    wire = [replace(sample, memory_processed_mib=sample.memory_processed_mib / 3 + 1e-6) for sample in rounds([10, 10])]
    pages = [
        replace(sample, memory_normal_mib=plain.memory_processed_mib + 1e-6)
        for sample, plain in zip(wire, rounds([10, 10]), strict=True)
    ]
    _course, acts = fly(begin(PLAIN), pages)
    assert [act.what for act in acts] == ["extend"] and 3700 <= (acts[0].value or 0) <= 3751


def test_long_moves_do_not_gather_marks() -> None:
    course, _acts = fly(begin(replace(MUST, at_stall=())), rounds([100 * 0.99**n for n in range(900)]))
    assert len(course.marks) <= 300


def test_every_act_says_when_and_why() -> None:
    _course, acts = fly(begin(MUST, dirty_mib_s=30), rounds([10, 10, 10]))
    assert acts and all(act.why and act.at_ms > 0 for act in acts)
