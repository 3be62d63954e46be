# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A second run: watch a move that is under way, and do what is left when its own run is dead."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import (
    domains,
    files,
    guest_lock,
    lifecycle,
    live_migration,
    progress_file,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.host import journal as notebook
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import HERE
from ansible_collections.kvmops.fleet.plugins.module_utils.host.following import Follower
from ansible_collections.kvmops.fleet.plugins.module_utils.host.guest_lock import Held, Taken
from ansible_collections.kvmops.fleet.plugins.module_utils.host.live_migration import Watched
from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import (
    ACTIVE_STATES,
    PAUSED,
    POSTCOPY_FAILED,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import POSTCOPY as IN_POSTCOPY
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge, HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.journal import LEAVING
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import (
    LIVE,
    OFFLINE,
    Found,
    Sample,
    Wish,
    thin,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.move_record import MoveRecord
from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import ABORT, POSTCOPY, Act
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import impact, overdue, settlement, watching
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.concerns import concern
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.recovery import recover
from ansible_collections.kvmops.fleet.plugins.module_utils.run import migrate_closing, migrate_recovery
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_ends import Ends, observe_ends
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_metrics import live_metrics
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_settle import SETTLE_S, both_say, judged

# How long a living run may show nothing at all (it may be hashing a large image) before the one that watches gives up.
SILENT_S = 3600
# How long libvirt may take to cancel a job, and how long when the half on the destination has been ended as well.
ENDS_S, FORCED_S = 20, 60
# How long the guest may be unknown to the destination while libvirt says that it is sent away.
ARRIVES_S = 20


def is_as_found(wish: Wish, ends: Ends, found: Found) -> bool:
    """Whether the guest is still where it was when the plan was made, and nobody has begun to move it."""
    dom, before = domains.find(ends.source, wish.name), found.source.status
    if dom is None or before is None:
        return dom is None and before is None
    now = domains.status(dom)
    return now.active == before.active and now.job in (None, before.job)


def take(wish: Wish, ends: Ends, found: Found) -> Mapping[str, Any]:
    """Watch to the end. Gives metrics and samples of a move that succeeded. Raises HostError or CannotConverge otherwise.

    As long as a living run holds the guest's lock, nothing is changed here.
    """
    follower = Follower(ends.source, wish.name, time.monotonic())
    patience = Patience(wish)
    while True:
        with contextlib.suppress(Taken), guest_lock.holding(wish.name) as held:
            return _as_owner(wish, ends, found, held, follower, patience.others)
        record = patience.look()
        if record is not None and record.host != wish.host:
            raise watching.goes_elsewhere(wish, record, ends.source.side)
        if follower.job() == watching.OUTGOING:
            follower.until_gone(lambda sample: None, patience.ended)
        if patience.ended():
            raise _still_busy(wish, ends, record)
        threading.Event().wait(0.5)


class Patience:
    """How long a living run is watched: timeout_s, or as long as it shows some sign at times. others: whether there was one."""

    def __init__(self, wish: Wish) -> None:
        self._wish, self.others = wish, False
        self._deadline = time.monotonic() + (wish.timeout_s or SILENT_S)
        self._told: Optional[float] = None

    def look(self) -> Optional[MoveRecord]:
        """The record of the run that has the lock."""
        self.others = True
        self.ended()
        return guest_lock.standing(self._wish.name).record

    def ended(self) -> bool:
        told = progress_file.last_told("kvm_migrate", self._wish.name)
        if told != self._told and self._wish.timeout_s is None:
            self._deadline = time.monotonic() + SILENT_S
        self._told = told
        return time.monotonic() > self._deadline


def _still_busy(wish: Wish, ends: Ends, record: Optional[MoveRecord]) -> CannotConverge:
    return CannotConverge(
        "Watching the move of %s on %s" % (wish.name, ends.source.side),
        "the other run%s has not ended" % (" (process %d)" % record.pid if record else ""),
        "Look at it there; nothing was changed by this one",
    )


def _as_owner(wish: Wish, ends: Ends, found: Found, held: Held, follower: Follower, others: bool) -> Mapping[str, Any]:
    """The lock is ours. A record that is still there is that of a dead run. others: another run had it before, and ended."""
    held.keep()
    record = guest_lock.standing(wish.name).record
    if follower.job() == watching.OUTGOING:
        _is_it_coming(wish, ends, record)
        _follow(wish, ends, follower, record)
    here, there = _settled(wish, ends, found)
    outcome = judged(wish, ends, here, there)
    if outcome in settlement.UNSETTLED:
        raise _not_moved(wish, ends, follower, outcome, (here, there))
    # The lock is ours, and so nobody is busy with it any more.
    now = replace(observe_ends(wish, ends), busy=False)
    rest = recover(wish, now).steps
    for step in rest:
        if not migrate_recovery.take(wish, ends, step):
            migrate_closing.take(wish, ends, step)
    held.forget()
    if not watching.has_arrived(outcome, found):
        raise _not_moved(wish, ends, follower, outcome, (here, there))
    concerns = [] if others else _left_behind(ends, found, now)
    return dict(
        _told(wish, ends, found, follower),
        noticed=[one.as_dict() for one in concerns],
        closed=[step.words for step in rest],
        watched=True,
    )


def _is_it_coming(wish: Wish, ends: Ends, record: Optional[MoveRecord]) -> None:
    """Without a record nobody but the destination can say whether the guest comes to it."""
    attempted = "see %s arrive" % wish.name
    if record is not None:
        return
    try:
        live_migration.wait_until(
            lambda: domains.find(ends.dest, wish.name) is not None, ARRIVES_S, attempted, wish.host
        )
    except HostError:
        raise CannotConverge(
            "Moving %s to %s is not possible now" % (wish.name, ends.dest.side),
            "libvirt on %s is moving it, and %s does not know of it" % (ends.source.side, ends.dest.side),
            "Wait for the end of that move (virsh domjobinfo %s), then run again" % wish.name,
        )


def _follow(wish: Wish, ends: Ends, follower: Follower, record: Optional[MoveRecord]) -> None:
    """A dead run's job is treated as that run would have: nobody else does. Raises CannotConverge when it does not end."""
    watched = follower.watched
    subject = "%s to %s" % (wish.name, wish.host)
    ended = Ended()
    late = overdue.rule(wish.timeout_s, wish.on_timeout)
    with progress_file.telling("kvm_migrate", wish.name) as tell:

        def on_sample(sample: Sample) -> None:
            tell(sample.progress(subject))
            overdue_act = None if ended.tried else late(follower.job_age_s())
            act = watching.act_of(watched.samples, watched.stopped, overdue_act)
            if act is not None and record is not None and not _is_split(wish, ends):
                ended.tried = True
                if _do(wish, ends, follower, act, record):
                    watched.stopped, watched.why = act.what, act.why
                if act.what == ABORT:
                    ended.begin()
            elif ended.waited_s() > ENDS_S and not ended.forced:
                ended.forced = True
                _stop_half(wish, ends)

        follower.until_gone(on_sample, lambda: _gave_up(wish, ends, watched, ended))
    if watched.stopped == ABORT and watched.error is None and follower.job() == watching.OUTGOING:
        raise CannotConverge(
            "End the move of %s, whose run is dead (%s)" % (wish.name, watched.why),
            "libvirt on %s has cancelled it and still waits for %s" % (ends.source.side, ends.dest.side),
            "End the half that waits on %s (virsh destroy %s there), then run again" % (ends.dest.side, wish.name),
        )


def _do(wish: Wish, ends: Ends, follower: Follower, act: Act, record: MoveRecord) -> bool:
    """Whether it was done. The guest is paused only when that was noted before: a run after this one has to know that it
    may let it go on. Post-copy needs a job that was begun for it; another goes on as it is."""
    if act.what == ABORT:
        follower.watched.error = follower.abort()
        return True
    if act.what == POSTCOPY:
        return follower.postcopy() is None
    note = notebook.survey(HERE, [], LEAVING, record.uuid)[1]
    if note is None or both_say(wish, ends)[0] == PAUSED:
        return False
    notebook.keep(HERE, LEAVING, replace(note, paused=True))
    return follower.pause() is None


def _is_split(wish: Wish, ends: Ends, reasons: Sequence[str] = (IN_POSTCOPY, POSTCOPY_FAILED)) -> bool:
    """Nobody may end a post-copy. When its link is cut, libvirt says so after 30 s, and keeps its job."""
    dom = domains.find(ends.source, wish.name)
    return dom is not None and domains.reason(dom) in reasons


def _gave_up(wish: Wish, ends: Ends, watched: Watched, ended: Ended) -> bool:
    over = watched.error is not None or ended.waited_s() > ENDS_S + FORCED_S
    return over or _is_split(wish, ends, [POSTCOPY_FAILED])


class Ended:
    """How long ago the job was cancelled. forced: whether the half on the destination was ended too. tried: whether something
    was done about its age."""

    def __init__(self) -> None:
        self._since: Optional[float] = None
        self.forced = self.tried = False

    def begin(self) -> None:
        self._since = time.monotonic()

    def waited_s(self) -> float:
        return 0.0 if self._since is None else time.monotonic() - self._since


def _stop_half(wish: Wish, ends: Ends) -> None:
    """A QEMU on the destination that does not answer holds up the cancelling. It waits for memory and has never run."""
    here, there = both_say(wish, ends)
    dom = domains.find(ends.dest, wish.name)
    if here in ACTIVE_STATES and here != PAUSED and there == PAUSED and dom is not None:
        with contextlib.suppress(HostError):
            lifecycle.destroy(dom)


def _settled(wish: Wish, ends: Ends, found: Found) -> Tuple[str, str]:
    """What both ends say once they agree, or when they should have."""

    def agreed() -> bool:
        outcome = settlement.verdict(*both_say(wish, ends))
        return outcome == settlement.STAYED or watching.has_arrived(outcome, found)

    with contextlib.suppress(HostError):
        live_migration.wait_until(agreed, SETTLE_S, "see who has %s" % wish.name, ends.dest.side)
    return both_say(wish, ends)


def _not_moved(wish: Wish, ends: Ends, follower: Follower, outcome: str, said: Tuple[str, str]) -> Exception:
    """The error to raise."""
    where, remedy = settlement.told(outcome, said[0], said[1], ends.source.side, ends.dest.side)
    attempted = "move %s live to %s" % (wish.name, ends.dest.side)
    words = follower.watched.error or follower.why_failed() or "it ended without moving the guest"
    if follower.watched.stopped:
        words = "a move whose run is dead was ended (%s, %s): %s" % (
            follower.watched.stopped,
            follower.watched.why,
            words,
        )
    if outcome in settlement.UNSETTLED:
        return CannotConverge("Could not %s: %s" % (attempted, words), where, remedy)
    return HostError(attempted, ends.source.side, "%s. Now %s" % (words, where), remedy + settlement.advice(words))


def _left_behind(ends: Ends, found: Found, now: Found) -> List[Concern]:
    """Disks that stay on the source though the guest has left: those that nobody noted, or that are not what was noted."""
    note = now.leaving
    meant = {step.args["path"] for step in note.closing if step.action == "remove-source-disk"} if note else None
    domain = found.source.effective
    paths = [disk.source for disk in domain.images if disk.kind == "file" and disk.source] if domain else []
    paths = [path for path in paths if meant is None or path in meant]
    here, there = files.look(HERE, paths), files.look(ends.files_of_dest, paths)
    return [_left(ends, path) for path in watching.stayed_disks(found, here, there) if path in paths]


def _left(ends: Ends, path: str) -> Concern:
    words = "%s is left on %s, and the guest now lives on %s: nothing proves that it is the file which was copied"
    detail = words % (path, ends.source.side, ends.dest.side)
    return concern("source-disk-left", detail)


def _told(wish: Wish, ends: Ends, found: Found, follower: Follower) -> Dict[str, Any]:
    watched = follower.watched
    live = found.source.status is None or found.source.status.active
    stats: Mapping[str, Any] = {}
    if live:
        with contextlib.suppress(HostError):
            stats = live_migration.completed(ends.dest, wish.name)
    metrics = live_metrics(stats, watched, mode=LIVE if live else OFFLINE)
    return {
        "metrics": dict(metrics.as_dict(), **impact.figures(None)),
        "samples": [sample.as_dict() for sample in thin(watched.samples)],
        "ended_by": watched.stopped,
    }
