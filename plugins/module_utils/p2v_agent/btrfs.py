# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Free space of a mounted btrfs, asked of the kernel's trees.

What was allocated before a commit stands in the extent tree after it, so the caller syncs once tracking has begun.
Shapes: btrfs_tree.h of Linux. Where data is striped over devices (RAID 0, 10, 5, 6), a chunk counts as used whole.
"""

from __future__ import absolute_import, division, print_function

import array
import bisect
import fcntl
import os
import struct

from ansible_collections.kvmops.fleet.plugins.module_utils.p2v_agent import ranges

__metaclass__ = type

TREE_SEARCH = 0xD0009411
ARGUMENTS = 4096
KEY = struct.Struct("=7Q4I32x")
ITEM = struct.Struct("=QQQII")
DEV_INFO = 0xD000941E
FS_INFO = 0x8400941F

CHUNK_TREE, EXTENT_TREE = 3, 2
CHUNK_ITEM, EXTENT_ITEM, METADATA_ITEM = 228, 168, 169
CHUNK = struct.Struct("<QQQQIIIHH")
STRIPE = struct.Struct("<QQ16x")
STRIPED = 8 | 64 | 128 | 256
SUPERBLOCKS = [(64 * 1024, 4096), (64 * ranges.MIB, 4096), (256 * 1024 * ranges.MIB, 4096)]
# Nothing is ever allocated in the first MiB, which may hold a boot loader.
RESERVED = (0, ranges.MIB)


def items(descriptor, tree, first, last):
    """(objectid, type, offset, content) of the items of these types, by their keys."""
    objectid, kind, offset = 0, first, 0
    while True:
        key = KEY.pack(tree, objectid, 2**64 - 1, offset, 2**64 - 1, 0, 2**64 - 1, kind, last, 4096, 0)
        answer = array.array("B", key + b"\0" * (ARGUMENTS - KEY.size))
        fcntl.ioctl(descriptor, TREE_SEARCH, answer, True)
        data = bytes(bytearray(answer))
        count = KEY.unpack_from(data)[9]
        if not count:
            return
        at = KEY.size
        for dummy in range(count):
            dummy, objectid, offset, kind, length = ITEM.unpack_from(data, at)
            at += ITEM.size
            # A search is bounded by whole keys, so other types lie between.
            if first <= kind <= last:
                yield objectid, kind, offset, data[at : at + length]
            at += length
        offset += 1
        if offset > 2**64 - 1:
            objectid, kind, offset = objectid + 1, first, 0


def device_id(descriptor, size, number):
    """The filesystem's number of a device, found by its path's device number."""
    for devid in range(1, 1024):
        answer = array.array("B", struct.pack("=Q", devid) + b"\0" * (ARGUMENTS - 8))
        try:
            fcntl.ioctl(descriptor, DEV_INFO, answer, True)
        except (IOError, OSError):
            continue
        path = bytes(bytearray(answer))[3072:].split(b"\0")[0]
        if path and os.path.exists(path) and os.stat(path).st_rdev == number:
            return devid
    return None


def free(point, device_number, size):
    """Free ranges of one device of the btrfs mounted at `point`, or None."""
    descriptor = os.open(point, os.O_RDONLY)
    try:
        devid = device_id(descriptor, size, device_number)
        if devid is None:
            return None
        return _free(descriptor, devid, size)
    except (IOError, OSError):
        return None
    finally:
        os.close(descriptor)


def _free(descriptor, devid, size):
    logical, places, used = [], [], [RESERVED] + SUPERBLOCKS
    for dummy, dummy, offset, content in items(descriptor, CHUNK_TREE, CHUNK_ITEM, CHUNK_ITEM):
        length, dummy, dummy, kind, dummy, dummy, dummy, stripes, dummy = CHUNK.unpack_from(content)
        here = []
        for index in range(stripes):
            number, at = STRIPE.unpack_from(content, CHUNK.size + index * STRIPE.size)
            if number == devid:
                here.append(at)
        if kind & STRIPED:
            # No stripe is longer than the chunk.
            used.extend((at, length) for at in here)
            here = []
        logical.append(offset)
        places.append((length, here))
    node = 0
    for objectid, kind, offset, dummy in items(descriptor, EXTENT_TREE, EXTENT_ITEM, METADATA_ITEM):
        if kind == METADATA_ITEM and not node:
            node = node_size(descriptor)
        length = node if kind == METADATA_ITEM else offset
        index = bisect.bisect_right(logical, objectid) - 1
        if index < 0 or objectid >= logical[index] + places[index][0]:
            # Its chunk is younger than our list of chunks: it was written since tracking began.
            continue
        for at in places[index][1]:
            used.append((at + objectid - logical[index], length))
        if len(used) > 200000:
            used = ranges.coarsened(used, 100000, 0)
    return ranges.subtracted([(0, size)], used)


def node_size(descriptor):
    """Bytes of a metadata block. struct btrfs_ioctl_fs_info_args: max_id, num_devices, fsid[16], nodesize."""
    answer = array.array("B", b"\0" * 1024)
    fcntl.ioctl(descriptor, FS_INFO, answer, True)
    return struct.unpack_from("=I", bytes(bytearray(answer)), 32)[0]
