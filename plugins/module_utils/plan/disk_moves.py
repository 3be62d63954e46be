# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which disks move, how and where to: shared or copied, decided from what both ends see."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Disk
from ansible_collections.kvmops.fleet.plugins.module_utils.model.image import (
    SHARED_FILE_SYSTEMS,
    ImageFacts,
    same_image,
    same_place,
    temporary_of,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import (
    AUTO,
    COPY,
    SHARED,
    DiskMove,
    Found,
    Wish,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.concerns import concern
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.redirect import path_there, pool_key, pool_named

NOTHING = ImageFacts(path="", exists=False)


def decide(found: Found, wish: Wish) -> Tuple[Tuple[DiskMove, ...], Tuple[Concern, ...]]:
    """A move for every image of the domain, and what stands against it.

    wish.storage: auto decides per disk; shared and copy are demands that the facts must not contradict.
    """
    domain = found.source.effective
    moves: List[DiskMove] = []
    concerns: List[Concern] = []
    for disk in domain.images if domain is not None else ():
        move, against = _one(disk, found, wish)
        moves.append(move)
        concerns += against
    return tuple(moves), tuple(concerns)


def _one(disk: Disk, found: Found, wish: Wish) -> Tuple[DiskMove, List[Concern]]:
    source = disk.source or ""
    if disk.kind == "network":
        against = [_not_copied(disk)] if wish.storage == COPY else []
        return DiskMove(disk.target, source, SHARED, disk.format, found.sizes.get(disk.target, 0)), against
    here = found.source.images.get(source, NOTHING)
    way, path = _way(disk, found, wish)
    move = DiskMove(
        target=disk.target,
        path=source,
        way=way,
        format=disk.format,
        size=found.sizes.get(disk.target, here.size),
        allocated=here.allocated,
        exists=found.dest.images.get(path, NOTHING).exists,
        dest_path=path if path != source else None,
    )
    demand = _demand(disk, way, found, wish)
    return move, demand + (_copy_concerns(disk, found, wish, path) if way == COPY and not demand else [])


def _way(disk: Disk, found: Found, wish: Wish) -> Tuple[str, str]:
    """(shared or copy, the path there). A disk that both hosts see as one file stays where it is, by any path."""
    source = disk.source or ""
    mapped = path_there(source, wish.pool_map, found.source.pools, found.dest.pools) if disk.kind == "file" else None
    here = found.source.images.get(source, NOTHING)
    if mapped is not None and same_image(here, found.dest.images.get(mapped, NOTHING)):
        return SHARED, mapped
    if same_image(here, found.dest.images.get(source, NOTHING)) and not (wish.storage == COPY and mapped is not None):
        return SHARED, source
    return COPY, mapped or source


def _demand(disk: Disk, way: str, found: Found, wish: Wish) -> List[Concern]:
    if wish.storage in (AUTO, way):
        return []
    if wish.storage == SHARED:
        detail = "disk %s (%s) is not the same file on %s" % (disk.target, disk.source, found.dest.side)
        return [concern("disk-not-shared", detail)]
    return [_not_copied(disk)]


def _not_copied(disk: Disk) -> Concern:
    what = (disk.target, disk.source)
    return concern("disk-shared", "disk %s (%s) is on storage that both hosts share" % what)


def _copy_concerns(disk: Disk, found: Found, wish: Wish, path: str) -> List[Concern]:
    side, here = found.dest.side, found.source.images.get(disk.source or "", NOTHING)
    what = "disk %s (%s)" % (disk.target, disk.source)
    if disk.shareable:
        return [concern("disk-shareable", what + " is shared with other guests")]
    if disk.kind != "file" or here.kind != "file":
        return [concern("disk-kind", "%s is of kind %s; only files are copied" % (what, disk.kind))]
    if disk.format not in ("qcow2", "raw"):
        return [concern("disk-format", "%s has the format %s" % (what, disk.format))]
    key = pool_key(disk.source or "", wish.pool_map, found.source.pools)
    if key is not None and pool_named(wish.pool_map[key], found.dest.pools) is None:
        detail = "%s has no active directory pool %s (pool_map: %s), for %s" % (side, wish.pool_map[key], key, what)
        active = sorted(pool.name for pool in found.dest.pools if pool_named(pool.name, found.dest.pools))
        return [concern("pool-map-unknown", detail, "It has: %s." % (", ".join(active) or "none"))]
    there = found.dest.images.get(path, NOTHING)
    if _is_unseen(here, there, wish, key):
        detail = "%s is on %s (%s), and %s does not show it at %s" % (what, here.mount_source, here.fstype, side, path)
        return [concern("shared-disk-unseen", detail)]
    if not there.directory or found.dest.pool_of(path) is None:
        return [concern("pool-missing", "no active pool holds the folder of %s on %s" % (what, side))]
    return []


def _is_unseen(here: ImageFacts, there: ImageFacts, wish: Wish, key: Optional[str]) -> bool:
    """Shared storage that is not mounted there, or of which that host does not know yet what is in it."""
    if here.fstype not in SHARED_FILE_SYSTEMS:
        return False
    return same_place(here, there) or (key is None and wish.storage == AUTO)


def room_concerns(moves: Tuple[DiskMove, ...], images: Mapping[str, ImageFacts], side: str) -> List[Concern]:
    """Whether the copied disks fit, counted per file system of the destination. Needed: allocated bytes plus 2 %."""
    needed: Dict[Tuple[Optional[str], int], int] = {}
    for move in moves:
        if move.way == COPY and not move.exists:
            facts = images.get(move.arrives_at, NOTHING)
            # What came of it before a copy was cut short takes its room already.
            lacking = max(move.allocated - images.get(temporary_of(move.arrives_at), NOTHING).allocated, 0)
            needed[(facts.mount_source, facts.free)] = needed.get((facts.mount_source, facts.free), 0) + lacking
    concerns = []
    for place, size in needed.items():
        free = place[1]
        if size + size // 50 > free:
            detail = "the disks need %d MiB on %s, where %d MiB are free" % (size // 1024**2, side, free // 1024**2)
            concerns.append(concern("target-space-short", detail))
    return concerns
