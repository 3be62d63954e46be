# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The proof that a copied machine boots as a guest: a throw-away domain over throw-away overlays, without a link."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace
from typing import Any, Callable, Dict, Iterator, List, Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.host import boot_watch, definitions, domains, lifecycle
from ansible_collections.kvmops.fleet.plugins.module_utils.host.isolated_bridge import Bridge, isolated
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor
from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_vm_files import trial
from ansible_collections.kvmops.fleet.plugins.module_utils.model.boot_test_xml import without_link
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_build_xml import build
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import Wanted
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge, HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_vm import (
    AUTO,
    PORT,
    BootTest,
    VmFound,
    VmWish,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_new import first_definition
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_refusals import concerns
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_vm import neighbour_of, sign_of
from ansible_collections.kvmops.fleet.plugins.module_utils.run.domain_observe import look
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_vm_domain import VmDomain

LOGS = "/var/log/libvirt/qemu"
PULSE_S = 1.0


def name_of(wish: VmWish) -> str:
    return "%s.boot-test" % wish.domain_name


def end_left(wish: VmWish, found: VmFound, hv: Hypervisor) -> None:
    """The test of a run that died goes on, and its QEMU lets nobody write to the images. A domain of somebody else's stays."""
    if _is_trial(hv, name_of(wish), found):
        _clear(hv, name_of(wish), found)


def passed(
    wish: VmWish, found: VmFound, domain: VmDomain, hv: Optional[Hypervisor], look_at_source: Callable[[], Any]
) -> Dict[str, Any]:
    """{"sign", "seconds"}. Raises HostError with the last lines of the console when it did not boot."""
    test = wish.boot_test or BootTest()
    equipment = (found.record or {}).get("equipment") or {}
    sign, why = sign_of(wish, equipment)
    attempted = "Boot a copy of %s" % wish.domain_name
    if sign is None or hv is None:
        remedy = "Set fixup_options.serial_console, or install the guest agent on the physical machine"
        raise CannotConverge(attempted, "nothing would show that it has booted: %s" % why, remedy)
    name = name_of(wish)
    _clear(hv, name, found)
    wanted = _trial(domain.wanted(found, anew=True), found, name)
    boot_watch.forget(wanted.serial_log or "")
    try:
        with trial(found.disks), _beside(sign, domain, wanted, name) as bridge:
            dom = definitions.define(hv, name, _definition(hv, wanted, bridge))
            try:
                lifecycle.start(dom)
                answers = (lambda: bridge.answers(test.port or 0)) if bridge else (lambda: False)
                seconds, over = boot_watch.wait(
                    sign, dom, wanted.serial_log or "", test.timeout_s, look_at_source, answers
                )
                said = boot_watch.last_lines(wanted.serial_log or "")
            finally:
                _clear(hv, name, found)
    finally:
        boot_watch.forget(wanted.serial_log or "")
    if seconds is None:
        words = "%s. The last of its console: %s" % (over, said or "(nothing)")
        asked = "It was awaited by its %s. " % sign if test.wait_for == AUTO else ""
        raise HostError(attempted[0].lower() + attempted[1:], hv.side, words, asked + "The copy itself is as it was.")
    return {"sign": sign, "seconds": round(seconds, 1)}


@contextlib.contextmanager
def _beside(sign: str, domain: VmDomain, wanted: Wanted, name: str) -> Iterator[Optional[Bridge]]:
    """The bridge of a test that asks for a port; None for the others."""
    if sign != PORT:
        yield None
        return
    neighbour = neighbour_of(domain.cards, [nic.mac or "" for nic in wanted.nics or ()])
    if neighbour is None:
        found = "no card of the domain is known to have a static IPv4 address"
        raise CannotConverge("Boot a copy as domain %s" % name, found, "Wait for its console or its agent instead")
    with isolated(name, neighbour) as bridge:
        yield bridge


def _trial(wanted: Wanted, found: VmFound, name: str) -> Wanted:
    trials = {disk.overlay: disk.trial for disk in found.disks}
    disks = tuple(replace(disk, path=trials[disk.path or ""]) for disk in wanted.disks or ())
    return replace(
        wanted,
        name=name,
        uuid=None,
        disks=disks,
        serial_log="%s/%s.console" % (LOGS, name),
        autostart=None,
        metadata=None,
    )


def _definition(hv: Hypervisor, wanted: Wanted, bridge: Optional[Bridge]) -> str:
    seen = look(hv, wanted)
    problems = concerns(wanted, seen)
    if problems:
        found = "; ".join(each.detail for each in problems)
        raise CannotConverge("Boot a copy of %s" % wanted.name, found, problems[0].remedy)
    definition = first_definition(wanted, seen)
    xml = build(wanted.name, definition.args["arch"], definition.args["edits"], None)
    return without_link(xml, bridge.neighbour.mac, bridge.name) if bridge is not None else without_link(xml)


def _clear(hv: Hypervisor, name: str, found: VmFound) -> None:
    """Also what a run that died has left. Raises CannotConverge when a domain of that name is somebody else's."""
    dom = domains.find(hv, name)
    if dom is None:
        return
    if not _is_trial(hv, name, found):
        remedy = "Rename that domain, or give domain another name"
        raise CannotConverge(
            "Boot a copy as domain %s" % name, "a domain of that name is there, with other disks", remedy
        )
    if domains.status(dom).active:
        lifecycle.destroy(dom)
    definitions.undefine(hv, dom)


def _is_trial(hv: Hypervisor, name: str, found: VmFound) -> bool:
    dom = domains.find(hv, name)
    trials = {disk.trial for disk in found.disks}
    return dom is not None and trials.issuperset(disk.source for disk in domains.read(dom)[0].disks)


@contextlib.contextmanager
def pulsing(pulse: Callable[[], Any]) -> Iterator[Callable[[], None]]:
    """Calls pulse() beside the block, which says nothing itself for minutes.

    Gives what raises, in the block, what pulse raised; it is raised in any case when the block ends.
    """
    over = threading.Event()
    wrong: List[HostError] = []

    def beat() -> None:
        while not over.wait(PULSE_S):
            try:
                pulse()
            except HostError as error:
                wrong.append(error)
                return

    def look_at_it() -> None:
        if wrong:
            raise wrong[0]

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield look_at_it
    finally:
        over.set()
        thread.join()
    look_at_it()
