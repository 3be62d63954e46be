# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tasks about a domain as it was found: what a person would write to describe it, and one option of that changed."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Disk, Domain, DomainStatus
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_found import DomainFound
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_xml import read_domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.host import HostNetwork
from ansible_collections.kvmops.fleet.plugins.module_utils.model.storage import Pool
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.disk_request import PROTOCOLS
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.plan.domain_ends import UUID, host_of

Options = Dict[str, Any]
OTHER_NETWORK = "other"
OTHER_BRIDGE = "br9"


class OneChange(NamedTuple):
    """options: of the task. key: what changes, as in a plan's diff. places: patterns of where that stands in the XML."""

    options: Options
    key: str
    places: Tuple[str, ...]


class _Everything(Dict[str, bool]):
    """Every path exists."""

    def get(self, key: str, default: Any = None) -> bool:
        return True


def found(xml: str) -> DomainFound:
    """A domain that is off, on a host that has all that it names."""
    config = read_domain(xml)
    host = host_of({"memory_total_mib": 1024 * 1024})
    names = {nic.source for nic in config.nics if nic.kind == "network"} | {OTHER_NETWORK}
    networks = [HostNetwork(name, UUID, True, True, True, "virbr0", "nat") for name in sorted(names - {None})]
    pools = {"default"} | {disk.source.split("/")[0] for disk in config.disks if disk.kind == "volume" and disk.source}
    machines = {"q35": "pc-q35-10.0", "pc": "pc-i440fx-10.0", "isapc": "isapc"}
    machines.update({name: name for name in (*machines.values(), "pc-q35-7.1", config.machine or "q35")})
    emulators = tuple(replace(one, machines=machines) for one in host.facts.emulators)
    host = replace(
        host,
        facts=replace(host.facts, emulators=emulators),
        networks=tuple(networks),
        pools=tuple(Pool(name, UUID, "dir", "/srv/pools/" + name, True, True, 10000, 9000) for name in sorted(pools)),
        bridges=None,
    )
    return DomainFound(
        host=host, status=DomainStatus("shutoff", persistent=True), config=config, paths=_Everything({"": True})
    )


def as_it_is(domain: Domain) -> Options:
    """Every option that can say what is there. What options cannot say (an RBD disk, a macvtap card) is not said."""
    options: Options = {
        "name": domain.name,
        "uuid": domain.uuid,
        "domain_type": domain.type,
        "memory_mib": domain.memory_now_mib,
        "max_memory_mib": domain.memory_mib,
        "vcpus": domain.vcpus_now,
        "max_vcpus": domain.vcpus,
        "machine": domain.machine,
        "firmware": domain.firmware.kind,
        "boot": {part: getattr(domain.boot, part) or "" for part in ("kernel", "initrd", "cmdline")},
        "serial_log": domain.serial_log or "",
        "metadata": dict(domain.metadata),
        "autostart": False,
    }
    if domain.cpu.mode is not None:
        features = {"features": list(domain.cpu.features)} if domain.cpu.features else {}
        options["cpu"] = {"mode": domain.cpu.mode, "model": domain.cpu.model, **features}
    if (domain.tpm or "none") in ("none", "emulator"):
        options["tpm"] = domain.tpm or "none"
    if len(domain.graphics) < 2 and (domain.graphics or ("none",))[0] in ("none", "vnc", "spice"):
        options["graphics"] = (domain.graphics or ("none",))[0]
    disks = [_disk(disk) for disk in domain.disks]
    if None not in disks:
        options["disks"] = disks
    if all(nic.kind in ("bridge", "network") for nic in domain.nics):
        options["networks"] = [{nic.kind: nic.source, "mac": nic.mac, "model": nic.model} for nic in domain.nics]
    return options


