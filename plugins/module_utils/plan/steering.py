# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steer a live move by its schedule: what was seen so far + one more sample -> what to do.

Time plays no part in it but for one bound: nothing sent for STILL_MS. Progress is measured in what was sent, so that a
slow link and a fast one are judged alike, and every schedule comes to an end after a bounded amount of data.

What remains is judged where QEMU has just looked for written pages (a sync): between two of them it only knows what it
sent, not what the guest wrote meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Sample
from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import (
    ABORT,
    BANDWIDTH,
    DOWNTIME,
    EXTEND,
    PAUSE,
    POSTCOPY,
    Act,
    Schedule,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.policies import ramp
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.rates import Rates

# Figures of KubeVirt's stall detector: stalled above 96 % of the best, a local minimum within 4 % of it.
STALLED, NEAR = 0.96, 1.04
# A round that does not halve what remains earns the next step of the ramp.
HALVED = 0.5
# QEMU's view of the rate differs from moment to moment; what it is allowed has to cover that.
MARGIN = 1.25
# Longer than libvirt's keepalive (30 s), which knows better what is wrong.
STILL_MS = 60 * 1000
MOST_MARKS = 256
# What the sockets of one connection hold when the guest stops, and has to go over too. Measured at 100 Mbit/s.
BUFFERED_MIB = 1.7


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
    on its way in sockets, which QEMU does not count.
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
    def stop_ms(self) -> Optional[float]:
        """How long the guest would stand still if it were stopped at this sync (F5), as QEMU expects it."""
        rate = self.rates.pages_mib_s
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
    )


