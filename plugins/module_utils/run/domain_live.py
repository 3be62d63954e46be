# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hands of kvm_domain for a guest that runs: first the guest, then its definition, one change at a time.

A change that the guest does not take leaves the definition as it is, so that the two do not part.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.host import definitions, domains, live_change
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_change import Edit
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_patch_xml import patch
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.hotplug_xml import (
    SCSI_CONTROLLER,
    alias_of,
    as_plugged,
    device_xml,
    macs,
    read_room,
    to_plug,
)

DISK, CARD = "disk", "interface"


def take_live(hv: Hypervisor, dom: Any, edit: Edit, config: Optional[Edit], persistent: bool) -> None:
    """Change the running guest by `edit`, then its definition, where it has one, by `config`. Raises HostError."""
    definition = domains.read_with_secrets(dom)
    after = patch(definition, [config]) if config is not None else definition
    after = _LIVE[edit.name](dom, after, edit.args)
    if config is not None and persistent:
        definitions.define(hv, dom.name(), after)


def _memory(dom: Any, definition: str, args: Mapping[str, Any]) -> str:
    domain = domains.read(dom, inactive=False)[0]
    lost = domain.memory_now_mib - args["mib"]
    spare = live_change.spare_mib(dom) if lost > 0 else None
    if spare is not None and spare < lost:
        raise HostError(
            "take %d MiB of memory from domain %s while it runs" % (lost, dom.name()),
            domains.side_of(dom),
            "the guest says that it can spare %d MiB" % spare,
            live_change.LATER,
        )
    live_change.set_memory(dom, args["mib"])
    return definition


def _vcpus(dom: Any, definition: str, args: Mapping[str, Any]) -> str:
    live_change.set_vcpus(dom, args["count"])
    return definition


def _disk_add(dom: Any, definition: str, args: Mapping[str, Any]) -> str:
    disk, live = args["disk"], domains.live_xml(dom)
    if disk.bus == "scsi" and not read_room(live).scsi:
        live_change.attach(dom, "a SCSI controller", SCSI_CONTROLLER)
        live = domains.live_xml(dom)
    live_change.attach(dom, "disk %s" % disk.target, to_plug(definition, DISK, disk.target, live))
    return as_plugged(definition, DISK, disk.target, domains.live_xml(dom), disk.target)


def _disk_drop(dom: Any, definition: str, args: Mapping[str, Any]) -> str:
    _detach(dom, DISK, args["target"], "disk %s" % args["target"])
    return definition


def _disk_set(dom: Any, definition: str, args: Mapping[str, Any]) -> str:
    """Another medium, or none."""
    given = patch(domains.live_xml(dom, as_given=True), [Edit("disk_set", args)])
    live_change.update(dom, "the medium of drive %s" % args["target"], device_xml(given, DISK, args["target"]))
    return definition


def _nic_add(dom: Any, definition: str, args: Mapping[str, Any]) -> str:
    mac = args["nic"].mac
    before = domains.live_xml(dom)
    live_change.attach(dom, "a network card", to_plug(definition, CARD, mac, before))
    live = domains.live_xml(dom)
    new = [one for one in macs(live) if one not in macs(before)]
    return as_plugged(definition, CARD, mac, live, mac or new[0])


def _nic_drop(dom: Any, definition: str, args: Mapping[str, Any]) -> str:
    _detach(dom, CARD, args["mac"], "network card %s" % args["mac"])
    return definition


def _nic_set(dom: Any, definition: str, args: Mapping[str, Any]) -> str:
    given = patch(domains.live_xml(dom, as_given=True), [Edit("nic_set", args)])
    live_change.update(dom, "network card %s" % args["mac"], device_xml(given, CARD, args["mac"]))
    return definition


def _detach(dom: Any, kind: str, key: str, what: str) -> None:
    alias = alias_of(domains.live_xml(dom), kind, key)
    if alias is not None:
        live_change.detach(dom, what, alias)


_LIVE: Dict[str, Callable[[Any, str, Mapping[str, Any]], str]] = {
    "memory": _memory,
    "vcpus": _vcpus,
    "disk_add": _disk_add,
    "disk_drop": _disk_drop,
    "disk_set": _disk_set,
    "nic_add": _nic_add,
    "nic_drop": _nic_drop,
    "nic_set": _nic_set,
}
