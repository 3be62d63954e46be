# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kvm_p2v_image: the disks of a physical machine (running, booted from rescue media, or as files here) are images here."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import Any, Dict, Iterator, List, Mapping, Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.host import domain_list, p2v_agent, p2v_image
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor, connect
from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_agent import Agent
from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_folder import Folder, holding
from ansible_collections.kvmops.fleet.plugins.module_utils.host.pools import list_pools, refresh
from ansible_collections.kvmops.fleet.plugins.module_utils.host.progress_file import telling
from ansible_collections.kvmops.fleet.plugins.module_utils.host.run_key import authorised
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError, PreflightError, RequestError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import (
    CUTOVERS,
    NONE,
    POWEROFF,
    P2vFound,
    P2vWish,
    failed_in,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_course import COMMAND, DOMAIN, NOBODY
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_import import FORMATS
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_vm import VmWish, machine_of
from ansible_collections.kvmops.fleet.plugins.module_utils.model.progress import Progress
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v import head_of, plan_p2v, was_left
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_cold import installed
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_request import HOT, MODES
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_vm_request import read_wishes
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_way import Absence, why_absent
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_cold import OnePass
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_copy import Copier
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_import import disks_in_use, imported
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_look import Look, left_already, look
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_probe import Probed, probing
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_report import report
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_rounds import Rounds
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_vm import Vm
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_vm_options import VM_OPTIONS
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_world import World
from ansible_collections.kvmops.fleet.plugins.module_utils.run.probe_options import P2V_PROBE_OPTIONS
from ansible_collections.kvmops.fleet.plugins.module_utils.run.sentence import Job, Sentence, tell

MODULE = "kvm_p2v_image"
# The phase in which the action plugin starts the agent.
WAITING = "wait"
OPTIONS: Dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "source": {"type": "str"},
    "import_from": {
        "type": "list",
        "elements": "dict",
        "options": {
            "path": {"type": "str", "required": True},
            "format": {"type": "str", "required": True, "choices": list(FORMATS)},
            "disk": {"type": "str", "required": True},
        },
    },
    "pool": {"type": "str", "default": "default"},
    "format": {"type": "str", "choices": ["qcow2", "raw"], "default": "qcow2"},
    "mode": {"type": "str", "choices": list(MODES), "default": HOT},
    "disks": {"type": "list", "elements": "str"},
    "serials": {"type": "dict"},
    "cutover": {"type": "str", "choices": list(CUTOVERS), "default": NONE},
    "max_downtime_s": {"type": "float", "default": 10.0},
    # no_log: the name looks like a secret to Ansible.
    "max_passes": {"type": "int", "default": 20, "no_log": False},
    "services": {"type": "list", "elements": "str"},
    "takeover": {
        "type": "dict",
        "options": {
            "command": {"type": "list", "elements": "str", "required": True},
            "timeout_s": {"type": "float", "default": 300.0},
        },
    },
    "probe": {"type": "dict", "options": P2V_PROBE_OPTIONS},
    "connections": {"type": "int", "default": 2},
    "bandwidth_mib_s": {"type": "float"},
    "receiver": {"type": "str"},
    "connect_timeout_s": {"type": "float", "default": 60.0},
    "key": {"type": "str", "no_log": False},
    **VM_OPTIONS,
}


def facts_of(wish: P2vWish, found: P2vFound) -> Mapping[str, Any]:
    """What the source told of the machine that becomes a guest."""
    facts = found.source.facts if found.source else {}
    if wish.imports:
        return facts
    return installed(facts, {disk.name for disk in found.disks}) if wish.cold else facts