def _disk(disk: Disk) -> Optional[Options]:
    same = ("format", "device", "bus", "target", "readonly", "shareable", "cache", "discard", "serial")
    said = {name: getattr(disk, name) for name in same if getattr(disk, name) is not None}
    if disk.kind == "volume" and disk.source is not None:
        pool, name = disk.source.split("/", 1)
        return {**said, "pool": pool, "name": name}
    if disk.kind == "network":
        sayable = re.match(r"^(%s)://[^/]+/." % "|".join(PROTOCOLS), disk.source or "")
        return {**said, "source": disk.source} if sayable else None
    if disk.kind not in ("file", "block", "dir"):
        return None
    if disk.source is None:
        return said if disk.device in ("cdrom", "floppy") else None
    return {**said, "path": disk.source}


def one_changed(domain: Domain) -> Iterator[OneChange]:
    """Each option in turn with another value than the domain's."""
    name = {"name": domain.name}
    for change in (*_scalars(domain), *_disks(domain), *_cards(domain)):
        yield change._replace(options={**name, **change.options})


def _scalars(domain: Domain) -> Iterator[OneChange]:
    memory = (r"memory|memory@unit|currentMemory|currentMemory@unit|cpu/numa/cell( \d+)?@(memory|unit)",)
    yield OneChange({"memory_mib": domain.memory_mib + 1024}, "memory_mib", memory)
    vcpus = (r"vcpu|vcpu@current|cpu/topology.*|vcpus.*|cpu/numa/cell( \d+)?@cpus",)
    yield OneChange({"vcpus": domain.vcpus * 2}, "vcpus", vcpus)
    yield OneChange({"vcpus": domain.vcpus + 1}, "vcpus", vcpus)
    if domain.vcpus > 1:
        yield OneChange({"vcpus": domain.vcpus - 1}, "vcpus", vcpus)
    yield OneChange({"domain_type": "kvm"}, "domain_type", (r"@type",))
    cpu = (r"cpu|cpu@(mode|match|check|migratable)|cpu/(model|vendor|feature|cache).*",)
    mode = "maximum" if domain.cpu.mode != "maximum" else "host-passthrough"
    yield OneChange({"cpu": mode}, "cpu", cpu)
    yield OneChange({"cpu": {"model": "Westmere", "features": ["vmx=disable"]}}, "cpu", cpu)
    yield OneChange({"machine": "isapc"}, "machine", (r"os/type@machine",))
    firmware = "bios" if domain.firmware.kind == "efi" else "efi"
    yield OneChange({"firmware": firmware}, "firmware", (r"os@firmware|os/(firmware|loader|nvram).*",))
    for part in ("kernel", "initrd", "cmdline"):
        yield OneChange({"boot": {part: "/x %s" % part}}, "boot." + part, ("os/" + part,))
        if getattr(domain.boot, part):
            yield OneChange({"boot": {part: ""}}, "boot." + part, ("os/" + part,))
    for kind in ("none", "vnc", "spice"):
        if kind != ", ".join(domain.graphics or ("none",)):
            yield OneChange({"graphics": kind}, "graphics", _graphics(domain, kind))
    tpm = "none" if domain.tpm == "emulator" else "emulator"
    yield OneChange({"tpm": tpm}, "tpm", (r"devices/tpm.*",))
    log = r"devices/(serial|console)(/log.*|)|devices/serial(@type|/target.*)"
    yield OneChange({"serial_log": "/var/log/x.log"}, "serial_log", (log,))
    if domain.serial_log:
        yield OneChange({"serial_log": ""}, "serial_log", (log,))
    ours = r"metadata|metadata/\{urn:kvmops:fleet:1\}fleet.*"
    yield OneChange({"metadata": {"priority": "77"}}, "metadata.priority", (ours,))
    for key in domain.metadata:
        yield OneChange({"metadata": {key: ""}}, "metadata." + key, (ours,))


def _graphics(domain: Domain, kind: str) -> Tuple[str, ...]:
    """A screen goes with its card; what is SPICE's own goes with SPICE."""
    places = [r"devices/graphics.*"]
    if kind == "none":
        places.append(r"devices/video.*")
    if "spice" in domain.graphics and kind != "spice":
        places.append(r"devices/(channel|redirdev|smartcard|audio|serial|console|redirfilter).*")
    return tuple(places)


