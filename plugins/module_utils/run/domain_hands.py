# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hands of kvm_domain: takes the plan's steps, in order."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping

from ansible_collections.kvmops.fleet.plugins.module_utils.host import (
    definitions,
    disk_image,
    domains,
    lifecycle,
    live_change,
    pools,
    seed_image,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor
from ansible_collections.kvmops.fleet.plugins.module_utils.model.cloud_init import live_metadata
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_build_xml import build
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_found import DomainFound
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_patch_xml import bare_metadata_xml, patch
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import Wanted
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge, HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan, Step
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain import edits_of
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.shutdown import patience
from ansible_collections.kvmops.fleet.plugins.module_utils.run import domain_origin
from ansible_collections.kvmops.fleet.plugins.module_utils.run.domain_live import take_live

# One definition carries them all, so libvirt sees a change whole or not at all.
_DEFINING = ("persist", "edit", "redefine")

_LIFECYCLE: Dict[str, Callable[[Any, Wanted], None]] = {
    "start": lambda dom, wanted: lifecycle.start(dom),
    "restore": lambda dom, wanted: lifecycle.start(dom),
    "start_paused": lambda dom, wanted: lifecycle.start(dom, paused=True),
    "resume": lambda dom, wanted: lifecycle.resume(dom),
    "wake": lambda dom, wanted: lifecycle.wake(dom),
    "suspend": lambda dom, wanted: lifecycle.suspend(dom),
    "save": lambda dom, wanted: lifecycle.save(dom),
    "destroy": lambda dom, wanted: lifecycle.destroy(dom),
    "shutdown": lambda dom, wanted: lifecycle.shutdown(dom, patience(wanted), wanted.force),
    "wait_off": lambda dom, wanted: lifecycle.wait_off(dom, wanted.wait_timeout_s, wanted.force),
}


_ORIGIN: Dict[str, Callable[[Hypervisor, Wanted, Mapping[str, Any]], None]] = {
    "copy_disks": lambda hv, wanted, args: domain_origin.copy_disks(hv, args["clone"]),
    "copy_nvram": lambda hv, wanted, args: domain_origin.copy_nvram(args["from"], args["to"]),
    "define_copy": lambda hv, wanted, args: domain_origin.define_copy(hv, args["clone"]),
    "rename": lambda hv, wanted, args: domain_origin.rename(hv, args["from"], wanted.name, args["nvram"]),
}


def take(hv: Hypervisor, wanted: Wanted, plan: Plan, found: DomainFound) -> None:
    """Take every step. Raises HostError at the first that the host refuses, and says what was done before it."""
    taken: List[str] = []
    defined = False
    for step in plan.steps:
        try:
            if step.action not in _DEFINING:
                _take(hv, wanted, step)
            elif not defined:
                _redefine(hv, wanted, plan, found)
                defined = True
        except HostError as error:
            before = "Done before: %s." % "; ".join(taken) if taken else "Nothing was changed."
            remedy = " ".join(part for part in (error.remedy, before) if part)
            raise HostError(error.attempted, error.side, error.said, remedy) from error
        taken.append(step.words)


def _take(hv: Hypervisor, wanted: Wanted, step: Step) -> None:
    if step.action == "create_volume":
        volume = step.args["volume"]
        pools.create_volume(
            hv, volume.pool, volume.name, volume.capacity_bytes, volume.format, volume.backing, volume.backing_format
        )
    elif step.action in _ORIGIN:
        _ORIGIN[step.action](hv, wanted, step.args)
    elif step.action == "copy_image":
        args = step.args
        disk_image.make_from(args["image"], args["path"], args["format"], args["capacity_bytes"])
        pools.refresh(hv, args["pool"])
    elif step.action == "write_seed":
        place = step.args["place"]
        seed_image.write(step.args["tool"], step.args["seed"].texts, place.path)
        if place.pool is not None:
            pools.refresh(hv, place.pool)
    elif step.action == "define":
        _define(hv, wanted, step)
    elif step.action == "live":
        take_live(hv, _domain(hv, wanted), **step.args)
    elif step.action == "grow_volume":
        pools.grow_volume(hv, step.args["pool"], step.args["name"], step.args["capacity_bytes"])
    elif step.action == "grow_live":
        live_change.grow_disk(_domain(hv, wanted), step.args["target"], step.args["capacity_bytes"])
    elif step.action == "delete_volume":
        pools.delete_volume(hv, step.args["pool"], step.args["name"])
    elif step.action == "undefine":
        definitions.undefine(hv, _domain(hv, wanted))
    elif step.action == "autostart":
        definitions.set_autostart(_domain(hv, wanted), step.args["value"])
    else:
        _LIFECYCLE[step.action](_domain(hv, wanted), wanted)


def _define(hv: Hypervisor, wanted: Wanted, step: Step) -> None:
    if "xml" in step.args:
        definitions.define(hv, wanted.name, step.args["xml"])
    else:
        xml = build(step.args["name"], step.args["arch"], step.args["edits"], step.args["uuid"])
        definitions.define(hv, wanted.name, xml)


def _redefine(hv: Hypervisor, wanted: Wanted, plan: Plan, found: DomainFound) -> None:
    dom = _domain(hv, wanted)
    if any(step.action == "redefine" for step in plan.steps) and found.xml is not None:
        definitions.define(hv, wanted.name, found.xml)
        return
    edits = edits_of(plan.steps)
    definitions.define(hv, wanted.name, patch(domains.read_with_secrets(dom), edits))
    for edit in edits:
        if edit.name == "metadata" and found.live is not None:
            definitions.set_live_metadata(dom, bare_metadata_xml(live_metadata(edit.args["values"], found.live)))


def _domain(hv: Hypervisor, wanted: Wanted) -> Any:
    dom = domains.find(hv, wanted.name)
    if dom is None:
        raise CannotConverge("Changing domain %s" % wanted.name, "it went away meanwhile", "Run the task again")
    return dom
