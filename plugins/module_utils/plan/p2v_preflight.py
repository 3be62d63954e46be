# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a running machine can be imaged here: every question at once, from what both ends show."""

from __future__ import annotations

from typing import Any, Iterator, List, Mapping, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import (
    P2vFound,
    P2vWish,
    Source,
    SourceDisk,
    Target,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_ranges import CHUNK, total
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_concerns import concern

CLUSTERED = frozenset(["ocfs2", "gfs2", "gfs", "lustre", "gpfs", "VMFS_volume_member"])
NETWORK = frozenset(["nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs", "9p"])
# Names of processes.
DATABASES = frozenset("mysqld mariadbd postgres postmaster mongod oracle db2sysc redis-server slapd".split())
# An image's own tables, its manifest, and what other users of the pool may need.
MARGIN = 0.05
BESIDE = 64 * CHUNK


def wanted_disks(wish: P2vWish, source: Source) -> Tuple[SourceDisk, ...]:
    """The disks of the request that are there; all of the machine when it names none. Read-only ones are no server's."""
    if not wish.disks:
        unfit = {disk["name"] for disk in source.facts.get("disks", ()) if disk.get("read_only")}
        return tuple(disk for disk in source.disks if disk.name not in unfit and disk.size > 0)
    return tuple(disk for disk in source.disks if disk.name in wish.disks)


def source_concerns(wish: P2vWish, source: Source) -> List[Concern]:
    """What the machine itself shows."""
    disks = wanted_disks(wish, source)
    return [
        *_disk_concerns(wish, source, disks),
        *_device_concerns(source, {disk.name for disk in disks}),
        *(() if wish.cold else _mount_concerns(source, {disk.name for disk in disks})),
        *(() if wish.cold else _other_concerns(wish, source)),
    ]


def target_concerns(wish: P2vWish, found: P2vFound) -> List[Concern]:
    """What is here already, and whether there is room."""
    concerns: List[Concern] = []
    for disk in found.disks:
        concerns += _of_target(disk, wish, found.targets[disk.name])
    needed = sum(total(ranges) for ranges in found.differing.values())
    needed = int(needed * (1 + MARGIN)) + BESIDE if needed else 0
    if needed > found.free:
        detail = "%d MiB are needed and %d MiB are free in pool %s"
        concerns.append(concern("p2v-target-space", detail % (needed // CHUNK, found.free // CHUNK, wish.pool)))
    return concerns


def is_own(target: Target) -> bool:
    """Whether the image there may be brought up to date: ours, finished, and as it was published."""
    return target.head is not None and bool(target.head.get("complete")) and target.untouched


def is_of(head: Mapping[str, Any], disk: SourceDisk, image_format: str) -> bool:
    """Whether a manifest's head speaks of this disk, at its present size."""
    told = head.get("disk") or {}
    same = told.get("size") == disk.size and head.get("format") == image_format
    return same and all(told.get(key) == value for key, value in disk.identity.items())


def _of_target(disk: SourceDisk, wish: P2vWish, target: Target) -> Iterator[Concern]:
    if target.exists and target.head is None:
        yield concern("p2v-image-exists", "%s is there and has no manifest" % target.path)
    elif target.exists and not is_own(target):
        yield concern("p2v-image-changed", "%s is not as it was when it was finished" % target.path)
    for head in (target.head if target.exists else None, target.part_head if not target.exists else None):
        if head is not None and not is_of(head, disk, wish.format):
            told = head.get("disk") or {}
            detail = "%s is of a disk of %s bytes, serial %s; %s has %d bytes, serial %s"
            yield concern(
                "p2v-other-disk",
                detail % (target.path, told.get("size"), told.get("serial"), disk.name, disk.size, disk.serial),
            )
    if target.used_by:
        yield concern("p2v-image-in-use", "%s is a disk of %s" % (target.path, ", ".join(target.used_by)))


def _disk_concerns(wish: P2vWish, source: Source, disks: Tuple[SourceDisk, ...]) -> Iterator[Concern]:
    names = [disk.name for disk in source.disks]
    for name in wish.disks:
        if name not in names:
            yield concern(
                "p2v-disk-missing", "%s has no %s; it has %s" % (source.name, name, ", ".join(names) or "none")
            )
    if not disks and not wish.disks:
        yield concern("p2v-no-disk", "%s shows none" % source.name)
    for name, serial in wish.serials.items():
        disk = source.disk(name)
        if disk is not None and disk.serial != serial:
            yield concern("p2v-serial-differs", "%s has serial %s, not %s" % (name, disk.serial, serial))
    for disk in disks:
        if disk.sector != 512:
            yield concern("p2v-sector-4096", "%s has sectors of %d bytes" % (disk.name, disk.sector))
    if not wish.cold and not source.facts.get("tracing"):
        yield concern("p2v-no-tracking", "%s shows no tracefs" % source.name)


def _device_concerns(source: Source, names: Any) -> Iterator[Concern]:
    for device in source.facts.get("devices", ()):
        kind = (device.get("signature") or {}).get("type")
        on = {piece["disk"] for piece in device.get("pieces") or ()}
        if on and not on & names:
            continue
        if kind == "crypto_LUKS":
            yield concern("p2v-luks", "%s" % device["name"])
        if kind == "linux_raid_member":
            yield concern("p2v-raid", "%s" % device["name"])
        if kind in CLUSTERED:
            yield concern("p2v-cluster-filesystem", "%s holds %s" % (device["name"], kind))


def _mount_concerns(source: Source, names: Any) -> Iterator[Concern]:
    lies_on = {d["name"]: {p["disk"] for p in d.get("pieces") or ()} for d in source.facts.get("devices", ())}
    left_out = set()
    for mount in source.facts.get("mounts", ()):
        if mount.get("fstype") in NETWORK:
            yield concern("p2v-network-filesystem", "%s is %s" % (mount.get("point"), mount["fstype"]))
        left_out |= lies_on.get(mount.get("device"), set()) - names
    for name in sorted(left_out):
        yield concern("p2v-disk-left-out", "%s" % name)


def _other_concerns(wish: P2vWish, source: Source) -> Iterator[Concern]:
    running = sorted(DATABASES.intersection(source.facts.get("processes", ())))
    if running and not wish.services:
        yield concern("p2v-database", ", ".join(running))
    if source.facts.get("clock_synchronised") is False:
        yield concern("p2v-clock", "%s says so" % source.name)
