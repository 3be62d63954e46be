# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images and disks of this host as a source: what the agent on a machine answers (host/p2v_agent.py), answered here."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import image_server
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import output_of
from ansible_collections.kvmops.fleet.plugins.module_utils.host.nbd import Nbd
from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_agent import Rested, used_map
from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_attached import Attached, Pace
from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_wire import Piece
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import Area, Source, UsedMap, imported_disk
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_import import BLOCK, ImportSeen
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_ranges import (
    CHUNK,
    Range,
    merged,
    parts,
    pieces,
    total,
)

# Reading over a small gap is cheaper than another request.
_JOINED = 64 * 1024
_MAP_S = 3600.0


class Reader:
    """A connection to each of the images, for one thread. It reads and hashes as a connection to the agent does."""

    def __init__(self, clients: Mapping[str, Nbd], pace: Any) -> None:
        self._clients, self._pace = dict(clients), pace

    def fetch(self, word: str, disk: str, ranges: Sequence[Range], unit: int = 0) -> Iterator[Piece]:
        """The pieces of a `read` or `digest`, as of an agent. Nothing of them came over a link. Raises HostError."""
        for offset, length in pieces(ranges):
            data = self._clients[disk].read(offset, length)
            self._pace.spend(length)
            hashes = (
                [hashlib.sha256(data[at : at + size]).digest() for at, size in parts(0, length, unit)] if unit else ()
            )
            sha256 = hashlib.sha256(data).digest()
            yield Piece(0, offset, length, sha256, data if word == "read" else None, 0, tuple(hashes))

    def shut(self) -> None:
        """A read here ends by itself."""


class LocalSource:
    """images: by the names of the machine's disks. told: what else is known of the machine, as the facts of a discovery."""

    side = "this host"
    awaited_s = 0.0

    def __init__(self, images: Mapping[str, ImportSeen], told: Mapping[str, Any], attached: Attached) -> None:
        self._images, self._told, self._attached = dict(images), dict(told), attached
        self._marks: Dict[str, Tuple[int, ...]] = {}
        self._pace = Pace()
        self.data: List[Reader] = []

    def connect(self, clients: Mapping[str, Sequence[Nbd]], count: int) -> None:
        self.data = [
            Reader({disk: found[number] for disk, found in clients.items()}, self._pace) for number in range(count)
        ]

    def describe(self) -> Source:
        disks = [imported_disk(seen) for seen in self._images.values()]
        files = ", ".join(os.path.basename(seen.wanted.path) for seen in self._images.values())
        facts = dict(
            self._told,
            disks=[seen.as_dict() for seen in self._images.values()],
            devices=self._attached.devices(),
        )
        return Source(files, "", tuple(disks), facts)

    def limit(self, bandwidth_mib_s: Any) -> None:
        self._pace.limit(bandwidth_mib_s * CHUNK if bandwidth_mib_s else None)

    def rest(self, disks: Sequence[str]) -> str:
        """The images should stay as they are from now on."""
        self._attached.rest()
        self._marks = {name: _marks(self._images[name]) for name in disks}
        return ""

    def rested(self) -> Rested:
        """Raises HostError when a file is not what it was."""
        for name, marks in self._marks.items():
            seen = self._images[name]
            if _marks(seen) != marks:
                raise HostError(
                    "make an image of %s" % seen.wanted.path,
                    self.side,
                    "it was changed while it was copied",
                    "Find what writes there, then run again: what came is kept, and what differs is copied.",
                )
        return Rested(self._attached.written(), "", {})

    def sync(self) -> None:
        """It was synced when it was opened."""

    def map(self, disk: str) -> UsedMap:
        """Of a block device by what lies on it; of a file by its own tables, so that the rest of it reads as zeros."""
        seen = self._images[disk]
        found = used_map(self._attached.map(seen.kernel)) if seen.is_device else self._by_tables(seen)
        if seen.kind == BLOCK:
            self._attached.claim(seen.kernel)
        return found

    def _by_tables(self, seen: ImportSeen) -> UsedMap:
        node = image_server.node(seen.real, seen.wanted.format, seen.kind == BLOCK)
        argv = ["qemu-img", "map", "--output=json", node]
        told = output_of(argv, timeout_s=_MAP_S, attempted="look what of %s is used" % seen.wanted.path)
        held = [(int(each["start"]), int(each["length"])) for each in json.loads(told) if not each.get("zero")]
        used = tuple(merged(held, _JOINED))
        area = Area("%s %s" % (seen.wanted.format, seen.wanted.path), 0, seen.size, total(used), "qemu-img map")
        return UsedMap(used, (area,), rest_is_zero=True)

    def alive(self) -> bool:
        """Nothing here is frozen."""
        return False

    def bye(self) -> None:
        self._attached.release()


@contextlib.contextmanager
def opened(
    images: Mapping[str, ImportSeen], told: Mapping[str, Any], sockets: str, connections: int
) -> Iterator[LocalSource]:
    """sockets: beginning of the paths of the images' sockets. Raises HostError."""
    attached = Attached({seen.kernel: name for name, seen in images.items() if seen.kind == BLOCK})
    source = LocalSource(images, told, attached)
    with contextlib.ExitStack() as stack:
        stack.callback(source.bye)
        clients = {}
        for number, (name, seen) in enumerate(images.items()):
            node = image_server.node(seen.real, seen.wanted.format, seen.kind == BLOCK)
            socket = "%s.from%d" % (sockets, number)
            server = image_server.opened(seen.real, seen.wanted.format, socket, connections, False, node)
            clients[name] = stack.enter_context(server)
            _insist_on_size(seen, clients[name][0].size)
        source.connect(clients, connections)
        yield source


def _insist_on_size(seen: ImportSeen, size: int) -> None:
    if size != seen.size:
        said = "it has %d bytes now and had %d" % (size, seen.size)
        raise HostError("open %s" % seen.wanted.path, "this host", said, "Find what writes there, then run again.")


def _marks(seen: ImportSeen) -> Tuple[int, ...]:
    """Of a file. What is written to a device the kernel counts."""
    found = os.stat(seen.real)
    if seen.kind == BLOCK:
        return (found.st_rdev,)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
