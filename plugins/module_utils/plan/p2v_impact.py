# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What making images of a machine, and leaving it for its guest, did to those who use it, from what a probe saw.

Windows: `before` the copy; `during` its passes; `pause`, from the freeze until the machine, or its guest, serves; `after`.
Gaps and percentiles are those of plan/impact.py. Times are ms since the copy began.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_course import COMMAND, NOBODY, Course
from ansible_collections.kvmops.fleet.plugins.module_utils.model.probe import AFTER, BEFORE, DURING, Probe, Record, Shot
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.impact import (
    Gap,
    answered_before,
    counts,
    gaps,
    longest,
    lost_work,
    notable,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_concerns import concern

PAUSE = "pause"
WINDOWS = (BEFORE, DURING, PAUSE, AFTER)
NOTHING: Dict[str, Any] = {"downtime_ms": None, "downtime_seen_ms": None, "impact": None}


def handed_over(record: Record, course: Course) -> Optional[Tuple[float, float]]:
    """(last answer of the machine, first answer of its guest); None when the guest gave none, or none was to.

    The machine is known to be off at course.off, so later answers are the guest's. One that a command started before that
    may answer earlier: nothing in an answer tells who gave it, so the longest silence since the freeze is taken.
    """
    answers = sorted(shot.answered_at_ms for shot in record.shots if shot.answered_at_ms is not None)
    if course.off is None or course.successor == NOBODY or not answers or answers[-1] <= course.off:
        return None
    pairs = list(zip(answers, answers[1:]))
    if course.successor == COMMAND:
        since = [pair for pair in pairs if pair[1] > (course.frozen or 0.0)]
        return max(since, key=lambda pair: pair[1] - pair[0], default=None)
    return next((pair for pair in pairs if pair[1] > course.off), None)


def pause_end_ms(record: Record, course: Course) -> Optional[float]:
    """When somebody served again; where nobody was to, when the machine was off. None: it has not ended."""
    if course.thawed is not None:
        return course.thawed
    if course.successor == NOBODY:
        return course.off
    pair = handed_over(record, course)
    return pair[1] if pair else None


def trimmed(record: Record, course: Course, after_s: float) -> Record:
    """Without what was asked later than after_s behind the pause: a boot test may follow that takes minutes."""
    end = pause_end_ms(record, course)
    if end is None:
        return record
    last = end + after_s * 1000.0
    return replace(record, end_ms=end, shots=tuple(shot for shot in record.shots if shot.at_ms <= last))


def figures(record: Optional[Record], course: Course, cut_short: bool = False) -> Dict[str, Any]:
    """downtime_ms, downtime_seen_ms and impact. Null where nothing can be said. cut_short: the prober ended before the run."""
    if record is None or not answered_before(record):
        return dict(NOTHING)
    pair = None if cut_short else handed_over(record, course)
    return {
        "downtime_ms": round(pair[1] - pair[0]) if pair else None,
        "downtime_seen_ms": None if cut_short else _downtime_seen_ms(record, course),
        "impact": impact(record, course),
    }


def _downtime_seen_ms(record: Record, course: Course) -> Optional[int]:
    """The longest gap that reaches into the pause. None when there was no pause, or nobody was to end it."""
    if course.frozen is None or (course.thawed is None and course.successor == NOBODY):
        return None
    end = pause_end_ms(record, course)
    return longest([gap for gap in gaps(record) if _gap_window(gap, record, course, end) == PAUSE])


def impact(record: Record, course: Course) -> Dict[str, Any]:
    """{before, during, pause, after: {sent, received, lost, p50_ms, p95_ms, p99_ms, max_ms, longest_gap_ms, lost_work}, gaps,
    lost_work, lost}. The last three are of all that was asked since the copy began."""
    end, every = pause_end_ms(record, course), gaps(record)
    by_window: Dict[str, List[Shot]] = {window: [] for window in WINDOWS}
    for shot in record.shots:
        by_window[_window_of(shot.at_ms, course, end)].append(shot)
    placed = [(gap, _gap_window(gap, record, course, end)) for gap in every]
    told: Dict[str, Any] = {}
    for window in WINDOWS:
        told[window] = counts(by_window[window])
        told[window]["longest_gap_ms"] = longest([gap for gap, where in placed if where == window])
        told[window]["lost_work"] = 0.0 if window == BEFORE else lost_work(told[BEFORE], told[window])
    told["gaps"] = notable([pair for pair in placed if pair[1] != BEFORE], record, told[BEFORE]["longest_gap_ms"])
    since = [told[window] for window in WINDOWS[1:]]
    told["lost"] = sum(each["lost"] for each in since)
    known = [each["lost_work"] for each in since if each["lost_work"] is not None]
    told["lost_work"] = round(sum(known), 1) if known else None
    return told


def _window_of(at_ms: float, course: Course, end: Optional[float]) -> str:
    if at_ms < 0:
        return BEFORE
    if course.frozen is None or at_ms < course.frozen:
        return DURING
    return PAUSE if end is None or at_ms <= end else AFTER


def _gap_window(gap: Gap, record: Record, course: Course, end: Optional[float]) -> str:
    """A gap that reaches into the pause belongs to it, else one that reaches into the passes to them."""
    until = gap.from_ms + gap.ms + record.interval_ms
    if until <= 0:
        return BEFORE
    if course.frozen is None or until <= course.frozen:
        return DURING
    return PAUSE if end is None or gap.from_ms <= end else AFTER


def concerns(probe: Probe, record: Record, course: Course, name: str, cut_short: bool) -> Tuple[Concern, ...]:
    """What is to be known of the figures. cut_short: the prober ended before the run did."""
    why = " (%s)" % record.why_lost if record.why_lost else ""
    if not answered_before(record):
        return (concern("p2v-probe-silent", "%s did not answer it (%s)%s" % (name, probe.words, why)),)
    if cut_short:
        return (concern("p2v-probe-failed", "the prober (%s) ended before the run did%s" % (probe.words, why)),)
    end = pause_end_ms(record, course)
    if course.thawed is None and course.successor == NOBODY:
        if course.off is None:
            return ()
        detail = "no guest was started in this run, so nobody knows for how long clients are without %s" % name
        return (concern("p2v-probe-no-guest", detail),)
    if end is None or not any(shot.at_ms > end and shot.took_ms is not None for shot in record.shots):
        who = name if course.thawed is not None else "the guest of %s" % name
        return (concern("p2v-probe-silent-after", "%s did not answer it (%s)%s" % (who, probe.words, why)),)
    return ()


def sentences(probe: Probe, told: Dict[str, Any], course: Course) -> List[str]:
    """For a person: what clients felt, and what was not measured. told: as figures() gives it."""
    seen = told["impact"]
    if seen is None:
        return ["What clients felt was not measured: see the concerns."]
    asked = sum(seen[window]["sent"] for window in WINDOWS[1:])
    lines = [_downtime_words(probe, told, course)]
    slow = ["%.1f ms %s" % (seen[w]["p99_ms"], words) for w, words in _SPOKEN if seen[w]["p99_ms"] is not None]
    latency = " 99 %% of the answers took up to %s." % ", ".join(slow) if slow else ""
    return [*lines, "Clients lost %d of %d requests.%s" % (seen["lost"], asked, latency)]


_SPOKEN = ((BEFORE, "before"), (DURING, "during the passes"), (PAUSE, "in the pause"), (AFTER, "after it"))


def _downtime_words(probe: Probe, told: Dict[str, Any], course: Course) -> str:
    who, taken, seen = probe.words, told["downtime_ms"], told["downtime_seen_ms"]
    if taken is not None:
        words = (
            "Clients were without an answer (%s) for %.2f s, from the last of the machine to the first of its guest."
        )
        return words % (who, taken / 1000.0)
    if course.thawed is None and course.off is None:
        return "Clients were watched (%s) until the run failed." % who
    if course.thawed is None and course.successor == NOBODY:
        return (
            "Clients were watched (%s) until the machine was off. How long they are without it was not measured: no guest "
            "was started in this run." % who
        )
    if seen is None:
        return "Clients were watched (%s), but not to the end: see the concerns." % who
    if course.thawed is not None:
        return "Around the freeze clients were without an answer (%s) for %.2f s at most." % (who, seen / 1000.0)
    return "The guest has not answered (%s): clients were without an answer for %.2f s at least." % (who, seen / 1000.0)
