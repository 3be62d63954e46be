# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which parts of a filesystem are free, asked of the kernel or of the filesystem's own tools.

Each function gives the free ranges of the filesystem's device in bytes, or None where it cannot know.

A map is read while the filesystem is in use, so it is wrong the moment it is read. That does no harm as long as every
block that was allocated *before the tracking of writes began* is told as used: what is allocated later is written
later, and so is tracked. Each function says why this holds for it.
"""

from __future__ import absolute_import, division, print_function

import array
import errno
import fcntl
import os
import re
import struct

from ansible_collections.kvmops.fleet.plugins.module_utils.p2v_agent import processes

__metaclass__ = type

# <linux/fsmap.h>: struct fsmap_head with two keys, struct fsmap
GETFSMAP = 0xC0C0583B
FSMAP_HEAD = struct.Struct("=IIII48x")
FSMAP = struct.Struct("=IIQQQQ24x")
BLKFLSBUF = 0x1261

FSMAP_RECORDS = 1024
OWNER_FREE, OWNER_IS_SPECIAL, LAST_RECORD = 1, 0x10, 0x20

# <linux/fiemap.h>
FIEMAP = 0xC020660B
FIEMAP_HEAD = struct.Struct("=QQIIII")
FIEMAP_EXTENT = struct.Struct("=QQQ16xI12x")
FIEMAP_EXTENTS = 256
FIEMAP_LAST, FIEMAP_NO_ADDRESS = 0x1, 0x2 | 0x4 | 0x8 | 0x200


def unsupported(error):
    return error.errno in (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


def getfsmap(point, device_number):
    """Of a mounted ext4 or xfs, by the kernel (Linux 4.12): what it holds in memory, so nothing is stale."""
    descriptor = os.open(point, os.O_RDONLY)
    try:
        return _fsmap(descriptor, encoded(device_number))
    except (IOError, OSError) as error:
        if unsupported(error):
            return None
        raise
    finally:
        os.close(descriptor)


def encoded(number):
    """A device number as the kernel hands it to programs (new_encode_dev)."""
    major, minor = os.major(number), os.minor(number)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def _fsmap(descriptor, device):
    free = []
    low = FSMAP.pack(0, 0, 0, 0, 0, 0)
    high = FSMAP.pack(0xFFFFFFFF, 0xFFFFFFFF, 2**64 - 1, 2**64 - 1, 2**64 - 1, 0)
    while True:
        head = FSMAP_HEAD.pack(0, 0, FSMAP_RECORDS, 0) + low + high
        answer = array.array("B", head + b"\0" * (FSMAP.size * FSMAP_RECORDS))
        fcntl.ioctl(descriptor, GETFSMAP, answer, True)
        data = bytes(bytearray(answer))
        entries = FSMAP_HEAD.unpack_from(data)[3]
        for index in range(entries):
            at = len(head) + index * FSMAP.size
            number, flags, physical, owner, dummy, length = FSMAP.unpack_from(data, at)
            if number == device and flags & OWNER_IS_SPECIAL and owner == OWNER_FREE:
                free.append((physical, length))
        if not entries or flags & LAST_RECORD:
            return free
        # The kernel goes on behind the record that is given as the low key.
        low = data[at : at + FSMAP.size]


def dumpe2fs(device, mounted):
    """Of ext2, ext3, ext4: the kernel keeps the bitmaps in the cache of the block device, which the tool reads.

    When it is not mounted and its journal was not replayed, the bitmaps are old: None.
    """
    try:
        text = processes.run(["dumpe2fs", device], 600)
    except processes.Failed:
        return None
    return parsed_dumpe2fs(text, mounted)


def parsed_dumpe2fs(text, mounted):
    size = re.search(r"^Block size: +(\d+)$", text, re.M)
    features = re.search(r"^Filesystem features: +(.*)$", text, re.M)
    if not size or not features or (not mounted and "needs_recovery" in features.group(1).split()):
        return None
    block, free = int(size.group(1)), []
    # Clusters of bigalloc are told in blocks as well.
    for line in re.findall(r"^  Free blocks: *(\S.*)$", text, re.M):
        for part in line.split(", "):
            first, dummy, last = part.partition("-")
            if not first.isdigit():
                return None
            free.append((int(first) * block, (int(last or first) - int(first) + 1) * block))
    return free


def xfs_db(device):
    """Of an xfs whose metadata is all on the disk: not mounted and with an empty log, or frozen since.

    The caller sees to that. A kernel keeps xfs metadata in caches of its own, and the disk may be minutes behind.
    """
    try:
        shape = processes.run(["xfs_db", "-r", "-c", "sb 0", "-c", "print blocksize agblocks agblklog", device], 60)
        lines = processes.run(["xfs_db", "-r", "-c", "freesp -d", device], 600)
    except processes.Failed:
        return None
    return parsed_freesp(shape, lines)


def parsed_freesp(shape, lines):
    """The free extents of `freesp -d`: lines of group, block, length; before and behind them, a histogram."""
    found = dict(re.findall(r"^(\w+) = (\d+)$", shape, re.M))
    if not set(found) >= {"blocksize", "agblocks"}:
        return None
    block, group = int(found["blocksize"]), int(found["agblocks"])
    free = []
    for line in lines.splitlines():
        fields = line.split()
        if len(fields) == 3 and all(field.isdigit() for field in fields):
            free.append(((int(fields[0]) * group + int(fields[1])) * block, int(fields[2]) * block))
    return free


def xfs_log_is_clean(device):
    return "<CLEAN>" in processes.output(["xfs_logprint", "-t", device], 120)


def extents(path):
    """[(physical, length)] of a file by FIEMAP, or None: of a swap file, whose content is nobody's."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return _extents(descriptor)
    except (IOError, OSError) as error:
        if unsupported(error):
            return None
        raise
    finally:
        os.close(descriptor)


def _extents(descriptor):
    found, start = [], 0
    while True:
        head = FIEMAP_HEAD.pack(start, 2**64 - 1 - start, 0, 0, FIEMAP_EXTENTS, 0)
        answer = array.array("B", head + b"\0" * (FIEMAP_EXTENT.size * FIEMAP_EXTENTS))
        fcntl.ioctl(descriptor, FIEMAP, answer, True)
        data = bytes(bytearray(answer))
        count = FIEMAP_HEAD.unpack_from(data)[3]
        flags = 0
        for index in range(count):
            at = FIEMAP_HEAD.size + index * FIEMAP_EXTENT.size
            logical, physical, length, flags = FIEMAP_EXTENT.unpack_from(data, at)
            if flags & FIEMAP_NO_ADDRESS:
                return None
            found.append((logical, physical, length))
            start = logical + length
        if not count or flags & FIEMAP_LAST:
            return found


def drop_cache(device):
    """What the block device's own cache holds is written and forgotten."""
    descriptor = os.open(device, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, BLKFLSBUF, 0)
    finally:
        os.close(descriptor)
