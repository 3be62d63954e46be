# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is known of a running live move: rates, what remained at each sync, how far along its schedule it is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Sample
from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import Schedule
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.policies import ramp
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.rates import Rates

# Of the best that is older than the window (KubeVirt's stall detector).
STALLED = 0.96
# What the sockets of one connection hold when the guest stops, and has to go over too. Measured at 100 Mbit/s.
BUFFERED_MIB = 1.7
MOST_MARKS = 256


@dataclass(frozen=True)
class Mark:
    """What remained, in MiB, at a sync, and what had been sent until then."""

    sent_mib: float
    remaining_mib: float


@dataclass(frozen=True)
class Course:
    """A move so far. dirty_mib_s: measured before it. postcopy: it was consented to, and libvirt told.

    rung: on the ramp; allowed_ms: what QEMU was allowed last. turn: in at_stall; waited: stalls in that turn; since_mib:
    sent when it began. ended: pause, postcopy or abort, once done. shared: the bandwidth was set to its share. buffered_mib:
    on its way in sockets, which QEMU does not count. written_packs_by: how many times smaller compression makes what the guest
    writes; None when nothing is compressed, or that is not known.
    """

    schedule: Schedule
    dirty_mib_s: Optional[float] = None
    postcopy: bool = False
    rates: Rates = field(default_factory=Rates)
    last: Optional[Sample] = None
    marks: Tuple[Mark, ...] = ()
    grown_at_ms: int = 0
    rung: int = 0
    allowed_ms: int = 0
    turn: int = 0
    waited: int = 0
    since_mib: float = 0.0
    ended: Optional[str] = None
    shared: bool = False
    buffered_mib: float = 0.0
    written_packs_by: Optional[float] = None

    def ending(self, how: str) -> Course:
        """The same, ended from outside."""
        return replace(self, ended=how)

    @property
    def best_mib(self) -> float:
        return min(mark.remaining_mib for mark in self.marks)

    @property
    def remaining_mib(self) -> float:
        return self.marks[-1].remaining_mib

    @property
    def again_mib_s(self) -> Optional[float]:
        """Memory the guest has written to, sent per second. In the first round mostly other memory goes, which may compress
        better; from then on it is seen."""
        wire = self.rates.wire_mib_s
        if self.written_packs_by is None or wire is None or len(self.marks) > 2:
            return self.rates.pages_mib_s
        return wire * self.written_packs_by

    @property
    def compression(self) -> float:
        """How many MiB of that memory one MiB on the wire holds; at least 1."""
        return max(1.0, (self.again_mib_s or 0.0) / (self.rates.wire_mib_s or 1.0))

    @property
    def stop_ms(self) -> Optional[float]:
        """How long the guest would stand still if it were stopped at this sync (F5), as QEMU expects it."""
        rate = self.again_mib_s
        return self.remaining_mib / rate * 1000 if rate else None

    @property
    def buffered_ms(self) -> float:
        """How much longer it really would."""
        rate = self.rates.wire_mib_s
        return self.buffered_mib / rate * 1000 if rate else 0.0


def begin(
    schedule: Schedule,
    dirty_mib_s: Optional[float] = None,
    postcopy: bool = False,
    limited: bool = False,
    throttled: bool = False,
    connections: int = 0,
    written_packs_by: Optional[float] = None,
) -> Course:
    """Before the start. limited: the bandwidth is set already, so that its share need not be measured.

    throttled: QEMU slows the guest down bit by bit; without that waiting brings little, and a quarter of the patience will do.
    """
    patience = schedule.patience if throttled else (schedule.patience + 3) // 4
    return Course(
        replace(schedule, patience=patience),
        dirty_mib_s,
        postcopy,
        allowed_ms=ramp(schedule)[0],
        shared=limited,
        buffered_mib=BUFFERED_MIB * connections,
        written_packs_by=written_packs_by,
    )


def is_synced(last: Optional[Sample], sample: Sample) -> bool:
    """QEMU has looked for written pages since the last sample."""
    if sample.phase != "memory":
        return False
    if last is None or last.phase != "memory":
        return True
    return sample.iteration > last.iteration or sample.memory_remaining_mib > last.memory_remaining_mib


def look(course: Course, sample: Sample, synced: bool) -> Course:
    last, marks = course.last, course.marks
    if synced:
        marks = _kept(marks) + (_mark(course, sample),)
    return replace(
        course,
        rates=course.rates.with_sample(sample),
        last=sample,
        marks=marks,
        grown_at_ms=sample.at_ms if last is None or _sent(sample) != _sent(last) else course.grown_at_ms,
    )


def _mark(course: Course, sample: Sample) -> Mark:
    """At the sync, which was some time before the sample: what was sent since then is counted back.

    Up to the sync QEMU sent what it knew of, but for what it is allowed to leave for the stop. What the first round left is
    other memory than the guest writes to, so it says nothing of the rounds to come, and is not counted.
    """
    last = course.last
    if last is None or last.phase != "memory":
        return Mark(sample.sent_mib, sample.memory_remaining_mib)
    sent = sample.sent_mib - last.sent_mib
    if sample.iteration - last.iteration > 1:
        # Rounds are shorter than the time between two samples, which show any moment of one: what was sent went in so many.
        rounds = sample.iteration - last.iteration + 1
        return Mark(sample.sent_mib, max(sample.memory_remaining_mib, sent / rounds))
    left = min(last.memory_remaining_mib, (course.rates.wire_mib_s or 0.0) * course.allowed_ms / 1000.0)
    since = max(0.0, sample.passed_mib - last.passed_mib - (last.memory_remaining_mib - left))
    other = left if len(course.marks) == 1 else 0.0
    return Mark(sample.sent_mib - min(sent, since), max(0.0, sample.memory_remaining_mib + since - other))


def _sent(sample: Sample) -> Tuple[float, float]:
    return sample.memory_processed_mib, sample.disk_processed_mib


def _kept(marks: Tuple[Mark, ...]) -> Tuple[Mark, ...]:
    """Of many old ones only the best counts."""
    if len(marks) < MOST_MARKS:
        return marks
    half = MOST_MARKS // 2
    return (min(marks[:half], key=lambda mark: mark.remaining_mib),) + marks[half:]


def is_stalled(course: Course) -> bool:
    """What remains did not get below 96 % of the best that is older than the window."""
    window = course.schedule.stall_window * course.best_mib
    before, last = course.marks[:-1], course.marks[-1]
    opens = last.sent_mib - window
    if course.since_mib > opens:
        return False
    old = [mark.remaining_mib for mark in before if mark.sent_mib <= opens]
    new = [mark.remaining_mib for mark in before if mark.sent_mib > opens] + [last.remaining_mib]
    return bool(old) and min(new) > STALLED * min(old)


def is_hopeless(course: Course) -> bool:
    """The guest writes at least as fast as memory is sent: no number of further rounds helps (F3 needs d < R)."""
    rate = course.again_mib_s if course.rates.is_settled else None
    return rate is not None and course.dirty_mib_s is not None and course.dirty_mib_s >= rate
