# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kvm_snapshot: the snapshot is there, is gone, or is what the domain goes back to."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, Mapping

from ansible_collections.kvmops.fleet.plugins.module_utils.host import domains, snapshots
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor, connect
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.snapshot import (
    AUTO,
    EXTERNAL,
    KINDS,
    PRESENT,
    STATES,
    SnapshotFound,
    SnapshotWish,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.snapshot_xml import agent_is_connected, write_snapshot
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan, Step
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.snapshot import plan_snapshot
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.snapshot_request import wanted_snapshot
from ansible_collections.kvmops.fleet.plugins.module_utils.run.sentence import Job, Sentence, tell

OPTIONS: Dict[str, Any] = {
    "name": {"type": "str", "required": True, "aliases": ["guest"]},
    "snapshot": {"type": "str", "required": True},
    "state": {"type": "str", "default": PRESENT, "choices": list(STATES)},
    "kind": {"type": "str", "default": AUTO, "choices": list(KINDS)},
    "quiesce": {"type": "bool", "default": False},
    "description": {"type": "str"},
    "keep": {"type": "int"},
    "keep_names": {"type": "str"},
}


class SnapshotJob(Job[SnapshotFound]):
    """One domain on one connection."""

    def __init__(self, hv: Hypervisor, wish: SnapshotWish) -> None:
        self.hv, self.wish = hv, wish

    def observe(self) -> SnapshotFound:
        dom = domains.find(self.hv, self.wish.domain)
        if dom is None:
            return SnapshotFound(None, None, (), False, self.hv.libvirt_version)
        status = domains.status(dom)
        config, xml = domains.read(dom, inactive=not status.active)
        agent = status.active and agent_is_connected(xml)
        return SnapshotFound(config, status, snapshots.read_all(dom), agent, self.hv.libvirt_version)

    def plan(self, found: SnapshotFound) -> Plan:
        return plan_snapshot(self.wish, found)

    def apply(self, plan: Plan, found: SnapshotFound) -> None:
        for step in plan.steps:
            self._take(step)

    def _take(self, step: Step) -> None:
        dom = domains.find(self.hv, self.wish.domain)
        if dom is None:
            raise HostError(step.words, self.hv.side, "the domain is gone", "Look at the host, then run again.")
        if step.action == "take":
            args = step.args
            xml = write_snapshot(args["name"], args["description"], args["kind"], args["disks"], args["left_out"])
            snapshots.take(dom, xml, args["kind"] == EXTERNAL, args["quiesce"])
        elif step.action == "delete":
            snapshots.delete(dom, step.args["name"])
        else:
            snapshots.revert(dom, step.args["name"])

    def report(self, plan: Plan, found: SnapshotFound, outcome: Any) -> Mapping[str, Any]:
        dom = domains.find(self.hv, self.wish.domain)
        every = snapshots.read_all(dom) if dom is not None else ()
        told = {each.name: each.as_dict() for each in every}
        return {
            "snapshot": told.get(self.wish.snapshot),
            "snapshots": list(told.values()),
            "domain_state": domains.status(dom).state if dom is not None else None,
        }


@contextlib.contextmanager
def _open(params: Mapping[str, Any]) -> Iterator[SnapshotJob]:
    wish = wanted_snapshot(params)
    with connect(params["uri"]) as hv:
        yield SnapshotJob(hv, wish)


def main() -> None:
    tell(Sentence(options=OPTIONS, open=_open))
