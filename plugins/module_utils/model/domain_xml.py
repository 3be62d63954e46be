# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Domain XML, as libvirt prints it, into model/domain.py values."""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model import safe_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import (
    METADATA_NS,
    Boot,
    Cpu,
    Disk,
    Domain,
    Firmware,
    Nic,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import RequestError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.sizes import in_bytes, whole_number

_SOURCE_ATTRIBUTE = {"file": "file", "block": "dev", "dir": "dir", "vhostuser": "path", "vhostvdpa": "dev"}


def read_domain(xml: str, what: str = "domain XML") -> Domain:
    """Read one <domain>. Raises RequestError for anything that is not one."""
    root = safe_xml.parse(xml, what)
    problems = _problems(root, what)
    if problems:
        raise RequestError(problems)
    return domain_of(root)


def _problems(root: safe_xml.Element, what: str) -> List[str]:
    """What of it cannot be read at all."""
    if root.tag != "domain":
        return ["%s is a <%s>; give one complete <domain>" % (what, root.tag)]
    problems = []
    for tag in ("memory", "currentMemory"):
        node = root.find(tag)
        if node is not None and (node.text or "").strip() and _mib(node) is None:
            text, unit = (node.text or "").strip(), node.get("unit", "KiB")
            problems.append("%s: <%s> is %.60r %.20s; give a number and a unit such as MiB" % (what, tag, text, unit))
    vcpu = root.find("vcpu")
    for words, text in (("<vcpu>", _count(vcpu)), ("current of <vcpu>", None if vcpu is None else vcpu.get("current"))):
        if text is not None and whole_number(text) is None:
            problems.append("%s: %s is %.60r; give a number" % (what, words, text))
    return problems


def domain_of(root: safe_xml.Element) -> Domain:
    """The same from a parsed element."""
    vcpu = root.find("vcpu")
    return Domain(
        name=safe_xml.text_of(root, "name"),
        uuid=safe_xml.text_of(root, "uuid"),
        type=root.get("type", ""),
        memory_mib=_mib(root.find("memory")) or 0,
        current_memory_mib=_mib(root.find("currentMemory")),
        vcpus=whole_number(_count(vcpu)) or 1,
        current_vcpus=whole_number(vcpu.get("current", "")) if vcpu is not None else None,
        arch=_attribute(root, "os/type", "arch") or "x86_64",
        machine=_attribute(root, "os/type", "machine"),
        emulator=safe_xml.text_of(root, "devices/emulator") or None,
        firmware=_firmware(root),
        boot=Boot(*[safe_xml.text_of(root, "os/" + part) or None for part in ("kernel", "initrd", "cmdline")]),
        cpu=_cpu(root.find("cpu")),
        disks=tuple(_disk(node) for node in root.iterfind("devices/disk")),
        nics=tuple(_nic(node) for node in root.iterfind("devices/interface")),
        graphics=tuple(safe_xml.attributes(root, "devices/graphics", "type")),
        tpm=_attribute(root, "devices/tpm/backend", "type"),
        hostdevs=tuple(node.get("type", "") for node in root.iterfind("devices/hostdev")),
        filesystems=tuple(safe_xml.attributes(root, "devices/filesystem/target", "dir")),
        hugepages=root.find("memoryBacking/hugepages") is not None,
        metadata=_metadata(root),
        serial_log=_serial_log(root.find("devices/serial")),
    )


def _count(vcpu: safe_xml.Element) -> str:
    """How many CPUs, as it stands there; libvirt takes 1 when nothing does."""
    return "1" if vcpu is None else (vcpu.text or "").strip() or "1"


def _serial_log(serial: safe_xml.Element) -> Optional[str]:
    """Of the first serial line, which is the one that model/device_patch_xml.py writes."""
    log = serial.find("log") if serial is not None else None
    return log.get("file") if log is not None else None


def _attribute(root: safe_xml.Element, path: str, name: str) -> Optional[str]:
    found = safe_xml.attributes(root, path, name)
    return found[0] if found else None


