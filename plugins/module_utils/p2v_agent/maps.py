# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which parts of a disk need to be copied: all of it, but for what is known to be free."""

from __future__ import absolute_import, division, print_function

import os

from ansible_collections.kvmops.fleet.plugins.module_utils.p2v_agent import (
    blocks,
    btrfs,
    mounts,
    processes,
    ranges,
    rest,
    signatures,
    space,
)

__metaclass__ = type

EXT = ("ext2", "ext3", "ext4")
# The header of swap space: one page of the largest kind there is. The rest is nobody's after a reboot.
SWAP_HEADER = 64 * 1024
# Between partitions: what boot loaders, extended partitions and firmware RAID write there lies at the edges.
GAP_START, GAP_END = 16 * ranges.MIB, 2 * ranges.MIB
# Reading over a small gap is cheaper than another request.
JOINED = 64 * 1024
MOST_RANGES = 200000


class Area:
    """A device on this disk. free: ranges of the device, in bytes. how: the way in which that was found out."""

    def __init__(self, what, pieces, free, how):
        self.what = what
        self.pieces = pieces
        self.free = free
        self.how = how

    def told(self, disk):
        """A record for each part of this disk that the device occupies, and the free ranges of the disk."""
        records, skipped = [], []
        for piece in self.pieces:
            if piece.disk != disk:
                continue
            free = ranges.merged(blocks.on_disk([piece], disk, self.free))
            skipped.extend(free)
            used = piece.length - ranges.total(free)
            record = {
                "what": self.what,
                "offset": piece.at,
                "length": piece.length,
                "used_bytes": used,
                "how": self.how,
            }
            records.append(record)
        return records, skipped


class Map:
    """Maps of disks. settle: a function that makes the filesystem at a mount point write all it has (freeze, thaw).

    at_rest: nothing on the disks is in use, so that what is not mounted and not active is looked into as well. may_mount:
    also by mounting it where nobody sees it.
    """

    def __init__(self, layout, settle, at_rest=False, may_mount=True):
        self._layout = layout
        self._settle = settle
        self._at_rest = at_rest
        self._may_mount = may_mount
        self._mounts = mounts.mounts()
        self._swaps = mounts.swaps()
        self._signatures = {}

    def of(self, disk):
        """{used, areas} of one disk, as protocol 1 has it."""
        size = blocks.size_of(disk)
        records, skipped = [], []
        for name in blocks.names():
            pieces = self._layout.pieces(name)
            if not pieces or all(piece.disk != disk for piece in pieces):
                continue
            for area in self._areas(name, pieces):
                told, free = area.told(disk)
                records.extend(told)
                skipped.extend(free)
        gaps = self._gaps(disk, size)
        skipped.extend(gaps)
        records.extend(
            {
                "what": "unpartitioned",
                "offset": offset,
                "length": length,
                "used_bytes": 0,
                "how": "skipped: unpartitioned",
            }
            for offset, length in gaps
        )
        used = ranges.coarsened(ranges.subtracted([(0, size)], skipped), MOST_RANGES, JOINED)
        return {"used": ranges.clipped(used, size), "areas": sorted(records, key=lambda area: area["offset"])}

    def _areas(self, name, pieces):
        """Of a device, and of the volumes in it that no device shows."""
        area = self._area(name, pieces)
        volumes = rest.volumes(name) if self._at_rest and self._signature(name).get("type") == "LVM2_member" else []
        return ([area] if area else []) + [self._volume(name, pieces, volume) for volume in volumes]

    def _volume(self, name, pieces, volume):
        inside = blocks.part_of(pieces, volume.offset, volume.length)
        try:
            with rest.window(name, volume.offset, volume.length) as seen:
                kind = self._signature(seen).get("type", "")
                how, free = self._unmounted(seen, kind)
        except processes.Failed:
            kind, how, free = "unknown", "all", []
        finally:
            # The next window may have the name of this one.
            self._signatures.clear()
        if kind == "swap":
            how, free = "skipped: swap", [(SWAP_HEADER, max(0, volume.length - SWAP_HEADER))]
        return Area("%s %s" % (kind or "unknown", volume.name), inside, free, how)

    def _area(self, name, pieces):
        size = blocks.size_of(name)
        kind = self._signature(name).get("type", "")
        if kind == "LVM2_member":
            return Area("LVM %s" % name, pieces, free_extents(name), "skipped: unallocated")
        if blocks.listed(name, "holders"):
            return Area("%s %s" % (kind or "held", name), pieces, [], "all")
        if blocks.partitions(name):
            return None
        if kind == "swap" or any(swap.device == name for swap in self._swaps):
            return Area("swap %s" % name, pieces, [(SWAP_HEADER, max(0, size - SWAP_HEADER))], "skipped: swap")
        mount = self._mount(name)
        how, free = self._mounted(name, mount, size) if mount else self._unmounted(name, kind)
        what = "%s %s" % (mount.fstype if mount else kind or "unknown", mount.point if mount else name)
        if mount and mount.fstype != "btrfs":
            free = free + self._swap_files(name)
        return Area(what, pieces, free, how)

    def _signature(self, name):
        if name not in self._signatures:
            self._signatures[name] = signatures.signature(name)
        return self._signatures[name]

    def _mount(self, name):
        """The mount of a device; of the second device of a btrfs, the mount of its first."""
        here = [mount for mount in self._mounts if mount.device == name]
        found = self._signature(name)
        if not here and found.get("type") == "btrfs":
            here = [
                mount
                for mount in self._mounts
                if mount.fstype == "btrfs" and self._signature(mount.device).get("uuid") == found.get("uuid")
            ]
        return here[0] if here else None

    def _mounted(self, name, mount, size):
        number = os.stat(blocks.node(name)).st_rdev
        free = None
        if mount.fstype == "btrfs":
            how, free = "btrfs", btrfs.free(mount.point, number, size)
        elif mount.fstype in EXT + ("xfs",):
            how, free = "getfsmap", space.getfsmap(mount.point, number)
        if free is None and mount.fstype in EXT:
            how, free = "dumpe2fs", space.dumpe2fs(blocks.node(name), mounted=True)
        if free is None and mount.fstype == "xfs":
            self._settle(mount.point)
            space.drop_cache(blocks.node(name))
            how, free = "xfs_db", space.xfs_db(blocks.node(name))
        return (how, free) if free is not None else ("all", [])

    def _unmounted(self, name, kind):
        if signatures.in_use(name):
            return "all", []
        free, how, path = None, "all", blocks.node(name)
        if kind in EXT:
            how, free = "dumpe2fs", space.dumpe2fs(path, mounted=False)
        elif kind == "xfs" and space.xfs_log_is_clean(path):
            how, free = "xfs_db", space.xfs_db(path)
        elif kind == "btrfs" and self._at_rest and self._may_mount:
            how, free = "btrfs", rest.btrfs_free(name, blocks.size_of(name))
        return (how, free) if free is not None else ("all", [])

    def _swap_files(self, name):
        return [found for device, found in swap_file_ranges(self._swaps, self._mounts) if device == name]

    def _gaps(self, disk, size):
        """What lies between partitions, without its edges."""
        parts = [piece for name in blocks.partitions(disk) for piece in self._layout.pieces(name)]
        if not parts:
            return []
        gaps = ranges.subtracted([(0, size)], [(piece.at, piece.length) for piece in parts])
        inner = [(offset + GAP_START, length - GAP_START - GAP_END) for offset, length in gaps]
        return [gap for gap in inner if gap[1] > 0]


