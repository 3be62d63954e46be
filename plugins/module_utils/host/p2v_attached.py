# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks that are attached to this host, seen by the eyes of the agent: what lies on them, who has them, whether they rest."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Dict, FrozenSet, Iterator, List, Mapping, Set

from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.p2v_agent import (
    blocks,
    discovery,
    maps,
    mounts,
    processes,
    reading,
    rest,
)

# pace.limit(bytes per second or None), pace.spend(bytes).
Pace = reading.Pace


def kernel_name(path: str) -> str:
    """Of the block device at a path; "" when sysfs does not know it."""
    return mounts.device_name(path) or ""


def backing_file(name: str) -> str:
    """Of a loop device; "" otherwise."""
    return str(blocks.fact(name, "loop", "backing_file"))


def described(name: str) -> Dict[str, Any]:
    """name, size, sector, serial, wwn, model … of a block device, as the agent tells of a disk."""
    return dict(discovery.disk(name)) if name else {}


def held(path: str) -> List[str]:
    """Who has a block device, so that it cannot be had alone."""
    name = kernel_name(path)
    if not name:
        return ["sysfs does not know it"]
    # Asked with the path that was given: the agent's own names need not be in /dev here.
    if not _is_held(path):
        return []
    parts = {name, *blocks.partitions(name)}
    found = ["%s is mounted at %s" % (each.device, each.point) for each in mounts.mounts() if each.device in parts]
    found += ["%s is swap space" % each.device for each in mounts.swaps() if each.device in parts]
    for part in sorted(parts):
        found += [
            "%s is part of %s" % (part, blocks.fact(above, "dm", "name") or above)
            for above in blocks.listed(part, "holders")
        ]
    return sorted(set(found)) or ["the kernel says that it is in use, perhaps mounted by a container"]


def lineage(name: str) -> FrozenSet[str]:
    """A device, those that it is made of, and the disks that these are parts of."""
    found: Set[str] = set()
    waiting = [name]
    while waiting:
        here = waiting.pop()
        if here not in found:
            found.add(here)
            waiting += blocks.listed(here, "slaves")
            waiting += [blocks.disk_of(here)] if blocks.is_partition(here) else []
    return frozenset(found)


class Attached:
    """names: kernel name -> what the machine called that disk."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = dict(names)
        self._claims: Dict[str, int] = {}
        self._watch: Any = None
        with _said("look at %s" % ", ".join(names)):
            self._layout = blocks.Layout(list(names)) if names else None

    def rest(self) -> None:
        """From now on they should stay as they are."""
        self._watch = rest.Watch(list(self._names))

    def written(self) -> Dict[str, int]:
        """Bytes since then, by the machine's names."""
        return {self._names[name]: size for name, size in self._watch.written().items()} if self._watch else {}

    def map(self, name: str) -> Dict[str, Any]:
        """{used, areas} as the agent tells it. What lies on the disk is read by tools, never mounted. Raises HostError."""
        with _said("look what of %s is used" % name):
            return dict(maps.Map(self._layout, lambda point: None, at_rest=True, may_mount=False).of(name))

    def claim(self, name: str) -> None:
        """From now on nobody can mount the disk, or a part of it, until `release`; nor would map() see into it. Raises HostError."""
        if name in self._claims:
            return
        try:
            self._claims[name] = os.open(blocks.node(name), os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
        except OSError as error:
            remedy = "Look who uses it (lsblk, fuser), then run again."
            raise HostError("have %s alone" % name, "this host", str(error), remedy)

    def release(self) -> None:
        while self._claims:
            os.close(self._claims.popitem()[1])

    def devices(self) -> List[Dict[str, Any]]:
        """`devices` of a discovery, with the machine's names for its disks."""
        if self._layout is None:
            return []
        with _said("look at the disks"):
            names = [name for name in blocks.names() if discovery.relevant(self._layout, name)]
            told = [dict(discovery.device(self._layout, name)) for name in names]
        for device in told:
            for piece in device["pieces"] or ():
                piece["disk"] = self._names[piece["disk"]]
        return told


@contextlib.contextmanager
def _said(attempted: str) -> Iterator[None]:
    try:
        yield
    except processes.Failed as error:
        raise HostError(attempted, "this host", str(error), "Look at the disk and its tools, then run again.")


def _is_held(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL))
    except OSError:
        return True
    return False
