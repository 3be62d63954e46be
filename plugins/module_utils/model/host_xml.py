# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Capabilities, domain capabilities, network and interface XML into model/host.py values."""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model import safe_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.host import DomainOffer, Emulator

_TYPES_BEST_FIRST = ("kvm", "hvf", "qemu", "xen", "test", "lxc")


def read_capabilities(xml: str) -> Dict[str, Any]:
    """The parts of <capabilities> that HostFacts needs, by its field names."""
    root = safe_xml.parse(xml, "capabilities")
    cpu = root.find("host/cpu")
    return dict(
        host_uuid=safe_xml.text_of(root, "host/uuid"),
        arch=safe_xml.text_of(root, "host/cpu/arch"),
        cpu_model=safe_xml.text_of(root, "host/cpu/model") or None,
        cpu_xml=safe_xml.render(cpu) if cpu is not None else "",
        iommu=(_attribute(root, "host/iommu", "support") == "yes"),
        emulators=tuple(_emulator(guest) for guest in root.iterfind("guest") if guest.find("arch") is not None),
    )


def _attribute(root: safe_xml.Element, path: str, name: str) -> Optional[str]:
    found = safe_xml.attributes(root, path, name)
    return found[0] if found else None


def _emulator(guest: safe_xml.Element) -> Emulator:
    arch = guest.find("arch")
    types = set(safe_xml.attributes(arch, "domain", "type"))
    machines: Dict[str, str] = {}
    for node in arch.iter("machine"):
        name = (node.text or "").strip()
        machines[name] = node.get("canonical") or machines.get(name, name)
    return Emulator(
        arch=arch.get("name", ""),
        path=safe_xml.text_of(arch, "emulator"),
        domain_types=tuple(kind for kind in _TYPES_BEST_FIRST if kind in types),
        machines=machines,
    )


def read_domain_capabilities(xml: str) -> DomainOffer:
    root = safe_xml.parse(xml, "domain capabilities")
    firmwares = _values(root, "os/enum[@name='firmware']")
    return DomainOffer(
        domain_type=safe_xml.text_of(root, "domain"),
        arch=safe_xml.text_of(root, "arch"),
        machine=safe_xml.text_of(root, "machine"),
        emulator=safe_xml.text_of(root, "path"),
        max_vcpus=int(_attribute(root, "vcpu", "max") or 0) or None,
        # SeaBIOS comes with QEMU and needs no descriptor, so libvirt does not list it on every release.
        firmwares=tuple(sorted(set(firmwares) | {"bios"})),
        cpu_modes=tuple(node.get("name") for node in root.iterfind("cpu/mode") if node.get("supported") == "yes"),
        cpu_models={
            (node.text or "").strip(): node.get("usable") != "no"
            for node in root.iterfind("cpu/mode[@name='custom']/model")
        },
        tpm_backends=_values(root, "devices/tpm[@supported='yes']/enum[@name='backendModel']"),
    )


def _values(root: safe_xml.Element, path: str) -> Tuple[str, ...]:
    return tuple((node.text or "").strip() for node in root.iterfind(path + "/value"))


def network_parts(xml: str) -> Tuple[Optional[str], Optional[str]]:
    """(bridge, forward mode) of a <network>."""
    root = safe_xml.parse(xml, "network XML")
    forward = root.find("forward")
    mode = None if forward is None else str(forward.get("mode") or "nat")
    return _attribute(root, "bridge", "name"), mode


def is_bridge(xml: str) -> bool:
    """Whether an <interface> of the host is a bridge."""
    return bool(safe_xml.parse(xml, "interface XML").get("type") == "bridge")


def tsc_hz(xml: str) -> Optional[int]:
    """Pace of the CPU's clock counter, from the host's capabilities."""
    found = _attribute(safe_xml.parse(xml, "capabilities"), "host/cpu/counter[@name='tsc']", "frequency")
    return int(found) if found else None


def page_sizes(xml: str) -> Dict[int, int]:
    """Size in KiB of each kind of memory page -> number of NUMA cells that have it, from the host's capabilities."""
    root = safe_xml.parse(xml, "capabilities")
    sizes: Dict[int, int] = {}
    for size in safe_xml.attributes(root, "host/topology/cells/cell/pages", "size"):
        sizes[int(size)] = sizes.get(int(size), 0) + 1
    return sizes or {int(size): 1 for size in safe_xml.attributes(root, "host/cpu/pages", "size")}
