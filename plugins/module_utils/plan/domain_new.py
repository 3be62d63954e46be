# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The first definition of a domain: every value the task gives, and our choice where it gives none."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Cpu, Domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_change import Change, Edit
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_found import DomainFound, HostView
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import Wanted
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import domain_fields
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.cloud_init import first_record
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_disks import disk_changes

# Can be migrated to any host that offers the same features; host-passthrough cannot.
KVM_CPU = Cpu(mode="host-model")
X86_MACHINE = "q35"


class FirstDefinition(NamedTuple):
    """words, args: of the step. shown: for the diff."""

    words: str
    args: Mapping[str, Any]
    shown: Mapping[str, Any]
    warnings: Tuple[str, ...] = ()


def first_definition(wanted: Wanted, found: DomainFound) -> FirstDefinition:
    if wanted.xml is not None:
        return _from_xml(wanted, found)
    kind, warnings = domain_type(wanted, found.host)
    arch = found.host.facts.arch
    machine = wanted.machine or (X86_MACHINE if arch == "x86_64" else None)
    devices = disk_changes(wanted.disks or (), None, found, machine) if wanted.disks else []
    devices += list(domain_fields.nic_changes(wanted.nics or (), ()))
    edits = _scalar_edits(wanted, kind, machine) + first_record(wanted, found) + [change.edit for change in devices]
    words = "define domain %s (%d MiB, %d vCPUs, %s)" % (wanted.name, wanted.memory_mib or 0, wanted.vcpus or 1, kind)
    args = {"name": wanted.name, "arch": arch, "uuid": wanted.uuid, "edits": tuple(edits)}
    return FirstDefinition(words, args, _shown(wanted, kind, machine, devices), warnings)


def _from_xml(wanted: Wanted, found: DomainFound) -> FirstDefinition:
    given: Optional[Domain] = found.xml_domain
    shown: Dict[str, Any] = {"name": wanted.name}
    if given is not None:
        shown.update(memory_mib=given.memory_mib, vcpus=given.vcpus, domain_type=given.type, machine=given.machine)
    return FirstDefinition("define domain %s from xml" % wanted.name, {"xml": found.xml}, shown)


def domain_type(wanted: Wanted, host: HostView) -> Tuple[str, Tuple[str, ...]]:
    """(type, warnings). KVM where guests boot under it; QEMU's emulation otherwise, said aloud."""
    if wanted.domain_type is not None:
        return wanted.domain_type, ()
    if host.kvm_works:
        return "kvm", ()
    types = host.facts.domain_types
    fallback = "qemu" if "qemu" in types or not types else types[-1]
    if fallback != "qemu":
        return fallback, ()
    why = "KVM of host %s does not work" if "kvm" in types else "host %s has no KVM"
    text = "Domain %s gets type qemu (emulated, slow): %s." % (wanted.name, why % host.facts.hostname)
    return fallback, (text,)


def _scalar_edits(wanted: Wanted, kind: str, machine: Optional[str]) -> List[Edit]:
    edits = [
        Edit("domain_type", {"kind": kind}),
        Edit("memory", {"mib": wanted.memory_mib, "ceiling_mib": wanted.max_memory_mib}),
        Edit("vcpus", {"count": wanted.vcpus or 1, "ceiling": wanted.max_vcpus}),
    ]
    if machine is not None:
        edits.append(Edit("machine", {"machine": machine}))
    cpu = wanted.cpu or (KVM_CPU if kind == "kvm" else None)
    if cpu is not None:
        edits.append(Edit("cpu", {"cpu": cpu}))
    if wanted.firmware == "efi":
        edits.append(Edit("firmware", {"kind": "efi"}))
    if wanted.boot is not None:
        edits.append(Edit("boot", {"boot": wanted.boot}))
    if wanted.graphics not in (None, "none"):
        edits.append(Edit("graphics", {"kind": wanted.graphics}))
    if wanted.tpm == "emulator":
        edits.append(Edit("tpm", {"kind": "emulator"}))
    if wanted.serial_log:
        edits.append(Edit("serial_log", {"path": wanted.serial_log}))
    values = {name: value for name, value in (wanted.metadata or {}).items() if value != ""}
    if values:
        edits.append(Edit("metadata", {"values": values}))
    return edits


def _shown(wanted: Wanted, kind: str, machine: Optional[str], devices: List[Change]) -> Dict[str, Any]:
    shown: Dict[str, Any] = {
        "name": wanted.name,
        "memory_mib": wanted.memory_mib,
        "vcpus": wanted.vcpus or 1,
        "domain_type": kind,
        "machine": machine,
    }
    for name in ("max_memory_mib", "max_vcpus", "firmware", "graphics", "tpm", "serial_log", "autostart"):
        value = getattr(wanted, name)
        if value is not None:
            shown[name] = value
    shown.update({change.key: change.after for change in devices})
    shown.update({"metadata." + name: value for name, value in (wanted.metadata or {}).items() if value})
    return shown
