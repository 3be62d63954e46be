# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which disks move and how: shared or copied, decided from what both ends see."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import ERROR, Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Disk
from ansible_collections.kvmops.fleet.plugins.module_utils.model.image import ImageFacts, same_image, temporary_of
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import AUTO, COPY, SHARED, DiskMove, Found

NOTHING = ImageFacts(path="", exists=False)


def decide(found: Found, storage: str) -> Tuple[Tuple[DiskMove, ...], Tuple[Concern, ...]]:
    """A move for every image of the domain, and what stands against it.

    storage: auto decides per disk; shared and copy are demands that the facts must not contradict.
    """
    domain = found.source.effective
    moves: List[DiskMove] = []
    concerns: List[Concern] = []
    for disk in domain.images if domain is not None else ():
        move, against = _one(disk, found, storage)
        moves.append(move)
        concerns += against
    return tuple(moves), tuple(concerns)


def _one(disk: Disk, found: Found, storage: str) -> Tuple[DiskMove, List[Concern]]:
    source = disk.source or ""
    if disk.kind == "network":
        against = [_not_copied(disk)] if storage == COPY else []
        return DiskMove(disk.target, source, SHARED, disk.format, found.sizes.get(disk.target, 0)), against
    here = found.source.images.get(source, NOTHING)
    there = found.dest.images.get(source, NOTHING)
    way = SHARED if same_image(here, there) else COPY
    move = DiskMove(
        target=disk.target,
        path=source,
        way=way,
        format=disk.format,
        size=found.sizes.get(disk.target, here.size),
        allocated=here.allocated,
        exists=there.exists,
    )
    demand = _demand(disk, way, storage, found)
    return move, demand + (_copy_concerns(disk, found, here) if way == COPY and not demand else [])


def _demand(disk: Disk, way: str, storage: str, found: Found) -> List[Concern]:
    if storage in (AUTO, way):
        return []
    if storage == SHARED:
        detail = "disk %s (%s) is not the same file on %s" % (disk.target, disk.source, found.dest.side)
        return [Concern("disk-not-shared", ERROR, detail, "Mount the shared storage there, or say storage: copy.")]
    return [_not_copied(disk)]


def _not_copied(disk: Disk) -> Concern:
    detail = "disk %s (%s) is on storage that both hosts share; it would be copied onto itself" % (
        disk.target,
        disk.source,
    )
    return Concern("disk-shared", ERROR, detail, "Say storage: auto or storage: shared.")


def _copy_concerns(disk: Disk, found: Found, here: ImageFacts) -> List[Concern]:
    side = found.dest.side
    what = "disk %s (%s)" % (disk.target, disk.source)
    if disk.shareable:
        return [
            Concern("disk-shareable", ERROR, what + " is shared with other guests", "Put it on shared storage first.")
        ]
    if disk.kind != "file" or here.kind != "file":
        remedy = "Put the disk on storage that both hosts see, or turn it into an image file."
        return [Concern("disk-kind", ERROR, "%s is of kind %s; only files are copied" % (what, disk.kind), remedy)]
    if disk.format not in ("qcow2", "raw"):
        remedy = "State the format in the domain's XML (driver type raw or qcow2)."
        return [Concern("disk-format", ERROR, "%s has the format %s" % (what, disk.format), remedy)]
    there = found.dest.images.get(disk.source or "", NOTHING)
    if not there.directory or found.dest.pool_of(disk.source or "") is None:
        remedy = "Create and start a directory pool for that folder on %s." % side
        return [Concern("pool-missing", ERROR, "no active pool holds the folder of %s on %s" % (what, side), remedy)]
    return []


def room_concerns(moves: Tuple[DiskMove, ...], images: Mapping[str, ImageFacts], side: str) -> List[Concern]:
    """Whether the copied disks fit, counted per file system of the destination. Needed: allocated bytes plus 2 %."""
    needed: Dict[Tuple[Optional[str], int], int] = {}
    for move in moves:
        if move.way == COPY and not move.exists:
            facts = images.get(move.path, NOTHING)
            # What came of it before a copy was cut short takes its room already.
            lacking = max(move.allocated - images.get(temporary_of(move.path), NOTHING).allocated, 0)
            needed[(facts.mount_source, facts.free)] = needed.get((facts.mount_source, facts.free), 0) + lacking
    concerns = []
    for place, size in needed.items():
        free = place[1]
        if size + size // 50 > free:
            detail = "the disks need %d MiB on %s, where %d MiB are free" % (size // 1024**2, side, free // 1024**2)
            concerns.append(Concern("target-space-short", ERROR, detail, "Free room there, or choose another host."))
    return concerns
