# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kvm_domain: the domain is as described."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, List, Mapping, Optional, Union

from ansible_collections.kvmops.fleet.plugins.module_utils.host import domains
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor, connect
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_diff_xml import differences
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_found import DomainFound
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_merge_xml import merge
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_result import domain_result
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import STATES, Wanted
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_xml import read_domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.source_image import FORMATS
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain import plan_domain
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_request import wanted_domain
from ansible_collections.kvmops.fleet.plugins.module_utils.run.domain_hands import take
from ansible_collections.kvmops.fleet.plugins.module_utils.run.domain_observe import look
from ansible_collections.kvmops.fleet.plugins.module_utils.run.domain_set import DomainSetJob, read_set
from ansible_collections.kvmops.fleet.plugins.module_utils.run.sentence import Job, Sentence, tell

_BACKING: Dict[str, Any] = {
    "name": {"type": "str"},
    "path": {"type": "path"},
    "format": {"type": "str", "required": True, "choices": ["qcow2", "raw", "vmdk", "vdi", "vhdx", "vpc", "qed"]},
}

_IMAGE: Dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "format": {"type": "str", "required": True, "choices": list(FORMATS)},
    "checksum": {"type": "str"},
}

_DISK: Dict[str, Any] = {
    "pool": {"type": "str"},
    "name": {"type": "str"},
    "path": {"type": "path"},
    "source": {"type": "str"},
    "format": {"type": "str", "choices": ["qcow2", "raw", "vmdk", "vdi", "vhdx", "vpc", "qed"]},
    "size_mib": {"type": "int"},
    "device": {"type": "str", "default": "disk", "choices": ["disk", "cdrom", "floppy", "lun"]},
    "bus": {"type": "str", "choices": ["virtio", "sata", "scsi", "ide", "usb", "fdc"]},
    "target": {"type": "str"},
    "readonly": {"type": "bool"},
    "shareable": {"type": "bool"},
    "cache": {"type": "str", "choices": ["default", "none", "writethrough", "writeback", "directsync", "unsafe"]},
    "discard": {"type": "str", "choices": ["ignore", "unmap"]},
    "serial": {"type": "str"},
    "backing": {"type": "dict", "options": _BACKING},
    "image": {"type": "dict", "options": _IMAGE},
}

_NETWORK: Dict[str, Any] = {
    "bridge": {"type": "str"},
    "network": {"type": "str"},
    "mac": {"type": "str"},
    "model": {"type": "str"},
    "link": {"type": "str", "choices": ["up", "down"]},
}

_CLOUD_INIT: Dict[str, Any] = {
    "user_data": {"type": "raw"},
    "meta_data": {"type": "raw"},
    "network_config": {"type": "raw"},
    "pool": {"type": "str"},
    "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
}

OPTIONS: Dict[str, Any] = {
    "name": {"type": "str", "aliases": ["guest"]},
    # Ansible itself may refuse a task before anybody has looked into the entries.
    "domains": {"type": "list", "elements": "dict", "no_log": True},
    "parallel": {"type": "int", "default": 4},
    "state": {"type": "str", "default": "present", "choices": list(STATES)},
    "rename_from": {"type": "str"},
    "clone_from": {
        "type": "dict",
        "options": {"name": {"type": "str", "required": True}, "pool": {"type": "str"}},
    },
    "xml": {"type": "str"},
    "uuid": {"type": "str"},
    "domain_type": {"type": "str", "default": "auto", "choices": ["auto", "kvm", "qemu"]},
    "memory_mib": {"type": "int"},
    "max_memory_mib": {"type": "int"},
    "vcpus": {"type": "int"},
    "max_vcpus": {"type": "int"},
    "cpu": {"type": "raw"},
    "machine": {"type": "str"},
    "firmware": {"type": "str", "choices": ["bios", "efi"]},
    "boot": {
        "type": "dict",
        "options": {"kernel": {"type": "str"}, "initrd": {"type": "str"}, "cmdline": {"type": "str"}},
    },
    "disks": {"type": "list", "elements": "dict", "options": _DISK},
    "networks": {"type": "list", "elements": "dict", "options": _NETWORK},
    "graphics": {"type": "str", "choices": ["none", "vnc", "spice"]},
    "tpm": {"type": "str", "choices": ["none", "emulator"]},
    "serial_log": {"type": "str"},
    "metadata": {"type": "dict"},
    "cloud_init": {"type": "dict", "options": _CLOUD_INIT, "no_log": True},
    "autostart": {"type": "bool"},
    "apply": {"type": "str", "default": "live", "choices": ["live", "next_boot"]},
    "force": {"type": "bool", "default": False},
    "shutdown": {
        "type": "dict",
        "options": {"agent_timeout_s": {"type": "int"}, "acpi_timeout_s": {"type": "int"}},
    },
    "wait_timeout": {"type": "int", "default": 120},
    "remove_storage": {"type": "bool", "default": False},
}


class DomainJob(Job[DomainFound]):
    """One domain on one connection."""

    def __init__(self, hv: Hypervisor, wanted: Wanted) -> None:
        self.hv, self.wanted = hv, wanted

    def observe(self) -> DomainFound:
        return look(self.hv, self.wanted)

    def plan(self, found: DomainFound) -> Plan:
        return plan_domain(self.wanted, found)

    def apply(self, plan: Plan, found: DomainFound) -> bool:
        take(self.hv, self.wanted, plan, found)
        return True

    def report(self, plan: Plan, found: DomainFound, outcome: Any) -> Mapping[str, Any]:
        return _report(self.hv, self.wanted, plan, found, outcome)


def _report(
    hv: Hypervisor, wanted: Wanted, plan: Plan, found: Optional[DomainFound], outcome: Any
) -> Mapping[str, Any]:
    waiting = list(plan.facts.get("pending_changes", ()))
    result: Dict[str, Any] = {"domain": None, "pending": bool(waiting), "pending_changes": waiting}
    dom = domains.find(hv, wanted.name)
    if dom is not None:
        config, xml = domains.read(dom)
        result["domain"] = domain_result(config, domains.status(dom))
        if outcome and found is not None and found.xml is not None:
            result["warnings"] = _not_kept(wanted.name, merge(found.xml, xml), xml)
    return result


def _not_kept(name: str, given: str, kept: str) -> List[str]:
    """libvirt silently drops what it does not know; every later run would try again."""
    dropped = [change.words for change in differences(given, kept)]
    if not dropped:
        return []
    text = "libvirt does not keep all of xml for domain %s: %s. Correct xml by what virsh dumpxml %s shows."
    return [text % (name, "; ".join(dropped), name)]


def _wanted(params: Mapping[str, Any]) -> Wanted:
    return wanted_domain(params, read_domain(params["xml"], "xml") if params["xml"] is not None else None)


@contextlib.contextmanager
def _open(params: Mapping[str, Any]) -> Iterator[Union[DomainJob, DomainSetJob]]:
    if params["domains"] is None:
        wanted = _wanted(params)
        with connect(params["uri"]) as hv:
            yield DomainJob(hv, wanted)
        return
    every = read_set(params, OPTIONS, _wanted)
    with connect(params["uri"]) as hv:
        yield DomainSetJob(hv, every, params["parallel"], _report)


SENTENCE = Sentence(
    options=OPTIONS,
    open=_open,
    secret=("cloud_init",),
    constraints={"mutually_exclusive": [("name", "domains")], "required_one_of": [("name", "domains")]},
)


def main() -> None:
    tell(SENTENCE)
