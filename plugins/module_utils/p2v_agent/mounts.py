# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is mounted and what is swapped to, told by the names of block devices."""

from __future__ import absolute_import, division, print_function

import collections
import os
import re
import stat

from ansible_collections.kvmops.fleet.plugins.module_utils.p2v_agent import blocks

__metaclass__ = type

# point, fstype, options (of the mount and of the filesystem), root (of the filesystem, that is mounted there),
# device: kernel name of the block device, or None
Mount = collections.namedtuple("Mount", "point fstype options root device source")
# device: kernel name or None; file: path or None; priority, size and used in bytes
Swap = collections.namedtuple("Swap", "device file size used")


def unescaped(field):
    """/proc writes blanks and the like as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), field)


def device_name(path):
    """The kernel name of the block device at a path, or None."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISBLK(found.st_mode):
        return None
    number = "/sys/dev/block/%d:%d" % (os.major(found.st_rdev), os.minor(found.st_rdev))
    return os.path.basename(os.path.realpath(number)) if os.path.exists(number) else None


def parsed(table, named=device_name):
    """[Mount] of the text of mountinfo, in the order in which they were mounted."""
    found = []
    for line in table.splitlines():
        left, dummy, right = line.partition(" - ")
        fields, kind = left.split(" "), right.split(" ")
        source = unescaped(kind[1])
        options = fields[5] + "," + kind[2] if len(kind) > 2 else fields[5]
        device = named(source) if source.startswith("/") else None
        found.append(Mount(unescaped(fields[4]), kind[0], options, unescaped(fields[3]), device, source))
    return found


def mounts():
    """[Mount] of everything on a block device."""
    return [mount for mount in parsed(blocks.word("/proc/self/mountinfo")) if mount.device]


def read_only(mount):
    return "ro" in mount.options.split(",")


def swaps():
    """[Swap] of what is in use as swap space."""
    found = []
    for line in blocks.word("/proc/swaps").splitlines()[1:]:
        fields = line.split()
        name = unescaped(fields[0])
        device, path = (device_name(name), None) if fields[1] == "partition" else (None, name)
        found.append(Swap(device, path, int(fields[2]) * 1024, int(fields[3]) * 1024))
    return found
