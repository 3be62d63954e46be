# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The block devices of this machine, from sysfs: disks, partitions, device-mapper, md, and where on which disk each lies."""

from __future__ import absolute_import, division, print_function

import collections
import os
import re

from ansible_collections.kvmops.fleet.plugins.module_utils.p2v_agent import processes

__metaclass__ = type

SECTOR = 512
SYS = "/sys/class/block"
# What is no disk of a server: memory, files, views of other devices, removable readers.
NO_DISKS = re.compile(r"(loop|ram|zram|dm-|md|sr|fd|nbd|mtdblock|rbd)\d")

# A piece of a device: `length` bytes at `offset` of it lie at `at` of the disk named `disk`. All in bytes.
Piece = collections.namedtuple("Piece", "offset length disk at")


def word(path):
    """The text of a small file, or nothing."""
    try:
        with open(path, "rb") as found:
            return found.read().decode("utf-8", "replace").strip()
    except (OSError, IOError):
        return ""


def fact(name, *path):
    return word("/".join((SYS, name) + path))


def listed(name, folder):
    try:
        return sorted(os.listdir(os.path.join(SYS, name, folder)))
    except OSError:
        return []


def names():
    return sorted(os.listdir(SYS))


def node(name):
    """The device file. sysfs writes a slash of its name as an exclamation mark."""
    return "/dev/" + name.replace("!", "/")


def size_of(name):
    return int(fact(name, "size") or 0) * SECTOR


def is_partition(name):
    return bool(fact(name, "partition"))


def disk_of(name):
    """The whole disk that a partition is on."""
    return os.path.basename(os.path.dirname(os.path.realpath(os.path.join(SYS, name))))


def is_disk(name):
    if is_partition(name) or NO_DISKS.match(name) or not size_of(name):
        return False
    # A path of a multipath device is read through it, and a disc drive of an old kernel says it is removable.
    return not listed(name, "slaves") and fact(name, "removable") != "1" and fact(name, "hidden") != "1"


def loops():
    """[{name, file}] of the loop devices over files: a rescue system often runs from one."""
    found = [(name, fact(name, "loop", "backing_file")) for name in names() if name.startswith("loop")]
    return [{"name": name, "file": path} for name, path in found if path]


def disks():
    return [name for name in names() if is_disk(name)]


def partitions(disk):
    """Names, by their place."""
    found = [name for name in names() if is_partition(name) and disk_of(name) == disk]
    return sorted(found, key=lambda name: int(fact(name, "start") or 0))


def by_number():
    """{"8:3": "sda3"} of all devices."""
    return dict((fact(name, "dev"), name) for name in names())


def dm_targets():
    """{kernel name: [(start, length, kind, parameters)]} in bytes, from `dmsetup table`."""
    named = dict((fact(name, "dm", "name"), name) for name in names() if name.startswith("dm-"))
    targets = {}
    if not named:
        return targets
    for line in processes.run(["dmsetup", "table"]).splitlines():
        title, dummy, rest = line.partition(": ")
        fields = rest.split()
        if title in named and len(fields) > 2:
            target = (int(fields[0]) * SECTOR, int(fields[1]) * SECTOR, fields[2], fields[3:])
            targets.setdefault(named[title], []).append(target)
    return targets


class Layout:
    """Where devices lie on the disks. Read once: a mapping that changes meanwhile writes, and that is tracked.

    only: kernel names of the devices that count as disks, whatever they are; otherwise all disks of the machine.
    """

    def __init__(self, only=None):
        self.disks = sorted(only) if only else disks()
        self._targets = dm_targets()
        self._numbers = by_number()

    def pieces(self, name):
        """[Piece] of a device on disks, or None when it is more than a part of disks in order (RAID, LUKS, thin)."""
        if name in self.disks:
            return [Piece(0, size_of(name), name, 0)]
        if is_partition(name):
            start, size = int(fact(name, "start")) * SECTOR, size_of(name)
            return self._within(disk_of(name), start, size, 0)
        if name in self._targets:
            return self._mapped(self._targets[name])
        return None

    def below(self, name):
        """Names of the disks and partitions that a device is made of, however it is."""
        slaves = listed(name, "slaves")
        return [lowest for slave in slaves for lowest in self.below(slave)] if slaves else [name]

    def _mapped(self, targets):
        found = []
        for start, length, kind, parameters in targets:
            if kind != "linear" or len(parameters) != 2 or parameters[0] not in self._numbers:
                return None
            below = self._within(self._numbers[parameters[0]], int(parameters[1]) * SECTOR, length, start)
            if below is None:
                return None
            found.extend(below)
        return found

    def _within(self, below, start, length, at):
        """Where `length` bytes at `start` of the device `below` lie, told as if they began at `at`."""
        found = self.pieces(below)
        return None if found is None else part_of(found, start, length, at)


def part_of(pieces, start, length, at=0):
    """[Piece] of a part of a device, told as if it began at `at`."""
    inside = []
    for piece in pieces:
        first, last = max(piece.offset, start), min(piece.offset + piece.length, start + length)
        if first < last:
            inside.append(Piece(at + first - start, last - first, piece.disk, piece.at + first - piece.offset))
    return inside


def on_disk(pieces, disk, ranges):
    """Ranges of a device as ranges of one of the disks that it lies on."""
    found = []
    for piece in pieces:
        if piece.disk != disk:
            continue
        for offset, length in ranges:
            first, last = max(piece.offset, offset), min(piece.offset + piece.length, offset + length)
            if first < last:
                found.append((piece.at + first - piece.offset, last - first))
    return found
