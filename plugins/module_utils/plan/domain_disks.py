# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks: from what the task says to what the domain gets, and to the volumes that have to be made first."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from typing import Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Disk, Domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_change import Change, Edit
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_found import DomainFound, HostView
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import WantedDisk
from ansible_collections.kvmops.fleet.plugins.module_utils.model.storage import NewVolume

MIB = 1024 * 1024
_PREFIXES = {"virtio": "vd", "sata": "sd", "scsi": "sd", "usb": "sd", "ide": "hd", "fdc": "fd", "sd": "sd"}
BLOCK_POOLS = frozenset(["logical", "disk", "iscsi", "iscsi-direct", "mpath", "scsi", "zfs"])
_REMOVABLE = ("cdrom", "floppy")
_COMPARED = ("device", "bus", "format", "readonly", "shareable", "cache", "discard", "serial")


class Place(NamedTuple):
    """Where a disk's data is. kind, source: as in model Disk. pool, volume: when it is (or would be) a volume."""

    kind: str
    source: Optional[str]
    pool: Optional[str] = None
    volume: Optional[str] = None


def place_of(wanted: WantedDisk, host: HostView) -> Place:
    """Where the task says the disk is. Total: an unknown pool gives a place without a path."""
    if wanted.source is not None:
        return Place("network", wanted.source)
    if wanted.pool is not None and wanted.name is not None:
        pool = host.pool(wanted.pool)
        if pool is None or pool.path is None:
            return Place("volume", "%s/%s" % (wanted.pool, wanted.name), wanted.pool, wanted.name)
        kind = "block" if pool.type in BLOCK_POOLS else "file"
        return Place(kind, posixpath.join(pool.path, wanted.name), pool.name, wanted.name)
    if wanted.path:
        pool = host.pool_of_folder(posixpath.dirname(wanted.path))
        kind = "block" if wanted.path.startswith("/dev/") else "file"
        if pool is None:
            return Place(kind, wanted.path)
        return Place(kind, wanted.path, pool.name, posixpath.basename(wanted.path))
    return Place("file", None)


def backing_path(wanted: WantedDisk, host: HostView) -> Optional[str]:
    """Path of the image below, or None."""
    below = wanted.backing
    if below is None:
        return None
    if below.path is not None:
        return below.path
    pool = host.pool(place_of(wanted, host).pool or "")
    return posixpath.join(pool.path or "", below.name or "") if pool else None


def default_format(wanted: WantedDisk) -> str:
    """Never probed: a guest could have written another format's header into its own disk."""
    if wanted.format is not None:
        return wanted.format
    return "raw" if wanted.device in _REMOVABLE or (wanted.path or "").startswith("/dev/") else "qcow2"


def new_volume(wanted: WantedDisk, found: DomainFound) -> Optional[NewVolume]:
    """The volume to create for this disk, or None when it is there or is not a volume."""
    place = place_of(wanted, found.host)
    if (
        wanted.size_mib is None
        or wanted.image is not None
        or place.pool is None
        or place.volume is None
        or place.source is None
    ):
        return None
    if place.source in found.volumes:
        return None
    below = wanted.backing
    return NewVolume(
        pool=place.pool,
        name=place.volume,
        format=default_format(wanted),
        capacity_bytes=wanted.size_mib * MIB,
        backing=backing_path(wanted, found.host),
        backing_format=below.format if below else None,
    )


def source_here(disk: Disk, host: HostView) -> Optional[str]:
    """A found disk's source, a volume by its path, so that both ways of naming it compare equal."""
    if disk.kind == "volume" and disk.source and "/" in disk.source:
        name, volume = disk.source.split("/", 1)
        pool = host.pool(name)
        if pool is not None and pool.path is not None:
            return posixpath.join(pool.path, volume)
    return disk.source


def default_bus(device: str, machine: Optional[str]) -> str:
    if device == "floppy":
        return "fdc"
    if device == "cdrom":
        return "ide" if machine is not None and (machine == "pc" or "i440fx" in machine) else "sata"
    return "virtio"


def pair(
    wanted: Sequence[WantedDisk], present: Sequence[Disk], host: HostView, by_source: bool = False
) -> List[Tuple[WantedDisk, Optional[Disk]]]:
    """Who is who: by target, then by source, then an empty drive by its kind. None: it is not there yet.

    by_source: also those whose target is nowhere.
    """
    pairs: List[Optional[Disk]] = [None] * len(wanted)
    free = list(present)

    def take(index: int, candidates: List[Disk]) -> None:
        if pairs[index] is None and candidates:
            pairs[index] = candidates[0]
            free.remove(candidates[0])

    for index, disk in enumerate(wanted):
        take(index, [other for other in free if disk.target is not None and other.target == disk.target])
    for index, disk in enumerate(wanted):
        source = place_of(disk, host).source
        if (disk.target is None or by_source) and source is not None:
            take(index, [other for other in free if source_here(other, host) == source])
    for index, disk in enumerate(wanted):
        if disk.target is None and disk.device in _REMOVABLE:
            take(index, [other for other in free if other.device == disk.device])
    return list(zip(wanted, pairs))