class P2vJob(Job[P2vFound]):
    """agent: None when the source has been left by an earlier run. For images of this host a LocalSource, which answers alike."""

    def __init__(
        self,
        wish: P2vWish,
        world: World,
        agent: Optional[Agent],
        hv: Optional[Hypervisor] = None,
        vm: Optional[VmWish] = None,
    ) -> None:
        self.wish, self.world, self.agent, self._hv = wish, world, agent, hv
        self.vm = Vm(vm or VmWish(wish.name), world, hv)
        self._look: Optional[Look] = None
        self._copies = False
        self._began = time.monotonic()

    def observe(self) -> P2vFound:
        if self.agent is None:
            self._look = Look(P2vFound(source=None, done=True), ())
        else:
            self._look = look(self.wish, self.world, self.agent)
        if not self.wish.gather_only:
            heads = left_already(self.wish, self.world) if self.agent is None else ()
            self._look.concerns += self.vm.look(
                self._look.found,
                facts_of(self.wish, self._look.found),
                heads,
                self.wish.cutover != NONE,
                not self.wish.imports,
            )
        return self._look.found

    def plan(self, found: P2vFound) -> Plan:
        plan = plan_p2v(self.wish, found, self._look.concerns if self._look else ())
        self._copies = bool(plan.steps)
        return plan if self.wish.gather_only else self.vm.plan(plan, self._copies)

    def _hold(self) -> None:
        """The source is to stand still until its images are a guest. Raises HostError when it has gone on, or is gone."""
        if self.agent is not None and self.wish.cold:
            self.agent.alive()
            return
        if self.agent is not None and not self.agent.alive() and self.wish.cutover != NONE and self._copies:
            raise HostError(
                "make a guest of %s" % self.wish.name,
                self.agent.side,
                "its watchdog thawed the filesystems before the guest was ready",
                "The source serves. Run again: what came is kept.",
            )

    def apply(self, plan: Plan, found: P2vFound) -> Optional[Mapping[str, Any]]:
        # The loss of the terminal or of the controller is no reason to stop half-way.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if self.agent is None or self._look is None or not self._copies:
            self.vm.make(self._hold)
            self.vm.settle()
            return None
        self.vm.retire()
        images = {
            disk.name: p2v_image.begin(
                self.world.paths(disk.name), self.wish.format, head_of(self.wish, disk, found.disks), disk.size
            )
            for disk in found.disks
        }
        copier = Copier(self.agent, images, self.world.nbd, self.world.name, self.world.tell)

        def publish() -> None:
            facts = facts_of(self.wish, found)
            for image in images.values():
                image.publish({"source": found.source.name if found.source else None, "machine": machine_of(facts)})
            # While the source stands still: when this fails, it goes on.
            self.vm.make(self._hold)
            self._hold()

        def mark_left(cutover: Optional[str]) -> None:
            for image in images.values():
                image.mark({"cutover": cutover})

        with probing(self.wish, self._successor) as probed:
            probed.begins()
            told = self._copied(copier, found, publish, mark_left, probed)
            self.vm.settle()
            seen = probed.told()
        if self._hv is not None:
            refresh(self._hv, self.wish.pool)
        seconds = time.monotonic() - self._began - probed.waited_s
        held = {name: image.manifest.bytes for name, image in images.items()}
        return dict(told, seconds=round(seconds, 3), held=held, seen=seen, spent=self._look.spent)

    @property
    def _successor(self) -> str:
        if self.wish.takeover is not None:
            return COMMAND
        return DOMAIN if self.wish.cutover == POWEROFF and self.vm.wish.starts else NOBODY

    def _copied(self, copier: Copier, found: P2vFound, publish: Any, mark_left: Any, probed: Probed) -> Dict[str, Any]:
        boot_id = self._look.boot_id if self._look else ""
        if self.wish.cold:
            once = OnePass(self.wish, found, copier.agent, copier, boot_id)
            once.go(found.differing, publish, mark_left)
            return once.as_dict()
        rounds = Rounds(self.wish, found, copier.agent, copier, boot_id, probed.mark)
        rounds.cut(rounds.approach(found.differing), publish, mark_left)
        return rounds.as_dict(self.vm.expected_s)

    def report(self, plan: Plan, found: P2vFound, outcome: Optional[Mapping[str, Any]]) -> Mapping[str, Any]:
        told = report(self.wish, self.world, found, self._look.concerns if self._look else (), outcome)
        stood_still = self.wish.cutover != NONE or bool(self.wish.imports)
        return dict(self.vm.summed(told, stood_still), **self.vm.report())


@contextlib.contextmanager
def _open(params: Mapping[str, Any]) -> Iterator[P2vJob]:
    wish, vm = read_wishes(params)
    with connect(params["uri"], "this host") as hv, holding(wish.name) as folder, telling(MODULE, wish.name) as told:
        world = _world(wish, hv, folder, told)
        if was_left(wish, left_already(wish, world)):  # type: ignore[arg-type]
            yield P2vJob(wish, world, None, hv, vm)
            return
        local = imported(wish, world, vm.domain, disks_in_use(hv)) if wish.imports else None
        with local or _agent(wish, folder, told) as agent:
            yield P2vJob(wish, world, agent, hv, vm)


def _world(wish: P2vWish, hv: Hypervisor, folder: Folder, told: Any) -> World:
    pools = {pool.name: pool for pool in list_pools(hv)}
    pool = pools.get(wish.pool)
    if pool is None or not pool.path or not pool.active:
        raise RequestError(
            [
                "pool is %s; it must be an active pool with a directory. There are: %s"
                % (wish.pool, ", ".join(pools) or "none")
            ]
        )
    users: Dict[str, List[str]] = {}
    for seen in domain_list.see_all(hv):
        for disk in seen.config.disks if seen.config else ():
            for path in (disk.source, *disk.backing):
                if path:
                    users.setdefault(path, []).append(seen.name)
    return World(wish.name, wish.format, pool.path, folder.nbd, told, users)


@contextlib.contextmanager
def _agent(wish: P2vWish, folder: Folder, told: Any) -> Iterator[Agent]:
    """The agent, while the block runs. Its key opens the way to it and is gone before the work begins."""
    with p2v_agent.listening(folder.socket) as server:
        command = ["/usr/bin/python3", "-I", folder.join, folder.socket]
        way = authorised(wish.key, command) if wish.key else contextlib.nullcontext()
        with way:
            told(Progress(wish.name, WAITING, 0.0, 0.0, 0.0, 0.0))
            agent = _awaited(server, wish, folder)
        try:
            yield agent
        finally:
            agent.bye()


def _awaited(server: Any, wish: P2vWish, folder: Folder) -> Agent:
    failed = failed_in(folder.path, wish.run)
    try:
        return p2v_agent.awaited(server, wish.run, wish.connections, wish.connect_timeout_s, failed)
    except p2v_agent.NotThere as error:
        absence = Absence(wish.source or wish.name, error.stage, error.said, error.address, error.port)
        raise PreflightError("Make an image of %s" % wish.name, [why_absent(absence)])


def main() -> None:
    tell(Sentence(options=OPTIONS, open=_open))