def steer(course: Course, sample: Sample) -> Tuple[Course, Tuple[Act, ...]]:
    """Look at one more sample. Gives the course from here, and what to do now."""
    synced = _is_synced(course.last, sample)
    course = _look(course, sample, synced)
    if course.ended in (ABORT, POSTCOPY):
        return course, ()  # what is done cannot be undone
    if sample.at_ms - course.grown_at_ms > STILL_MS:
        why = "nothing was sent for %d s; the link or the destination does not answer" % (STILL_MS // 1000)
        return replace(course, ended=ABORT), (Act(ABORT, why, at_ms=sample.at_ms),)
    if course.ended is not None or not course.marks:
        return course, ()
    course, acts = _share(course, sample)
    if synced and len(course.marks) > 1 and course.stop_ms is not None:
        course, more = _at_sync(course)
        acts = acts + more
    return course, tuple(replace(act, at_ms=sample.at_ms) for act in acts)


def _is_synced(last: Optional[Sample], sample: Sample) -> bool:
    """QEMU has looked for written pages since the last sample."""
    if sample.phase != "memory":
        return False
    if last is None or last.phase != "memory":
        return True
    return sample.iteration > last.iteration or sample.memory_remaining_mib > last.memory_remaining_mib


def _look(course: Course, sample: Sample, synced: bool) -> Course:
    last, marks = course.last, course.marks
    if synced:
        marks = _kept(marks) + (Mark(sample.sent_mib, _remained(last, sample)),)
    return replace(
        course,
        rates=course.rates.with_sample(sample),
        last=sample,
        marks=marks,
        grown_at_ms=sample.at_ms if last is None or _sent(sample) != _sent(last) else course.grown_at_ms,
    )


def _remained(last: Optional[Sample], sample: Sample) -> float:
    """At the sync. When rounds are shorter than the time between two samples, the sample shows any moment of one.

    What was sent since the last sample was sent in so many rounds; that is what one of them had to send.
    """
    if last is None or last.phase != "memory":
        return sample.memory_remaining_mib
    rounds = max(1, sample.iteration - last.iteration) + 1
    return max(sample.memory_remaining_mib, (sample.sent_mib - last.sent_mib) / rounds)


def _sent(sample: Sample) -> Tuple[float, float]:
    return sample.memory_processed_mib, sample.disk_processed_mib


def _kept(marks: Tuple[Mark, ...]) -> Tuple[Mark, ...]:
    """Of many old ones only the best counts."""
    if len(marks) < MOST_MARKS:
        return marks
    half = MOST_MARKS // 2
    return (min(marks[:half], key=lambda mark: mark.remaining_mib),) + marks[half:]


def _share(course: Course, sample: Sample) -> Tuple[Course, Tuple[Act, ...]]:
    """Once the link's rate is measured, take no more of it than the schedule's share."""
    share, rate = course.schedule.bandwidth_share_percent, course.rates.settled_wire_mib_s
    if course.shared or share == 100 or rate is None:
        return course, ()
    value = max(1, int(rate * share / 100))
    why = "%d %% of the link, which was measured as %.1f MiB/s" % (share, rate)
    return replace(course, shared=True), (Act(BANDWIDTH, why, value),)


def _at_sync(course: Course) -> Tuple[Course, Tuple[Act, ...]]:
    course, climbed = _climb(course)
    course, acts = _at_stall(course)
    return course, acts or climbed


def _climb(course: Course) -> Tuple[Course, Tuple[Act, ...]]:
    """The next step of the ramp, after a round that brought little."""
    steps, before = ramp(course.schedule), course.marks[-2].remaining_mib
    if course.rung == len(steps) - 1 or course.remaining_mib <= HALVED * before:
        return course, ()
    course = replace(course, rung=course.rung + 1)
    if steps[course.rung] <= course.allowed_ms:
        return course, ()
    why = "%.1f MiB remain, after %.1f MiB at the round before" % (course.remaining_mib, before)
    return replace(course, allowed_ms=steps[course.rung]), (Act(DOWNTIME, why, steps[course.rung]),)


def _will_the_ramp_do(course: Course) -> bool:
    """Its next steps allow the stop that is needed."""
    steps = ramp(course.schedule)
    return course.rung < len(steps) - 1 and (course.stop_ms or 0.0) <= steps[-1]


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
    rate = course.rates.settled_pages_mib_s
    return rate is not None and course.dirty_mib_s is not None and course.dirty_mib_s >= rate


def _at_stall(course: Course) -> Tuple[Course, Tuple[Act, ...]]:
    """One turn of at_stall, or none."""
    course = _without_postcopy(course)
    action = _action(course)
    stalled = is_stalled(course)
    if not stalled and not _may_act_early(course, action):
        return course, ()
    if action != EXTEND and _will_the_ramp_do(course):
        return course, ()
    act = _act(course, action)
    if act is not None:
        return _done(course, act)
    if stalled:
        course = replace(course, waited=course.waited + 1, since_mib=course.marks[-1].sent_mib)
        if course.waited >= course.schedule.patience and action != ABORT:
            course = replace(course, turn=course.turn + 1)
    return course, ()


def _without_postcopy(course: Course) -> Course:
    """Past the turns that need a consent which was not given."""
    while _action(course) == POSTCOPY and not course.postcopy:
        course = replace(course, turn=course.turn + 1)
    return course


def _may_act_early(course: Course, action: str) -> bool:
    """A longer stop need not wait for a stall where waiting cannot help. The end of the move, or a stop for good, must."""
    extended = course.allowed_ms > ramp(course.schedule)[course.rung]
    return action in (EXTEND, POSTCOPY) and not extended and is_hopeless(course)


def _action(course: Course) -> str:
    actions = course.schedule.at_stall
    return actions[course.turn] if course.turn < len(actions) else ABORT


def _act(course: Course, action: str) -> Optional[Act]:
    """The action, if this is the moment for it: a local minimum, and a stop within the bound."""
    if action == ABORT:
        return Act(ABORT, _given_up(course)) if course.waited >= course.schedule.patience else None
    if course.remaining_mib > NEAR * course.best_mib:
        return None
    if action == POSTCOPY:
        return Act(POSTCOPY, _seen(course))
    stop, bound = course.stop_ms or 0.0, course.schedule.pause_most_ms
    most = bound - course.buffered_ms
    # QEMU itself keeps a stop below what it is allowed; nobody does so for a pause.
    if stop * (MARGIN if action == PAUSE else 1) > most:
        return None
    why = "%s; sending what remains takes %d ms, and %d are allowed" % (_seen(course), stop + course.buffered_ms, bound)
    if action == PAUSE:
        return Act(PAUSE, why)
    # QEMU divides pages by what goes over the wire; when that is compressed, it expects a longer stop than there will be.
    value = int(min(max(stop, course.allowed_ms) * MARGIN, most) * course.rates.compression)
    return Act(DOWNTIME, why, value) if value > course.allowed_ms else None


def _done(course: Course, act: Act) -> Tuple[Course, Tuple[Act, ...]]:
    course = replace(course, turn=course.turn + 1, waited=0, since_mib=course.marks[-1].sent_mib)
    if act.what != DOWNTIME:
        return replace(course, ended=act.what), (act,)
    return replace(course, allowed_ms=act.value or 0), (act,)


def _seen(course: Course) -> str:
    rates = "%.1f MiB/s are sent" % (course.rates.pages_mib_s or 0.0)
    if course.dirty_mib_s is not None and is_hopeless(course):
        rates += ", %.1f MiB/s written" % course.dirty_mib_s
    return "%.1f MiB remain (least so far: %.1f), %s" % (course.remaining_mib, course.best_mib, rates)


def _given_up(course: Course) -> str:
    words = "%s: it does not get less, and a stop of %d ms would be needed, where %d are allowed"
    stop = (course.stop_ms or 0.0) + course.buffered_ms
    return words % (_seen(course), stop, course.schedule.pause_most_ms)
