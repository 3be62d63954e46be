# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kvm_migrate: the domain lives on that host."""

from __future__ import annotations

import contextlib
import signal
from dataclasses import replace
from typing import Any, Dict, Iterator, Mapping, Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.host import files, progress_file
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import HERE, place_of
from ansible_collections.kvmops.fleet.plugins.module_utils.host.guest_lock import Held, Taken, holding, standing
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor, connect
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import DomainGone, HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Found, Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.move_record import MoveRecord, Standing
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan, Step
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import watching
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.migrate_request import read_wish
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.migration import MovePlan, is_itself, plan_move
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.policies import BALANCED, POLICIES
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.presence import KEEP
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.summary import summary
from ansible_collections.kvmops.fleet.plugins.module_utils.run import (
    migrate_closing,
    migrate_journal,
    migrate_live,
    migrate_offline,
    migrate_recovery,
    migrate_watch,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_ends import Ends, begin_measuring, observe_ends
from ansible_collections.kvmops.fleet.plugins.module_utils.run.probe_options import PROBE_OPTIONS
from ansible_collections.kvmops.fleet.plugins.module_utils.run.sentence import Job, Sentence, tell

# A guest goes once; a second time it would have come back meanwhile.
LOOKS = 3
SCHEDULE_OPTIONS: Dict[str, Any] = {
    "downtime_start_ms": {"type": "int"},
    "downtime_top_ms": {"type": "int"},
    "downtime_steps": {"type": "int"},
    "pause_most_ms": {"type": "int"},
    "connections": {"type": "int"},
    "compression": {"type": "str"},
    "auto_converge": {"type": "str"},
    "throttle_start_percent": {"type": "int"},
    "throttle_step_percent": {"type": "int"},
    "bandwidth_share_percent": {"type": "int"},
    "stall_window": {"type": "float"},
    "patience": {"type": "int"},
    "at_stall": {"type": "list", "elements": "str"},
}
OPTIONS: Dict[str, Any] = {
    "name": {"type": "str", "required": True, "aliases": ["guest"]},
    "host": {"type": "str"},
    "dest_uri": {"type": "str"},
    "migrate_uri": {"type": "str"},
    "mode": {"type": "str", "choices": ["auto", "live", "offline"], "default": "auto"},
    "storage": {"type": "str", "choices": ["auto", "shared", "copy"], "default": "auto"},
    "max_downtime_ms": {"type": "int"},
    "bandwidth_mib_s": {"type": "int"},
    "timeout_s": {"type": "int"},
    "on_timeout": {"type": "str", "choices": ["abort", "pause", "postcopy"], "default": "abort"},
    "tls": {"type": "bool"},
    "tls_destination": {"type": "str"},
    "keep_source": {"type": "str", "choices": list(KEEP), "default": "nothing"},
    "snapshots": {"type": "str", "choices": ["refuse", "carry"], "default": "refuse"},
    "probe": {"type": "dict", "options": PROBE_OPTIONS},
    "network_map": {"type": "dict"},
    "pool_map": {"type": "dict"},
    "policy": {"type": "str", "choices": list(POLICIES), "default": BALANCED},
    "schedule": {"type": "dict", "options": SCHEDULE_OPTIONS},
    "allow_postcopy": {"type": "bool", "default": False},
    "link_mib_s": {"type": "float"},
}


class MigrateJob(Job[Found]):
    """ends: both connections, open."""

    def __init__(self, wish: Wish, ends: Ends) -> None:
        self.wish = wish
        self.ends = ends
        self.move: Optional[MovePlan] = None
        self.standing = Standing()

    def observe(self) -> Found:
        found = self._both_ends()
        # Last: a run that began meanwhile wrote its record before it made anything that was seen here.
        self.standing = standing(self.wish.name)
        return found

    def _both_ends(self) -> Found:
        """Another run's move may end between two questions to one host. Looked at anew, it has ended."""
        for _again in range(LOOKS - 1):
            with contextlib.suppress(DomainGone):
                return observe_ends(self.wish, self.ends)
        return observe_ends(self.wish, self.ends)

    def plan(self, found: Found) -> Plan:
        going = watching.answer(self.wish, self.standing, found)
        if going == watching.WATCH:
            return watching.plan_watch(self.wish, found, self.standing)
        self.move = plan_move(self.wish, found)
        return self.move.plan

    def apply(self, plan: Plan, found: Found) -> Mapping[str, Any]:
        # The loss of the terminal or of the controller is no reason to stop half-way: what has begun is ended here.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if self.move is None:
            return migrate_watch.take(self.wish, self.ends, found)
        try:
            with holding(self.wish.name) as held:
                if not migrate_watch.is_as_found(self.wish, self.ends, found):
                    held.keep()
                    raise Taken()
                return self._move(self.move, plan, found, held)
        except Taken:
            # Another run was quicker by less than it took to look at both hosts.
            return migrate_watch.take(self.wish, self.ends, found)

    def _move(self, move: MovePlan, plan: Plan, found: Found, held: Held) -> Mapping[str, Any]:
        domain = found.source.domain or found.dest.domain
        if found.leaving or found.arriving:
            self._insist(plan, found)
        held.write(MoveRecord(self.wish.host, domain.uuid if domain else "", move.answer))
        steps = [step for step in plan.steps if not self._is_taken(step, alone=move.journal is None)]
        if move.journal is None:
            # The lock is ours, so whoever told this is dead.
            progress_file.drop("kvm_migrate", self.wish.name)
            return {}
        notes = migrate_journal.Notes(self.ends, move.journal)
        notes.begin()
        migrate_closing.prepare(self.wish, self.ends, move.journal.closing)
        rest = replace(plan, steps=tuple(steps))
        if move.how is not None:
            return migrate_live.take(self.wish, self.ends, rest, found, notes, move.how)
        return migrate_offline.take(self.wish, self.ends, rest, found, notes)

    def _insist(self, plan: Plan, found: Found) -> None:
        """The run whose notes were read may have ended just before this one got the lock: then they prove nothing."""
        again = replace(self.observe(), busy=False)  # the lock is ours
        notes_differ = (again.leaving, again.arriving) != (found.leaving, found.arriving)
        if notes_differ or not watching.same_course(self.plan(again), plan):
            raise HostError(
                "move %s" % self.wish.name, found.source.side, "another run moved it meanwhile", "Run again."
            )

    def _is_taken(self, step: Step, alone: bool) -> bool:
        """Take the steps that clean up after an earlier move; when there is no new one, its closing steps too."""
        if not migrate_recovery.take(self.wish, self.ends, step):
            if not alone:
                return False
            migrate_closing.take(self.wish, self.ends, step)
        return True

    def report(self, plan: Plan, found: Found, outcome: Optional[Mapping[str, Any]]) -> Mapping[str, Any]:
        move = self.move
        told: Dict[str, Any] = {
            "name": self.wish.name,
            "source": found.source.side,
            "host": found.dest.side,
            "state": plan.after.get("state"),
            "mode": (_mode_of(move) if move else watching.mode_of(found)) if plan.changes else None,
            "watched": move is None,
            "disks": [disk.as_dict() for disk in move.moves] if move else [],
            "concerns": [concern.as_dict() for concern in move.concerns] if move else [],
        }
        if move and move.how:
            told.update(move.how.as_dict())
        outcome = dict(outcome or {})
        noticed = outcome.pop("noticed", [])
        told["concerns"] = told["concerns"] + noticed
        told["warnings"] = [concern["detail"] for concern in noticed]
        if outcome or not plan.changes:
            told["summary"] = summary(
                self.wish.name, found.source.side, found.dest.side, outcome.get("metrics"), outcome.get("transport")
            )
        return {**told, **outcome}


def _mode_of(move: MovePlan) -> Optional[str]:
    """None when only the rest of an earlier move is done."""
    return move.answer if move.journal else None


@contextlib.contextmanager
def _open(params: Mapping[str, Any]) -> Iterator[MigrateJob]:
    wish = read_wish(params)
    with connect(params["uri"], "the source") as here:
        source = Hypervisor(here.uri, here.conn.getHostname(), here.conn)
        if is_itself(wish, source.side):
            yield MigrateJob(wish, Ends(source, source, HERE))
            return
        place = place_of(wish.dest_uri, wish.host)
        # Both take a while by themselves, and so does the connection.
        with files.asked_soon(place):
            measuring = begin_measuring(wish, source)
            with connect(wish.dest_uri, wish.host) as dest:
                yield MigrateJob(wish, Ends(source, dest, place, measuring))


def main() -> None:
    tell(Sentence(options=OPTIONS, open=_open, constraints={"required_one_of": [("host", "dest_uri")]}))
