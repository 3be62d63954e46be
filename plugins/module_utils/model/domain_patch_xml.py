# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Change a domain's XML in place: every edit touches what it names and keeps the rest."""

from __future__ import annotations

from typing import Callable, Dict, Iterable, List, Mapping, Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.model import (
    device_patch_xml,
    disk_patch_xml,
    edit_xml,
    safe_xml,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.cloud_init import RECORD
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import METADATA_NS, Boot, Cpu
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_change import Edit
from ansible_collections.kvmops.fleet.plugins.module_utils.model.sizes import in_kib, whole_number

_PREFIX = "kvmops"


def patch(xml: str, edits: Iterable[Edit]) -> str:
    """The XML after the edits, in order."""
    root = safe_xml.parse(xml, "domain XML")
    for edit in edits:
        EDITS[edit.name](root, **edit.args)
    return safe_xml.render(root)


def _memory(root: safe_xml.Element, mib: int, ceiling_mib: Optional[int] = None) -> None:
    _set_memory(root, "memory", ceiling_mib or mib)
    _set_memory(root, "currentMemory", mib)


def _max_memory(root: safe_xml.Element, mib: int) -> None:
    now = root.find("currentMemory") if root.find("currentMemory") is not None else root.find("memory")
    now_kib = (in_kib(now.text or "", now.get("unit")) or 0) if now is not None else 0
    _set_memory(root, "memory", mib)
    _set_memory(root, "currentMemory", min(now_kib // 1024, mib) or mib)


def _set_memory(root: safe_xml.Element, tag: str, mib: int) -> None:
    node = edit_xml.get_or_add(root, tag, ("currentMemory", "vcpu", "os") if tag == "memory" else ("vcpu", "os"))
    if in_kib(node.text or "", node.get("unit")) != mib * 1024:
        node.set("unit", "MiB")
        node.text = str(mib)
        if tag == "memory":
            _share(root.findall("cpu/numa/cell"), mib * 1024 - _of_modules(root))


def _of_modules(root: safe_xml.Element) -> int:
    """KiB of the memory that is plugged in as devices: part of the domain's memory, and of no NUMA cell."""
    sizes = root.iterfind("devices/memory/target/size")
    return sum(in_kib(size.text or "", size.get("unit")) or 0 for size in sizes)


def _share(cells: List[safe_xml.Element], kib: int) -> None:
    """libvirt takes the sum of the NUMA cells for the domain's memory, so they grow and shrink with it."""
    old = [in_kib(cell.get("memory", ""), cell.get("unit")) or 0 for cell in cells]
    left = kib
    for index, (cell, size) in enumerate(zip(cells, old)):
        part = left if index == len(cells) - 1 else kib * size // (sum(old) or 1)
        cell.set("unit", "KiB")
        cell.set("memory", str(part))
        left -= part


def _vcpus(root: safe_xml.Element, count: int, ceiling: Optional[int] = None) -> None:
    node = edit_xml.get_or_add(root, "vcpu", ("os",))
    most, before = ceiling or count, whole_number(node.text or "")
    node.text = str(most)
    edit_xml.set_attribute(node, "current", None if most == count else str(count))
    cpu = root.find("cpu")
    if cpu is not None and before != most:
        _fit_topology(cpu, most)
        _fit_cells(cpu.findall("numa/cell[@cpus]"), most)
    edit_xml.drop(root, "vcpus")


def _max_vcpus(root: safe_xml.Element, count: int) -> None:
    node = edit_xml.get_or_add(root, "vcpu", ("os",))
    now = whole_number(node.get("current") or node.text or "") or count
    _vcpus(root, min(now, count), count)


def _fit_topology(cpu: safe_xml.Element, count: int) -> None:
    """libvirt refuses a topology that does not multiply to the number of vCPUs. The cores change with it: some systems
    use no more sockets than they are licensed for, and threads are told what they share.
    """
    topology = cpu.find("topology")
    if topology is None:
        return
    others = 1
    for part in ("sockets", "dies", "clusters", "threads"):
        others *= whole_number(topology.get(part, "1")) or 1
    if count % others:
        edit_xml.drop(cpu, "topology")
    else:
        topology.set("cores", str(count // others))


def _fit_cells(cells: List[safe_xml.Element], count: int) -> None:
    """Every vCPU is in a NUMA cell, and no other number is: libvirt refuses more, and warns of less."""
    start = 0
    for index, cell in enumerate(cells, 1):
        end = count * index // len(cells)
        edit_xml.set_attribute(cell, "cpus", "%d-%d" % (start, end - 1) if end > start else None)
        start = end


def _domain_type(root: safe_xml.Element, kind: str) -> None:
    root.set("type", kind)


def _machine(root: safe_xml.Element, machine: str) -> None:
    root.find("os/type").set("machine", machine)


def _firmware(root: safe_xml.Element, kind: str) -> None:
    os_element = root.find("os")
    # Loader and variable store belong to the old firmware; libvirt chooses new ones.
    for tag in ("loader", "nvram", "firmware"):
        edit_xml.drop(os_element, tag)
    edit_xml.set_attribute(os_element, "firmware", "efi" if kind == "efi" else None)


def _boot(root: safe_xml.Element, boot: Boot) -> None:
    for tag, value in (("kernel", boot.kernel), ("initrd", boot.initrd), ("cmdline", boot.cmdline)):
        if value is not None:
            edit_xml.set_text(root.find("os"), tag, value)


def _cpu(root: safe_xml.Element, cpu: Cpu) -> None:
    node = edit_xml.get_or_add(root, "cpu", ("clock", "on_poweroff", "devices"))
    for tag in ("model", "feature", "vendor"):
        edit_xml.drop(node, tag)
    for name in ("match", "check", "migratable"):
        edit_xml.set_attribute(node, name, None)
    if cpu.mode not in ("host-passthrough", "maximum"):
        # The host's own caches are only for the host's own CPU.
        for cache in node.findall("cache[@mode='passthrough']"):
            node.remove(cache)
    edit_xml.set_attribute(node, "mode", cpu.mode)
    if cpu.mode == "custom":
        node.set("match", "exact")
        node.insert(0, edit_xml.new(node, "model", {"fallback": "forbid"}, cpu.model or ""))
    for feature in cpu.features:
        name, policy = feature.split("=", 1)
        edit_xml.add(node, "feature", {"policy": policy, "name": name})


def _metadata(root: safe_xml.Element, values: Mapping[str, str]) -> None:
    metadata = edit_xml.get_or_add(root, "metadata", ("memory", "currentMemory", "vcpu", "os"))
    edit_xml.drop(metadata, "{%s}fleet" % METADATA_NS)
    if values:
        metadata.append(safe_xml.parse(metadata_xml(values)))
    if not len(metadata):
        edit_xml.drop(root, "metadata")


def _seed_record(root: safe_xml.Element, record: str) -> None:
    """What the domain remembers of its cloud-init seed, beside the values of the user. Empty: nothing any more."""
    metadata = edit_xml.get_or_add(root, "metadata", ("memory", "currentMemory", "vcpu", "os"))
    fleet = metadata.find("{%s}fleet" % METADATA_NS)
    if fleet is None:
        metadata.append(safe_xml.parse(metadata_xml({RECORD: record})))
    else:
        edit_xml.set_text(fleet, "{%s}%s" % (METADATA_NS, RECORD), record)


def metadata_xml(values: Mapping[str, str]) -> str:
    """The element we keep under <metadata>."""
    root = safe_xml.parse("<%s:fleet xmlns:%s='%s'/>" % (_PREFIX, _PREFIX, METADATA_NS))
    for name in sorted(values):
        edit_xml.add(root, "{%s}%s" % (METADATA_NS, name), text=values[name])
    return safe_xml.render(root)


def bare_metadata_xml(values: Mapping[str, str]) -> str:
    """The same for virDomainSetMetadata, which puts the namespace in by itself and refuses one that is there."""
    root = safe_xml.parse("<fleet/>")
    for name in sorted(values):
        edit_xml.add(root, name, text=values[name])
    return safe_xml.render(root)


EDITS: Dict[str, Callable[..., None]] = {
    "memory": _memory,
    "max_memory": _max_memory,
    "vcpus": _vcpus,
    "max_vcpus": _max_vcpus,
    "domain_type": _domain_type,
    "machine": _machine,
    "firmware": _firmware,
    "boot": _boot,
    "cpu": _cpu,
    "metadata": _metadata,
    "seed_record": _seed_record,
    "disk_add": disk_patch_xml.add_disk,
    "disk_set": disk_patch_xml.set_disk,
    "disk_drop": disk_patch_xml.drop_disk,
    "nic_add": device_patch_xml.add_nic,
    "nic_set": device_patch_xml.set_nic,
    "nic_drop": device_patch_xml.drop_nic,
    "graphics": device_patch_xml.set_graphics,
    "tpm": device_patch_xml.set_tpm,
    "serial_log": device_patch_xml.set_serial_log,
}
