# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an earlier move left behind and what becomes of it: one row, one answer. docs/recovery.md is held to ROWS."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, List, NamedTuple, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import MIGRATION, PAUSED, moved_to
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge
from ansible_collections.kvmops.fleet.plugins.module_utils.model.image import ImageFacts
from ansible_collections.kvmops.fleet.plugins.module_utils.model.journal import (
    ARRIVING,
    BEGUN,
    KEPT,
    LEAVING,
    Journal,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import LIVE, OFFLINE, End, Found, Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Step
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import encryption, postcopy
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.presence import ACTIVE, MISSING, OFF, presence

# Paused by a migration and not by a person: one half of a guest on its way.
HALTED = "halted"
# One half of a guest in post-copy, which nobody sends on any more: the destination has run it, without all of its memory.
SPLIT = "split"

# finish: the guest has moved; what is open is done. again: nothing was handed over; what was made is removed, then the
# move starts anew. go on: the files that came are good; the move goes on from there. look: only a person can tell.
FINISH, AGAIN, GO_ON, LOOK = "finish", "again", "go on", "look"

# What is stopped or let go first, so that exactly one owner is left.
STOP_SOURCE, STOP_DEST, RESUME_SOURCE, WITHDRAW_DEST = "stop-source", "stop-dest", "resume-source", "withdraw-dest"
# After that, the guest that the move itself had paused.
RESUME_DEST = "resume-dest"
# Not a guest that goes on, but a move: what the destination still lacks of its memory is sent.
RESUME_POSTCOPY = "resume-postcopy"


class Row(NamedTuple):
    """answer: one of the four above. first: what is settled before. because: why this is right."""

    answer: str
    first: Optional[str]
    because: str


# (mode of the move that was cut short, source now, destination now) -> what the next run does.
ROWS: Dict[Tuple[str, str, str], Row] = {
    (LIVE, MISSING, MISSING): Row(LOOK, None, "neither host knows the guest any more"),
    (LIVE, MISSING, OFF): Row(FINISH, None, "the source let go, so the guest had arrived; it stopped there since"),
    (LIVE, MISSING, HALTED): Row(LOOK, None, "the only copy is paused, and nobody can say whether its memory is whole"),
    (LIVE, MISSING, ACTIVE): Row(FINISH, None, "the source let go and the guest runs there"),
    (LIVE, OFF, MISSING): Row(AGAIN, None, "the guest stopped on the source before it was handed over"),
    (LIVE, OFF, OFF): Row(LOOK, None, "both have a definition, and either disk may be the newer one"),
    (LIVE, OFF, HALTED): Row(AGAIN, STOP_DEST, "the source went down; the half over there waits and never ran"),
    (LIVE, OFF, ACTIVE): Row(FINISH, None, "the guest runs there; the source came back with its old definition"),
    (LIVE, HALTED, MISSING): Row(AGAIN, RESUME_SOURCE, "the source waits for an answer, and the other half is gone"),
    (LIVE, HALTED, OFF): Row(LOOK, None, "the guest may have run there before it stopped"),
    (LIVE, HALTED, HALTED): Row(LOOK, None, "both halves wait, and either may be the whole one"),
    (LIVE, HALTED, ACTIVE): Row(FINISH, STOP_SOURCE, "it could start there only with all of its memory"),
    (LIVE, ACTIVE, MISSING): Row(AGAIN, None, "the guest goes on running on the source"),
    (LIVE, ACTIVE, OFF): Row(AGAIN, None, "the guest goes on running on the source"),
    (LIVE, ACTIVE, HALTED): Row(AGAIN, STOP_DEST, "the guest runs on the source; the half over there never ran"),
    (LIVE, ACTIVE, ACTIVE): Row(LOOK, None, "the guest runs twice"),
    (LIVE, MISSING, SPLIT): Row(LOOK, None, "lost unless it answers: the source had the rest of its memory"),
    (LIVE, OFF, SPLIT): Row(LOOK, None, "lost unless it answers: the source had the rest of its memory"),
    (LIVE, HALTED, SPLIT): Row(LOOK, None, "the guest may run there, and the source may have the rest of its memory"),
    (LIVE, ACTIVE, SPLIT): Row(LOOK, None, "the guest runs twice"),
    (LIVE, SPLIT, MISSING): Row(LOOK, None, "the guest is lost: it ran there; what waits here is outdated"),
    (LIVE, SPLIT, OFF): Row(LOOK, None, "the guest is lost: it ran there; what waits here is outdated"),
    (LIVE, SPLIT, HALTED): Row(
        LOOK, None, "the guest may have run there, and the source may have the rest of its memory"
    ),
    (LIVE, SPLIT, ACTIVE): Row(FINISH, STOP_SOURCE, "it runs there with all of its memory"),
    (LIVE, SPLIT, SPLIT): Row(FINISH, RESUME_POSTCOPY, "it runs there, and what it lacks of its memory is still here"),
    (OFFLINE, MISSING, MISSING): Row(LOOK, None, "neither host knows the guest any more"),
    (OFFLINE, MISSING, OFF): Row(FINISH, None, "the source let go after everything had been verified there"),
    (OFFLINE, MISSING, ACTIVE): Row(FINISH, None, "the source let go, and the guest was started there"),
    (OFFLINE, OFF, MISSING): Row(GO_ON, None, "the source is untouched; what came of its files is checked and used"),
    (OFFLINE, OFF, OFF): Row(GO_ON, None, "it was defined there after everything had been verified"),
    (OFFLINE, OFF, ACTIVE): Row(FINISH, None, "it was defined there after everything was verified, and started"),
    (OFFLINE, ACTIVE, MISSING): Row(AGAIN, None, "the guest was started on the source, so the copies are outdated"),
    (OFFLINE, ACTIVE, OFF): Row(AGAIN, WITHDRAW_DEST, "the guest was started on the source; the copies are outdated"),
    (OFFLINE, ACTIVE, ACTIVE): Row(LOOK, None, "the guest runs twice"),
}


@dataclass(frozen=True)
class Recovery:
    """steps: to be taken first. found: the two ends as they will be then. finish: nothing is to be moved any more.

    warnings: what an earlier move left where this run does not reach.
    """

    steps: Tuple[Step, ...]
    found: Found
    finish: bool = False
    warnings: Tuple[str, ...] = ()


def recover(wish: Wish, found: Found) -> Recovery:
    """Pure. Raises CannotConverge when a person must look. While another run or a job of libvirt works on it, nothing
    is left behind yet."""
    status = found.source.status
    note = _of_this_pair(found)
    warnings = _elsewhere(found, note)
    broken = postcopy.has_broken(found)
    if found.busy or (status is not None and status.active and status.job and not broken):
        return Recovery((), found, warnings=warnings)
    if SPLIT in (word(found.source), word(found.dest)):
        _refuse_halves(wish, found, note)
    if note is None:
        return _without_note(wish, found, warnings)
    row = _row(note, found)
    if row.answer == LOOK or (row.answer == FINISH and _was_there_before(note, found)) or _may_have_ended(row, found):
        raise _look(wish, found, row, note)
    steps, after = [], found
    for first in (row.first, _let_go_on(note, row, found)):
        if first is not None:
            steps.append(_first(first, wish, after))
            after = _settled(first, after)
    if row.answer == FINISH:
        steps += _finish(note, after)
        return Recovery((*steps, _forget(note)), after, True, warnings)
    if row.answer == AGAIN:
        removed, after = _remove(_proven(note, after), after)
        steps += removed
    # Its parts are used again or removed one by one; only then nothing is left to remember.
    steps += [] if row.answer == GO_ON else [_forget(note)]
    left = after if row.answer == GO_ON else replace(after, leaving=None, arriving=None)
    return Recovery(tuple(steps), left, False, warnings)


def _refuse_halves(wish: Wish, found: Found, note: Optional[Journal]) -> None:
    """A post-copy that broke, unless all of the memory had come or can still come: what became of the guest, what a person can do."""
    if note is None and found.leaving is not None:
        words = "its post-copy move to %s broke off, and the other half of it is there" % found.leaving.dest
        raise CannotConverge(_attempt(wish), words, "Run again with that host. Stop neither half")
    row = ROWS[(LIVE, word(found.source), word(found.dest))]
    cannot = row.first == RESUME_POSTCOPY and postcopy.why_not_resumed(found)
    if note is None or row.answer == LOOK or cannot:
        raise CannotConverge(_attempt(wish), *postcopy.told(wish, found))


def word(end: End) -> str:
    """presence, with HALTED and SPLIT set apart."""
    status = end.status
    if status is not None and status.split:
        return SPLIT
    halted = status is not None and status.state == PAUSED and status.reason == MIGRATION
    return HALTED if halted else presence(end)


def _row(note: Journal, found: Found) -> Row:
    here, there = word(found.source), word(found.dest)
    if note.mode == OFFLINE:
        # Nothing that an offline move does makes such a half.
        here, there = (ACTIVE if one in (HALTED, SPLIT) else one for one in (here, there))
    return ROWS[(note.mode, here, there)]


def _was_there_before(note: Journal, found: Found) -> bool:
    """A definition that the destination had before the move, and the guest off here: it may have been started from it."""
    return note.dest_defined and presence(found.source) == OFF and (note.mode == LIVE or note.phase == BEGUN)


def _may_have_ended(row: Row, found: Found) -> bool:
    """A transient guest that is not there may have run there and come to its end; then the half here is outdated."""
    return row.first == RESUME_SOURCE and found.source.status is not None and not found.source.status.persistent


def _let_go_on(note: Journal, row: Row, found: Found) -> Optional[str]:
    """What we paused on the way, and only that, goes on where it is now. Who owned it had it running."""
    if not note.paused or row.answer not in (FINISH, AGAIN) or row.first == RESUME_SOURCE:
        return None
    end, act = (found.dest, RESUME_DEST) if row.answer == FINISH else (found.source, RESUME_SOURCE)
    return act if end.status is not None and end.status.state == PAUSED and word(end) == ACTIVE else None


def _of_this_pair(found: Found) -> Optional[Journal]:
    """The note about these two hosts, the source's if both have one: it is written more often."""
    pair = (found.source.facts.host_uuid, found.dest.facts.host_uuid)
    for note in (found.leaving, found.arriving):
        if note is not None and note.phase != KEPT and (note.source_uuid, note.dest_uuid) == pair:
            return note
    return None


def _elsewhere(found: Found, note: Optional[Journal]) -> Tuple[str, ...]:
    left = found.leaving
    if left is None or left is note or not (left.created or left.temporary):
        return ()
    words = "an earlier move of %s to %s was cut short; what it left there is removed by the next move to that host"
    return (words % (left.name, left.dest),)


def _without_note(wish: Wish, found: Found, warnings: Tuple[str, ...]) -> Recovery:
    """A note from another source, or of what was kept here for a return, proves whose the files are."""
    note = found.arriving
    if note is None or presence(found.dest) != MISSING or presence(found.source) == MISSING:
        return Recovery((), found, warnings=warnings)
    removed, after = _remove(_proven(note, found), found)
    return Recovery((*removed, _forget(note, (ARRIVING,))), replace(after, arriving=None), warnings=warnings)


def _proven(note: Journal, found: Found) -> List[str]:
    """Paths on the destination that are surely of that move: by their inode, by their temporary name, or since they are
    where it was about to make a file and are empty. What another domain names is left alone."""
    ours = []
    for path in sorted({*note.created, *note.temporary}):
        facts = found.dest.images.get(path)
        if facts is None or not facts.exists or found.dest.disk_users.get(path):
            continue
        same = facts.inode is not None and note.made.get(path) == facts.inode
        if path in note.temporary or same or _is_fresh(note, path, facts):
            ours.append(path)
    return ours


# A new qcow2 volume has about 200 KiB, and a raw one nothing.
_FRESH_BYTES = 1024**2


def _is_fresh(note: Journal, path: str, facts: ImageFacts) -> bool:
    return path not in note.made and facts.allocated < _FRESH_BYTES and note.phase == BEGUN


def _remove(paths: List[str], found: Found) -> Tuple[List[Step], Found]:
    side = found.dest.side
    steps = [
        Step(
            "remove-leftover",
            "remove %s from %s, which an earlier move left there" % (path, side),
            {"path": path, "pool": found.dest.pool_of(path)},
        )
        for path in paths
    ]
    images = dict(found.dest.images)
    for path in paths:
        images[path] = replace(images[path], exists=False, size=0, allocated=0, inode=None)
    return steps, replace(found, dest=replace(found.dest, images=images))


def _finish(note: Journal, found: Found) -> List[Step]:
    steps = []
    kept = found.source.domain
    if presence(found.source) == OFF and not any(step.action == "keep-definition" for step in note.closing):
        words = "remove the outdated definition of %s from %s: it lives on %s" % (note.name, note.source, note.dest)
        steps.append(Step("undefine-source", words))
    for step in note.closing:
        path = step.args.get("path")
        facts = found.source.images.get(path) if path else None
        gone = facts is None or not facts.exists or facts.inode != step.args.get("inode")
        used = path and found.source.disk_users.get(path)
        set_already = step.action == "autostart" and found.dest.status is not None and found.dest.status.autostart
        done = {
            "autostart": set_already,
            "keep-definition": kept is not None and moved_to(kept) is not None,
            "remove-source-disk": gone or bool(used),
        }
        if not done.get(step.action):
            steps.append(step)
    return steps


def _first(first: str, wish: Wish, found: Found) -> Step:
    here, there = found.source.side, found.dest.side
    words = {
        STOP_SOURCE: "stop the paused half of %s on %s: the guest runs on %s" % (wish.name, here, there),
        STOP_DEST: "stop the paused half of %s on %s, which never ran" % (wish.name, there),
        RESUME_SOURCE: "let %s go on on %s, where an interrupted move left it paused" % (wish.name, here),
        RESUME_DEST: "let %s go on on %s, where an interrupted move left it paused" % (wish.name, there),
        RESUME_POSTCOPY: "resume the post-copy of %s from %s to %s, which broke off" % (wish.name, here, there),
        WITHDRAW_DEST: "remove the definition of %s from %s, which an earlier move made" % (wish.name, there),
    }[first]
    return Step(first, words, {"tls": encryption.decided(wish, found).tls} if first == RESUME_POSTCOPY else {})


def _settled(first: Optional[str], found: Found) -> Found:
    """The ends once the first step is taken."""
    source, dest = found.source, found.dest
    if first in (STOP_DEST, WITHDRAW_DEST):
        return replace(found, dest=replace(dest, domain=None, status=None, active_domain=None, same_uuid_name=None))
    if first == RESUME_POSTCOPY and dest.status is not None:
        gone = replace(source, domain=None, status=None, active_domain=None)
        return replace(found, source=gone, dest=replace(dest, status=replace(dest.status, reason=None)))
    if first == STOP_SOURCE and source.status is not None:
        off = replace(source.status, state="shutoff", reason=None)
        kept = off if off.persistent else None
        domain = source.domain if kept else None
        return replace(found, source=replace(source, status=kept, domain=domain, active_domain=None))
    if first == RESUME_DEST and dest.status is not None:
        return replace(found, dest=replace(dest, status=replace(dest.status, state="running", reason=None)))
    if first == RESUME_SOURCE and source.status is not None:
        return replace(found, source=replace(source, status=replace(source.status, state="running", reason=None)))
    return found


def _forget(note: Journal, roles: Tuple[str, ...] = (ARRIVING, LEAVING)) -> Step:
    """The destination's note first: without the source's, nobody would look for what is there."""
    words = "forget the earlier move of %s from %s to %s" % (note.name, note.source, note.dest)
    return Step("forget", words, {"uuid": note.uuid, "roles": roles})


def _look(wish: Wish, found: Found, row: Row, note: Journal) -> CannotConverge:
    sides = (found.source.side, found.dest.side)
    seen = "an earlier move from %s to %s was cut short; it is %s on %s and %s on %s: %s"
    words = seen % (note.source, note.dest, word(found.source), sides[0], word(found.dest), sides[1], row.because)
    if row.because == "the guest runs twice":
        words = "%s RUNS ON BOTH %s AND %s, and both may be writing to its disks" % (wish.name, *sides)
        return CannotConverge(_attempt(wish), words, "Stop one of them now, then check the disks")
    return CannotConverge(
        _attempt(wish),
        words,
        "Decide which side has the newest state, undefine the guest on the other (virsh destroy, virsh undefine), "
        "then run again. Nothing was changed",
    )


def _attempt(wish: Wish) -> str:
    return "Moving %s to %s is not possible" % (wish.name, wish.host)
