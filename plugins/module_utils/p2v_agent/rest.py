# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks of a system that does not run: what they hold is read without mounting, activating or writing anything that stays."""

from __future__ import absolute_import, division, print_function

import collections
import contextlib
import os
import struct

from ansible_collections.kvmops.fleet.plugins.module_utils.p2v_agent import blocks, btrfs, processes

__metaclass__ = type

# A logical volume that lies on one stretch of a physical volume: bytes of that device.
Volume = collections.namedtuple("Volume", "name mapping offset length")

# <linux/blk_types.h> STAT_WRITE and STAT_DISCARD: sectors, the seventh and the fourteenth word of a disk's `stat`.
WRITTEN, DISCARDED = 6, 13

VOLUMES = (
    "lvm pvs --noheadings --nosuffix --units b --separator | --segments"
    " -o pv_name,pe_start,vg_extent_size,pvseg_start,pvseg_size,segtype,vg_name,lv_name,lv_attr,seg_start_pe,lv_size"
)

# btrfs_super_block: where it lies, its magic, and the root of the log that a mount would replay.
SUPER, MAGIC_AT, MAGIC, LOG_ROOT_AT = 65536, 64, b"_BHRfS_M", 96


def counters(names):
    """{disk: sectors written and discarded since the machine started}. Counted by the kernel below everything else."""
    found = {}
    for name in names:
        fields = blocks.fact(name, "stat").split()
        found[name] = sum(int(fields[at]) for at in (WRITTEN, DISCARDED) if at < len(fields))
    return found


class Watch:
    """Whether the disks stay as they are."""

    def __init__(self, names):
        self._names = list(names)
        self._before = counters(self._names)

    def written(self):
        """{disk: bytes written since}."""
        now = counters(self._names)
        return dict((name, (now[name] - self._before[name]) * blocks.SECTOR) for name in self._names)


def volumes(name):
    """[Volume] of a physical volume, those that are not active."""
    active = set(blocks.fact(each, "dm", "name") for each in blocks.names() if each.startswith("dm-"))
    text = processes.output(VOLUMES.split() + [blocks.node(name)], 60)
    return [volume for volume in parsed_volumes(text) if volume.mapping not in active]


def parsed_volumes(text):
    """Only plain ones: free space of a snapshot's origin is used by the snapshot, a thin pool has maps of its own."""
    parts = {}
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) != 11 or fields[5] != "linear" or not fields[8].startswith("-"):
            continue
        if fields[7].startswith("[") or not all(fields[at].isdigit() for at in (1, 2, 3, 4, 9, 10)):
            continue
        start, extent, first, count, at, size = [int(fields[index]) for index in (1, 2, 3, 4, 9, 10)]
        parts.setdefault((fields[6], fields[7]), []).append((at, first, count, start, extent, size))
    return sorted(filter(None, (in_one(group, name, found) for (group, name), found in parts.items())))


def in_one(group, name, parts):
    """The Volume of its parts; None when they do not lie in one stretch, or not all of them here."""
    parts = sorted(parts)
    dummy, first, dummy, start, extent, size = parts[0]
    count = 0
    for at, here, length, dummy, dummy, dummy in parts:
        if (at, here) != (count, first + count):
            return None
        count += length
    if count * extent != size:
        return None
    mapping = "%s-%s" % (group.replace("-", "--"), name.replace("-", "--"))
    return Volume("%s/%s" % (group, name), mapping, start + first * extent, size)


@contextlib.contextmanager
def window(name, offset, length):
    """The kernel name of a read-only loop device over a part of a device. It vanishes with this process, however that ends."""
    argv = ["losetup", "-f", "--show", "-r", "-o", str(offset), "--sizelimit", str(length), blocks.node(name)]
    node = processes.run(argv, 30).strip()
    held = None
    try:
        held = os.open(node, os.O_RDONLY)
    finally:
        # In use it is only marked: it goes when the last one closes it.
        processes.output(["losetup", "-d", node], 30)
    try:
        yield os.path.basename(node)
    finally:
        os.close(held)


def btrfs_free(name, size):
    """Of a btrfs that is not mounted, by mounting it read-only where nobody sees it; None when that is not safe.

    A log that was not replayed holds blocks that no tree knows as used.
    """
    node = blocks.node(name)
    if not log_is_empty(node):
        return None
    point = "/run" if os.path.isdir("/run") else "/tmp"

    def mounted():
        processes.mount_read_only("btrfs", node, point)
        return point

    try:
        descriptor = processes.held_elsewhere(mounted)
    except (processes.Failed, OSError, IOError):
        return None
    try:
        return btrfs.free("/proc/self/fd/%d" % descriptor, os.stat(node).st_rdev, size)
    finally:
        os.close(descriptor)


def log_is_empty(node):
    with open(node, "rb") as device:
        device.seek(SUPER)
        found = device.read(4096)
    if found[MAGIC_AT : MAGIC_AT + len(MAGIC)] != MAGIC:
        return False
    return struct.unpack_from("<Q", found, LOG_ROOT_AT)[0] == 0
