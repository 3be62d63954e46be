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

from dataclasses import replace
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
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.course import (
    Course,
    is_hopeless,
    is_stalled,
    is_synced,
    look,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.policies import ramp

# A local minimum is within 4 % of the best (KubeVirt's stall detector).
NEAR = 1.04
# A round that does not halve what remains earns the next step of the ramp.
HALVED = 0.5
# QEMU's view of the rate differs from moment to moment; what it is allowed has to cover that.
MARGIN = 1.25
# Longer than libvirt's keepalive (30 s), which knows better what is wrong.
STILL_MS = 60 * 1000
_ALLOW_MORE = "Allow a longer stop (max_downtime_ms), take another policy, or run again when the guest writes less."


def steer(course: Course, sample: Sample) -> Tuple[Course, Tuple[Act, ...]]:
    """Look at one more sample. Gives the course from here, and what to do now."""
    synced = is_synced(course.last, sample)
    course = look(course, sample, synced)
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


def _at_stall(course: Course) -> Tuple[Course, Tuple[Act, ...]]:
    """One turn of at_stall, or none."""
    course = _without_postcopy(course)
    action = _action(course)
    stalled = is_stalled(course)
    if not stalled and not _may_act_early(course, action):
        return course, ()
    if action != EXTEND and _will_the_ramp_do(course):
        return course, ()
    act = _act(course, action, stalled and course.waited + 1 >= course.schedule.patience)
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


def _act(course: Course, action: str, is_last_chance: bool) -> Optional[Act]:
    """The action, if this is the moment for it: a local minimum, or the end of the patience; and a stop within the bound."""
    if action == ABORT:
        return Act(ABORT, _given_up(course), remedy=_ALLOW_MORE) if course.waited >= course.schedule.patience else None
    if course.remaining_mib > NEAR * course.best_mib and not is_last_chance:
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
    value = int(min(max(stop, course.allowed_ms) * MARGIN, most) * course.compression)
    return Act(EXTEND, why, value) if value > course.allowed_ms else None


def _done(course: Course, act: Act) -> Tuple[Course, Tuple[Act, ...]]:
    course = replace(course, turn=course.turn + 1, waited=0, since_mib=course.marks[-1].sent_mib)
    if act.what != EXTEND:
        return replace(course, ended=act.what), (act,)
    return replace(course, allowed_ms=act.value or 0), (act,)


def _seen(course: Course) -> str:
    rates = "%.1f MiB/s are sent" % (course.again_mib_s or 0.0)
    if course.dirty_mib_s is not None and is_hopeless(course):
        rates += ", %.1f MiB/s written" % course.dirty_mib_s
    return "%.1f MiB remain (least so far: %.1f), %s" % (course.remaining_mib, course.best_mib, rates)


def _given_up(course: Course) -> str:
    words = "%s: it does not get less, and a stop of %d ms would be needed, where %d are allowed"
    stop = (course.stop_ms or 0.0) + course.buffered_ms
    return words % (_seen(course), stop, course.schedule.pause_most_ms)