def _mib(node: safe_xml.Element) -> Optional[int]:
    size = None if node is None else in_bytes(node.text or "", node.get("unit"))
    return None if size is None else -(-size // 1024**2)


def _firmware(root: safe_xml.Element) -> Firmware:
    loader = root.find("os/loader")
    nvram = root.find("os/nvram")
    named = root.find("os").get("firmware") if root.find("os") is not None else None
    pflash = loader is not None and loader.get("type") == "pflash"
    return Firmware(
        kind="efi" if named == "efi" or pflash else "bios",
        loader=(loader.text or "").strip() or None if loader is not None else None,
        nvram=((nvram.text or "").strip() or _attribute(nvram, "source", "file")) if nvram is not None else None,
        template=nvram.get("template") if nvram is not None else None,
    )


def _cpu(node: safe_xml.Element) -> Cpu:
    if node is None:
        return Cpu()
    return Cpu(
        mode=node.get("mode"),
        model=safe_xml.text_of(node, "model") or None,
        features=tuple(
            "%s=%s" % (feature.get("name"), feature.get("policy", "require")) for feature in node.iterfind("feature")
        ),
    )


def _disk(node: safe_xml.Element) -> Disk:
    driver = node.find("driver")
    return Disk(
        target=_attribute(node, "target", "dev") or "",
        bus=_attribute(node, "target", "bus"),
        device=node.get("device", "disk"),
        kind=node.get("type", "file"),
        source=source_of(node),
        format=driver.get("type") if driver is not None else None,
        cache=driver.get("cache") if driver is not None else None,
        discard=driver.get("discard") if driver is not None else None,
        readonly=node.find("readonly") is not None,
        shareable=node.find("shareable") is not None,
        serial=safe_xml.text_of(node, "serial") or None,
        optional=_attribute(node, "source", "startupPolicy") in ("optional", "requisite"),
        backing=_backing(node),
        boot_order=_number(_attribute(node, "boot", "order")),
    )


def _number(text: Optional[str]) -> Optional[int]:
    return int(text) if text is not None and text.isdigit() else None


def source_of(node: safe_xml.Element) -> Optional[str]:
    """The source of a <disk> or <backingStore> as one string; see Disk.source. None for an empty drive."""
    source = node.find("source")
    kind = node.get("type", "file")
    if source is None:
        return None
    if kind == "volume":
        return "%s/%s" % (source.get("pool"), source.get("volume"))
    if kind == "network":
        host = source.find("host")
        name, port = (host.get("name", ""), host.get("port")) if host is not None else ("", None)
        place = "%s:%s" % (name, port) if port else name
        return "%s://%s/%s" % (source.get("protocol"), place, (source.get("name") or "").lstrip("/"))
    if kind == "nvme":
        return _nvme(source)
    path: Optional[str] = source.get(_SOURCE_ATTRIBUTE.get(kind, kind))
    return path


def _nvme(source: safe_xml.Element) -> str:
    """The PCI address of the controller and the number of the namespace."""
    address = source.find("address")
    parts = [] if address is None else [address.get(part, "") for part in ("domain", "bus", "slot", "function")]
    return "%s/%s" % (":".join(part[2:] for part in parts), source.get("namespace"))


def _backing(node: safe_xml.Element) -> Tuple[str, ...]:
    chain = []
    below = node.find("backingStore")
    while below is not None and below.get("type"):
        chain.append(source_of(below) or "")
        below = below.find("backingStore")
    return tuple(chain)


def _nic(node: safe_xml.Element) -> Nic:
    source = node.find("source")
    kind = node.get("type", "")
    name = None
    if source is not None:
        name = source.get("network") or source.get("bridge") or source.get("dev")
        # A running guest on a network that is a bridge of the host is shown as what the network came to.
        kind = "network" if source.get("network") else kind
    return Nic(
        mac=_attribute(node, "mac", "address"),
        kind=kind,
        source=name,
        model=_attribute(node, "model", "type"),
        portgroup=source.get("portgroup") if source is not None else None,
        target=_attribute(node, "target", "dev"),
        link=_attribute(node, "link", "state"),
    )


def _metadata(root: safe_xml.Element) -> Dict[str, str]:
    fleet = root.find("metadata/{%s}fleet" % METADATA_NS)
    if fleet is None:
        return {}
    inner = [child for child in fleet if isinstance(child.tag, str)]
    return {child.tag.split("}")[-1]: (child.text or "").strip() for child in inner}
