# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rounds over the disks until the rest is small, then the cutover: the last round while the source stands still."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import commands
from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_agent import Agent
from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_wire import Refused
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge, HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import (
    FREEZE,
    NONE,
    POWEROFF,
    STOP,
    P2vFound,
    P2vWish,
    Pass,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_course import FROZEN, OFF, THAWED
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_ranges import Range, aligned, merged, total
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import p2v_passes
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_copy import Copier

Ranges = Dict[str, List[Range]]
# What lies between two writes so near to each other is read with them: a request costs more than the bytes.
GAP = 32 * 1024
UNIT = 4096
# The watchdog on the source thaws when nothing was heard for so long; a pulse comes several times a second.
WATCHDOG_S = 15.0
# The source is let go when the last round takes so many times what was allowed, and never before FLOOR_S.
OVERDUE = 3.0
FLOOR_S = 10.0
# The agent lives in locked memory and answers at once, whatever its machine does. One that is silent for so long is off.
QUIET_S = 3.0
LOOK_EVERY_S = 0.5
# Controllers of disks may take a minute to write their caches. The agent's watchdog thaws later than this.
OFF_WITHIN_S = 120.0


def powered_off(
    agent: Agent, still_there: Callable[[str], HostError], perhaps_there: Callable[[str], HostError]
) -> None:
    """Until it has taken the order and is silent. Raises what the one or the other makes of the words when it is not known to
    be off."""
    try:
        agent.power_off()
    except Refused as refused:
        raise still_there(refused.said)
    except HostError as error:
        raise perhaps_there(error.said)
    latest = time.monotonic() + OFF_WITHIN_S
    while agent.answers(QUIET_S):
        if time.monotonic() > latest:
            raise still_there("it has taken the order, and answers still after %.0f s" % OFF_WITHIN_S)
        threading.Event().wait(LOOK_EVERY_S)


def _other_size(now: int, before: int) -> Tuple[str, str]:
    """What happened to a disk, and what to do."""
    if not now:
        return "the disk is gone", "See what became of it. When it is back, run again: what came is kept."
    return (
        "it has %d bytes now and had %d" % (now, before),
        "A disk that was grown is copied from the beginning: remove what is there of its image, then run again.",
    )


class Rounds:
    """agent: with notes of writes going on since boot_id. passes: those that are done. pause_s: how long it stood still.

    mark: is told when the source is frozen, thawed, off (model/p2v_course.py).
    """

    def __init__(
        self,
        wish: P2vWish,
        found: P2vFound,
        agent: Agent,
        copier: Copier,
        boot_id: str,
        mark: Callable[[str], None] = lambda moment: None,
    ) -> None:
        self.wish, self.agent, self.copier = wish, agent, copier
        self._boot_id, self._mark = boot_id, mark
        self._sizes = {disk.name: disk.size for disk in found.disks}
        self.passes: List[Pass] = []
        self.pause_s: Optional[float] = None
        self.cannot_freeze: List[str] = []

    def approach(self, wanted: Mapping[str, Sequence[Range]]) -> Ranges:
        """Copy what is wanted, and what was written meanwhile, until the rest is small. Gives the rest.

        Raises CannotConverge when it does not become small enough; what came is kept.
        """
        what, left = "copy", {name: list(ranges) for name, ranges in wanted.items()}
        while True:
            rest = self._round(what, left)
            step = p2v_passes.next_step(self.passes, self.wish.max_downtime_s, self.wish.max_passes)
            if step == p2v_passes.CUT:
                return rest
            if step == p2v_passes.GIVE_UP:
                raise CannotConverge(
                    "Bring the images of %s near to the source" % self.wish.name,
                    p2v_passes.why_given_up(self.passes, self.wish.max_downtime_s),
                    "Allow more with max_downtime_s, or run again at a calmer hour: what came is kept.",
                )
            what, left = "written", rest

    def _round(self, what: str, wanted: Ranges, last: bool = False) -> Ranges:
        began = time.monotonic()
        moved = self.copier.copy(wanted)
        seconds = time.monotonic() - began
        rest = {} if last else self.written()
        size = sum(total(ranges) for ranges in rest.values())
        self.passes.append(Pass(len(self.passes) + 1, what, moved.bytes, moved.wire, seconds, size, moved.verify_s))
        return rest

    def written(self) -> Ranges:
        """What was written since the last question. Where that cannot be told, what differs, by its hashes."""
        told = self.agent.written()
        if told.boot_id != self._boot_id:
            raise HostError(
                "go on with the images of %s" % self.wish.name,
                self.agent.side,
                "it was started anew meanwhile",
                "Run again.",
            )
        for name, size in self._sizes.items():
            now = told.sizes.get(name, size)
            if now != size:
                raise HostError("go on with the image of %s" % name, self.agent.side, *_other_size(now, size))
        if told.lost:
            self.agent.sync()
            return self.copier.compare({name: self.agent.map(name).used for name in self._sizes})
        return {
            name: merged(aligned(ranges, UNIT, self._sizes[name]), GAP)
            for name, ranges in told.disks.items()
            if name in self._sizes
        }

    def cut(self, rest: Ranges, publish: Callable[[], None], mark_left: Callable[[Optional[str]], None]) -> None:
        """The last round, and what follows from the way of the cutover. Whatever fails, the source serves again.

        mark_left is called with the way when the images are what counts from now on, before the source is powered off.
        """
        with self._stopped():
            self.agent.sync()
            with self._frozen() as began:
                self._last_round(rest)
                if self.wish.cutover == NONE:
                    self._thaw()
                    self.pause_s = time.monotonic() - began
                    self.copier.pulse = lambda: None
                    publish()
                    return
                publish()
                if self.wish.cutover in (FREEZE, STOP):
                    self._hand_over()
                self.pause_s = time.monotonic() - began
                mark_left(self.wish.cutover)
                try:
                    self._power_off()
                except HostError:
                    mark_left(None)
                    raise
                self._mark(OFF)

    def _thaw(self) -> None:
        self.agent.thaw()
        self._mark(THAWED)

    def _last_round(self, rest: Ranges) -> None:
        last = self.written()
        both = {name: merged([*rest.get(name, ()), *last.get(name, ())]) for name in self._sizes}
        self._round("last", both, last=True)
        if not self.agent.alive():
            raise HostError(
                "copy the last of %s" % self.wish.name,
                self.agent.side,
                "its watchdog thawed the filesystems before the end",
                "The source serves. Run again: what came is kept.",
            )

    @contextlib.contextmanager
    def _stopped(self) -> Iterator[None]:
        """Services are stopped; when the block fails they are started again. A rehearsal stops none."""
        names = () if self.wish.cutover == NONE else self.wish.services
        if not names:
            yield
            return
        self.agent.stop(names)
        try:
            yield
        except BaseException:
            # The agent does the same when its connection ends: nothing is lost where this cannot be asked any more.
            with contextlib.suppress(HostError):
                self.agent.start(names)
            raise

    @contextlib.contextmanager
    def _frozen(self) -> Iterator[float]:
        """Gives when it began. When the block fails all is thawed."""
        began = time.monotonic()
        self._mark(FROZEN)
        limit = began + max(FLOOR_S, OVERDUE * self.wish.max_downtime_s)
        told = self.agent.freeze(WATCHDOG_S)
        self.cannot_freeze = [str(each["mount"]) for each in told.get("cannot") or ()]

        def pulse() -> None:
            self.agent.alive()
            if time.monotonic() > limit:
                raise HostError(
                    "copy the last of %s" % self.wish.name,
                    self.agent.side,
                    "it stood still for %.0f s already" % (time.monotonic() - began),
                    "It serves again. Allow more with max_downtime_s, then run again: what came is kept.",
                )

        self.copier.pulse = pulse
        try:
            yield began
        except BaseException:
            with contextlib.suppress(HostError):
                self._thaw()
            raise
        finally:
            self.copier.pulse = lambda: None

    def _hand_over(self) -> None:
        """The user's command starts the VM while the source stands still."""
        takeover = self.wish.takeover
        if takeover is None:
            return
        attempted = "let %s take over" % takeover.command[0]
        remedy = "The source was thawed and serves again; the images are finished. Mend the command, then run again."
        done = commands.run_pulsed(takeover.command, takeover.timeout_s, self.agent.alive)
        if done.rc != 0:
            raise HostError(attempted, "this host", done.err or "exit %d" % done.rc, remedy)
        if not self.agent.alive():
            raise HostError(attempted, self.agent.side, "the source was thawed meanwhile", remedy)

    def _power_off(self) -> None:
        powered_off(self.agent, self._still_there, self._perhaps_there)

    def _still_there(self, said: str) -> HostError:
        remedy = "It serves again, and the images are of the moment before: bring them up to date with another run."
        if self.wish.takeover is not None:
            remedy = "The VM serves, and so does the source again: power one of them off at once."
        return HostError("power it off", self.agent.side, said, remedy)

    def _perhaps_there(self, said: str) -> HostError:
        remedy = (
            "Nobody has seen whether it took the order. Look at it. If it is on it serves again: run again, which brings "
            "the images up to date. If it is off, the images are all that it had: power it on, then run again."
        )
        if self.wish.takeover is not None:
            remedy = "The VM serves. Look at the source at once, and power it off if it is on."
        return HostError("power it off", self.agent.side, said, remedy)

    def as_dict(self, guest_s: Optional[float]) -> Dict[str, Any]:
        """guest_s: how long the guest was expected to take; None when nobody knew."""
        before = self.passes[:-1] or self.passes
        stands_still = self.wish.cutover != NONE
        return {
            "passes": [each.as_dict() for each in self.passes],
            "prediction": p2v_passes.prediction(before, self.wish.max_downtime_s, guest_s, stands_still),
            "pause_s": None if self.pause_s is None else round(self.pause_s, 3),
            "power": "off" if self.wish.cutover in (FREEZE, STOP, POWEROFF) else "on",
            "cannot_freeze": self.cannot_freeze,
        }