def disk_changes(
    wanted: Sequence[WantedDisk], config: Optional[Domain], found: DomainFound, machine: Optional[str]
) -> List[Change]:
    """Everything that differs, disk by disk. config: None for a new domain."""
    present = config.disks if config is not None else ()
    pairs = placed(wanted, config, found, machine)
    kept = {disk.target for dummy, disk in pairs if disk is not None}
    changes = [_dropped(disk) for disk in present if disk.target not in kept]
    for disk, other in pairs:
        if other is None:
            changes.append(added(disk, found.host))
        else:
            changes.extend(_differences(disk, other, found.host))
    return changes


def placed(
    wanted: Sequence[WantedDisk], config: Optional[Domain], found: DomainFound, machine: Optional[str]
) -> List[Tuple[WantedDisk, Optional[Disk]]]:
    """The pairs; a disk that is not there yet with the target and bus that it gets."""
    present = config.disks if config is not None else ()
    # A disk may have come into the running guest under another target than the definition gives it.
    pairs = pair(wanted, present, found.host, by_source=config is not None and config is found.live)
    used = {disk.target for dummy, disk in pairs if disk is not None}
    used |= {disk.target for disk in wanted if disk.target is not None}
    if found.live is not None:
        # What is detached from a running guest goes when the guest lets it go.
        used |= {disk.target for disk in present + found.live.disks}
    complete: List[Tuple[WantedDisk, Optional[Disk]]] = []
    for disk, other in pairs:
        complete.append((disk if other is not None else seated(disk, used, machine), other))
    return complete


def seated(disk: WantedDisk, used: Set[str], machine: Optional[str]) -> WantedDisk:
    """With the bus and the target that it gets, which is not among those used; `used` has it afterwards."""
    bus = disk.bus or default_bus(disk.device, machine)
    target = disk.target or next(name for name in _target_names(bus) if name not in used)
    used.add(target)
    return replace(disk, bus=bus, target=target)


def _dropped(disk: Disk) -> Change:
    words = "detach %s %s (%s); its data stays" % (disk.device, disk.target, disk.source or "empty")
    return Change("disks." + disk.target, disk.source, None, words, Edit("disk_drop", {"target": disk.target}))


def added(wanted: WantedDisk, host: HostView) -> Change:
    """Attaching it. wanted: with target and bus."""
    place = place_of(wanted, host)
    disk = Disk(
        target=wanted.target or "",
        device=wanted.device,
        bus=wanted.bus,
        kind=place.kind,
        source=place.source,
        format=default_format(wanted),
        readonly=bool(wanted.readonly) or wanted.device == "cdrom",
        shareable=bool(wanted.shareable),
        cache=wanted.cache,
        discard=wanted.discard,
        serial=wanted.serial,
        optional=wanted.optional,
    )
    words = "attach %s %s (%s)" % (disk.device, disk.target, place.source or "empty")
    return Change("disks." + disk.target, None, place.source or "empty", words, Edit("disk_add", {"disk": disk}))


def _target_names(bus: str) -> Iterator[str]:
    """vda … vdz, vdaa … vdzz."""
    prefix = _PREFIXES.get(bus, "sd")
    letters = "abcdefghijklmnopqrstuvwxyz"
    for first in [""] + list(letters):
        for second in letters:
            yield prefix + first + second


def _differences(wanted: WantedDisk, found: Disk, host: HostView) -> Iterator[Change]:
    place = place_of(wanted, host)
    if place.source is not None and place.source != source_here(found, host):
        yield _set(found.target, "source", found.source, place.source, place.kind)
    elif wanted.path == "" and found.source is not None:
        yield _set(found.target, "source", found.source, None)
    for field in _COMPARED:
        before, after = getattr(found, field), getattr(wanted, field)
        if after is not None and after != before:
            yield _set(found.target, field, before, after)


def _set(target: str, field: str, before: object, after: object, kind: str = "file") -> Change:
    words = "%s %s: %s → %s" % (target, field, _shown(before), _shown(after))
    args = {"target": target, "field": field, "value": after, "kind": kind}
    return Change("disks.%s.%s" % (target, field), before, after, words, Edit("disk_set", args))


def _shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