def swap_file_ranges(swaps, mounted):
    """(device, (offset, length)) of what swap files occupy, without their headers. The kernel pins them while in use."""
    for swap in swaps:
        if not swap.file or not os.path.exists(swap.file):
            continue
        number = os.stat(swap.file).st_dev
        found = [mount for mount in mounted if mount.fstype in EXT + ("xfs",) and device_number(mount.device) == number]
        for logical, physical, length in (found and space.extents(swap.file)) or []:
            cut = max(0, SWAP_HEADER - logical)
            if cut < length:
                yield found[0].device, (physical + cut, length - cut)


def device_number(name):
    major, dummy, minor = blocks.fact(name, "dev").partition(":")
    return os.makedev(int(major), int(minor)) if minor else None


def swapped(layout, disk):
    """Ranges of a disk that are swap space at this moment: what is written there is nobody's."""
    swaps = mounts.swaps()
    found = []
    for swap in swaps:
        if swap.device:
            rest = (SWAP_HEADER, max(0, blocks.size_of(swap.device) - SWAP_HEADER))
            found.extend(blocks.on_disk(layout.pieces(swap.device) or [], disk, [rest]))
    for device, rest in swap_file_ranges(swaps, mounts.mounts()):
        found.extend(blocks.on_disk(layout.pieces(device) or [], disk, [rest]))
    return ranges.merged(found)


PVS = "lvm pvs --noheadings --nosuffix --units b --separator | --segments -o pv_name,pe_start,vg_extent_size"


def free_extents(name):
    """Extents of a physical volume that belong to no logical volume, in bytes of the device."""
    argv = PVS.split() + ["-o+pvseg_start,pvseg_size,segtype", blocks.node(name)]
    return parsed_extents(processes.output(argv, 60))


def parsed_extents(text):
    free = []
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) == 6 and fields[5] == "free" and all(field.isdigit() for field in fields[1:5]):
            start, extent, first, count = [int(field) for field in fields[1:5]]
            free.append((start + first * extent, count * extent))
    return free
