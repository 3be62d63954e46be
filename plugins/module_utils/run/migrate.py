# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kvm_migrate: the domain lives on that host."""

from __future__ import annotations

import contextlib
import signal
from typing import Any, Dict, Iterator, Mapping, Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import HERE, Place, place_of
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor, connect
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Found, Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.migrate_request import read_wish
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.migration import MovePlan, is_itself, plan_move
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.policies import BALANCED, POLICIES
from ansible_collections.kvmops.fleet.plugins.module_utils.run import migrate_live, migrate_offline
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_ends import Ends, observe_ends
from ansible_collections.kvmops.fleet.plugins.module_utils.run.sentence import Job, Sentence, tell

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
    "keep_source_disks": {"type": "bool", "default": False},
    "tls": {"type": "bool"},
    "tls_destination": {"type": "str"},
    "policy": {"type": "str", "choices": list(POLICIES), "default": BALANCED},
    "schedule": {"type": "dict", "options": SCHEDULE_OPTIONS},
    "allow_postcopy": {"type": "bool", "default": False},
    "link_mib_s": {"type": "float"},
}


class MigrateJob(Job[Found]):
    """source, dest: open connections. files_of_dest: where commands for the destination's files run."""

    def __init__(self, wish: Wish, source: Hypervisor, dest: Hypervisor, files_of_dest: Place) -> None:
        self.wish = wish
        self.ends = Ends(source, dest, files_of_dest)
        self.move: Optional[MovePlan] = None

    def observe(self) -> Found:
        return observe_ends(self.wish, self.ends)

    def plan(self, found: Found) -> Plan:
        self.move = plan_move(self.wish, found)
        return self.move.plan

    def apply(self, plan: Plan, found: Found) -> Mapping[str, Any]:
        # The loss of the terminal or of the controller is no reason to stop half-way: what has begun is ended here.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if self.move and self.move.how:
            return migrate_live.take(self.wish, self.ends, plan, found, self.move.how)
        return migrate_offline.take(self.wish, self.ends, plan, found)

    def report(self, plan: Plan, found: Found, outcome: Optional[Mapping[str, Any]]) -> Mapping[str, Any]:
        move = self.move
        told: Dict[str, Any] = {
            "name": self.wish.name,
            "source": found.source.side,
            "host": found.dest.side,
            "state": plan.after.get("state"),
            "mode": move.answer if move and plan.changes else None,
            "disks": [disk.as_dict() for disk in move.moves] if move else [],
            "concerns": [concern.as_dict() for concern in move.concerns] if move else [],
        }
        if move and move.how:
            told.update(move.how.as_dict())
        return dict(told, **(outcome or {}))


@contextlib.contextmanager
def _open(params: Mapping[str, Any]) -> Iterator[MigrateJob]:
    wish = read_wish(params)
    with connect(params["uri"], "the source") as here:
        source = Hypervisor(here.uri, here.conn.getHostname(), here.conn)
        if is_itself(wish, source.side):
            yield MigrateJob(wish, source, source, HERE)
            return
        with connect(wish.dest_uri, wish.host) as dest:
            yield MigrateJob(wish, source, dest, place_of(wish.dest_uri, wish.host))


def main() -> None:
    tell(Sentence(options=OPTIONS, open=_open, constraints={"required_one_of": [("host", "dest_uri")]}))