_OTHER = {
    "device": ("cdrom", "disk"),
    "bus": ("sata", "virtio"),
    "format": ("raw", "qcow2"),
    "readonly": (True, False),
    "shareable": (True, False),
    "cache": ("unsafe", "none"),
    "discard": ("unmap", "ignore"),
    "serial": ("NEW-1", "NEW-2"),
}
_PLACES = {
    "device": r"@device",
    # What the driver and the card do on virtio only goes with it.
    "bus": r"(@model|/target@(bus|removable)|/address.*|/driver@(iothread|queue.*|event_idx|ioeventfd|iommu|ats|packed|page_per_vq))",
    "format": r"/driver(@name|@type|)",
    "readonly": r"/readonly",
    "shareable": r"/shareable",
    "cache": r"/driver(@cache|)",
    "discard": r"/driver(@discard|)",
    "serial": r"/serial",
}


def _disks(domain: Domain) -> Iterator[OneChange]:
    options = as_it_is(domain).get("disks")
    if options is None:
        return
    for index, disk in enumerate(domain.disks):
        place = r"devices/disk %s" % disk.target
        for field, (first, second) in _OTHER.items():
            value = first if getattr(disk, field) != first else second
            if field in ("device", "readonly") and "cdrom" in (disk.device, value):
                continue  # libvirt makes it read-only whatever is said
            if field == "device" and (disk.device == "floppy" or disk.source is None):
                continue
            changed = _with(options, index, {field: value})
            pattern = re.escape(place) + _PLACES[field]
            yield OneChange({"disks": changed}, "disks.%s.%s" % (disk.target, field), (pattern,))
        moved = {"path": "/elsewhere/x.img"}
        source = re.escape(place) + r"(@type|/source.*|/backingStore.*|/auth.*|/encryption.*)"
        yield OneChange({"disks": _with(options, index, moved)}, "disks.%s.source" % disk.target, (source,))
        dropped = [one for number, one in enumerate(options) if number != index]
        yield OneChange({"disks": dropped}, "disks." + disk.target, (re.escape(place) + r"([@/].*|)",))
    added = {"path": "/elsewhere/new.qcow2", "target": "vdz"}
    yield OneChange({"disks": [*options, added]}, "disks.vdz", (r"devices/disk vdz([@/].*|)",))


def _with(options: List[Options], index: int, more: Mapping[str, Any]) -> List[Options]:
    changed = dict(options[index], **more)
    if "path" in more:
        changed = {name: value for name, value in changed.items() if name not in ("pool", "name", "source")}
    return [changed if number == index else one for number, one in enumerate(options)]


def _cards(domain: Domain) -> Iterator[OneChange]:
    options = as_it_is(domain).get("networks")
    if options is None:
        return
    for index, nic in enumerate(domain.nics):
        place = re.escape("devices/interface %s" % nic.mac)
        moved = dict(options[index], network=OTHER_NETWORK)
        moved.pop("bridge", None)
        yield OneChange(
            {"networks": [moved if number == index else one for number, one in enumerate(options)]},
            "networks.%s.source" % nic.mac,
            (place + r"(@type|/source.*)",),
        )
        other = dict(options[index], model="e1000e" if nic.model != "e1000e" else "virtio")
        yield OneChange(
            {"networks": [other if number == index else one for number, one in enumerate(options)]},
            "networks.%s.model" % nic.mac,
            # A driver of virtio cards has what others have not.
            (place + r"(/model(@type|)|/driver@(iommu|ats|packed|page_per_vq))",),
        )
        dropped = [one for number, one in enumerate(options) if number != index]
        yield OneChange({"networks": dropped}, "networks.%s" % nic.mac, (place + r"([@/].*|)",))
    added = {"bridge": OTHER_BRIDGE, "mac": "52:54:00:99:99:99"}
    yield OneChange(
        {"networks": [*options, added]}, "networks.52:54:00:99:99:99", (r"devices/interface 52:54:00:99:99:99.*",)
    )
