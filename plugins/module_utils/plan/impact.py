# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a move did to those who use the guest: gaps, latencies, lost answers, from what a probe saw.

A client knows of the guest only through answers, so all figures come from the moments at which answers arrived.

- The distance between two answers in a row is normally one interval. What is above it is time in which nobody was
  served: a *gap* is distance minus interval. For a stand-still of D it is D, plus or minus one interval.
- Lost work: what the guest answered before tells what it would have answered; what it did answer is taken from it.
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.probe import AFTER, BEFORE, DURING, Probe, Record, Shot
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.concerns import concern

WINDOWS = (BEFORE, DURING, AFTER)
# A gap is told when it is longer than this many intervals and than any before the move.
NOTABLE_INTERVALS = 2
# Longer without an answer than the guest stood still, by this much: more than a busy host or client is late.
LATE_MS = 1000
MOST_GAPS = 10


class Gap(NamedTuple):
    """Nobody was served for `ms`, from the answer at `from_ms` on, beside the interval that is always there."""

    from_ms: float
    ms: float


def percentile(values: Sequence[float], share: float) -> Optional[float]:
    """The nearest-rank percentile: the smallest value that at least `share` (0 to 1) of all do not exceed."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def window_of(at_ms: float, end_ms: float) -> str:
    """before, during or after a move from 0 to end_ms."""
    if at_ms < 0:
        return BEFORE
    return DURING if at_ms <= end_ms else AFTER


def gaps(record: Record) -> Tuple[Gap, ...]:
    """Every gap, in order. The last may be open: from the last answer to the last request, when none came any more."""
    answers = sorted(shot.answered_at_ms for shot in record.shots if shot.answered_at_ms is not None)
    found = [Gap(one, other - one - record.interval_ms) for one, other in zip(answers, answers[1:])]
    if answers and record.shots:
        found.append(Gap(answers[-1], max(shot.at_ms for shot in record.shots) - answers[-1] - record.interval_ms))
    return tuple(gap for gap in found if gap.ms > 0)


def gap_window(gap: Gap, record: Record) -> str:
    """A gap that reaches into the move belongs to it."""
    if gap.from_ms + gap.ms + record.interval_ms <= 0:
        return BEFORE
    return DURING if gap.from_ms <= record.end_ms else AFTER


def impact(record: Record) -> Dict[str, Any]:
    """{before, during, after: {sent, received, lost, p50_ms, p95_ms, p99_ms, max_ms, longest_gap_ms}, gaps, lost_work, lost}."""
    by_window: Dict[str, List[Shot]] = {window: [] for window in WINDOWS}
    for shot in record.shots:
        by_window[window_of(shot.at_ms, record.end_ms)].append(shot)
    every = gaps(record)
    told: Dict[str, Any] = {}
    for window in WINDOWS:
        told[window] = counts(by_window[window])
        told[window]["longest_gap_ms"] = longest([gap for gap in every if gap_window(gap, record) == window])
    since = [(gap, gap_window(gap, record)) for gap in every]
    told["gaps"] = notable([pair for pair in since if pair[1] != BEFORE], record, told[BEFORE]["longest_gap_ms"])
    told["lost"] = sum(told[window]["lost"] for window in (DURING, AFTER))
    told["lost_work"] = lost_work(told[BEFORE], told[DURING])
    return told


def counts(shots: Sequence[Shot]) -> Dict[str, Any]:
    """{sent, received, lost, p50_ms, p95_ms, p99_ms, max_ms} of these requests."""
    took = [shot.took_ms for shot in shots if shot.took_ms is not None]
    return {
        "sent": len(shots),
        "received": len(took),
        "lost": len(shots) - len(took),
        "p50_ms": _rounded(percentile(took, 0.50)),
        "p95_ms": _rounded(percentile(took, 0.95)),
        "p99_ms": _rounded(percentile(took, 0.99)),
        "max_ms": _rounded(percentile(took, 1.0)),
    }


def _rounded(value: Optional[float]) -> Optional[float]:
    return None if value is None else round(value, 2)


def longest(found: Sequence[Gap]) -> int:
    """ms; 0 when there is none."""
    return round(max((gap.ms for gap in found), default=0.0))


def notable(since: Sequence[Tuple[Gap, str]], record: Record, usual_ms: int) -> List[Dict[str, Any]]:
    """The longest gaps since the beginning, each with its window, those that were usual before left out; in order of time."""
    least = max(NOTABLE_INTERVALS * record.interval_ms, usual_ms)
    chosen = [pair for pair in since if pair[0].ms > least]
    chosen = sorted(sorted(chosen, key=lambda pair: -pair[0].ms)[:MOST_GAPS])
    return [{"at_ms": int(gap.from_ms), "ms": round(gap.ms), "window": window} for gap, window in chosen]


def lost_work(before: Mapping[str, Any], during: Mapping[str, Any]) -> Optional[float]:
    """Answers that did not come during the move, though as many as before would have: never below 0. None: unknown."""
    if not before["received"]:
        return None
    missing: float = during["sent"] * before["received"] / before["sent"] - during["received"]
    return round(max(missing, 0.0), 1)


def downtime_seen_ms(record: Record) -> Optional[int]:
    """The longest gap since the move began. None when the guest did not answer before it."""
    if not answered_before(record):
        return None
    return longest([gap for gap in gaps(record) if gap_window(gap, record) != BEFORE])


def late_ms(record: Record, downtime_ms: int) -> int:
    """By how much the gap at the switch-over was longer than the guest stood still. 0 when there was none.

    It begins before the call returned that moved the guest, and ends after it: the guest ran on the destination by then.
    """
    over = [
        gap.ms
        for gap in gaps(record)
        if gap_window(gap, record) == DURING and gap.from_ms + gap.ms + record.interval_ms > record.end_ms
    ]
    return max(round(max(over, default=0.0) - downtime_ms), 0)


def answered_before(record: Record) -> bool:
    return any(shot.at_ms < 0 and shot.took_ms is not None for shot in record.shots)


def answered_after(record: Record) -> bool:
    return any(shot.at_ms > record.end_ms and shot.took_ms is not None for shot in record.shots)


def figures(record: Optional[Record]) -> Dict[str, Any]:
    """What the probe adds to the metrics: downtime_seen_ms and impact. Null where nothing can be said."""
    if record is None or not answered_before(record):
        return {"downtime_seen_ms": None, "impact": None}
    return {"downtime_seen_ms": downtime_seen_ms(record), "impact": impact(record)}


def concerns(probe: Probe, record: Record, name: str, downtime_ms: Optional[int] = None) -> Tuple[Concern, ...]:
    """What the user has to know about the figures. downtime_ms: how long the guest stood still, where nothing else held it up."""
    why = " (%s)" % record.why_lost if record.why_lost else ""
    if not answered_before(record):
        detail = "%s did not answer the probe (%s) before the move%s; what it saw of the move says nothing" % (
            name,
            probe.words,
            why,
        )
        return (concern("probe-silent", detail),)
    if not answered_after(record):
        detail = "%s did not answer the probe (%s) for %.1f s after the move%s" % (
            name,
            probe.words,
            probe.after_s,
            why,
        )
        return (concern("probe-silent-after", detail),)
    late = late_ms(record, downtime_ms) if downtime_ms is not None else 0
    if late >= LATE_MS:
        detail = (
            "%s stood still for %d ms and ran on its new host then, but answered the probe (%s) only %.1f s later"
            % (
                name,
                downtime_ms or 0,
                probe.words,
                late / 1000.0,
            )
        )
        return (concern("probe-gap", detail),)
    return ()


def beside(samples: Sequence[Mapping[str, Any]], record: Optional[Record]) -> List[Dict[str, Any]]:
    """The job's samples (dictionaries with at_ms), each with what the probe saw since the one before.

    The windows before and after the move are added as samples of those phases, of at most a quarter second each.
    """
    if record is None:
        return [dict(sample) for sample in samples]
    shots = sorted(record.shots, key=lambda shot: shot.at_ms)
    rows: List[Dict[str, Any]] = _window_rows(BEFORE, shots[0].at_ms if shots else 0.0, 0.0)
    rows += [dict(sample) for sample in samples if sample["at_ms"] <= record.end_ms]
    rows += _window_rows(AFTER, record.end_ms, shots[-1].at_ms if shots else record.end_ms)
    left = list(shots)
    for number, row in enumerate(rows):
        last = number + 1 == len(rows)
        mine = [shot for shot in left if last or shot.at_ms <= row["at_ms"]]
        left = left[len(mine) :]
        seen = counts(mine)
        row.update(
            probe_sent=seen["sent"], probe_lost=seen["lost"], probe_p50_ms=seen["p50_ms"], probe_max_ms=seen["max_ms"]
        )
    return rows


def _window_rows(phase: str, begin_ms: float, end_ms: float, step_ms: float = 250.0) -> List[Dict[str, Any]]:
    """At most 40 rows that cover begin to end, each named by the moment at which it ends."""
    count = min(max(math.ceil((end_ms - begin_ms) / step_ms), 1), 40)
    length = (end_ms - begin_ms) / count
    return [{"at_ms": round(begin_ms + length * (row + 1)), "phase": phase} for row in range(count)]
