# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bridge with nothing on it but a guest under test and a probe beside it, in a network namespace of its own.

The host has no address there and forwards nothing to it: what the guest sends ends at the probe.
"""

from __future__ import annotations

import contextlib
import hashlib
from typing import Iterator, List

from ansible_collections.kvmops.fleet.plugins.module_utils.host import commands
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import output_of
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_vm import Neighbour

# Ends with 0 when a connection was accepted.
_CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2).close()"
_REMEDY = "It needs root, and a kernel with network namespaces; or wait for the console or the agent instead."


class Bridge:
    """name: of the bridge. What it is made of has names like it."""

    def __init__(self, name: str, neighbour: Neighbour) -> None:
        # 15 characters are the most that an interface may have.
        self.name = "kvt%s" % hashlib.sha256(name.encode("utf-8")).hexdigest()[:10]
        self.neighbour = neighbour

    @property
    def _port(self) -> str:
        return self.name + "p"

    def make(self) -> None:
        mine = self.neighbour
        for words in (
            ["link", "add", self.name, "type", "bridge"],
            # No address of the host, not even of this link.
            ["link", "set", self.name, "addrgenmode", "none"],
            ["link", "set", self.name, "up"],
            ["netns", "add", self.name],
            ["link", "add", self._port, "type", "veth", "peer", "name", "probe", "netns", self.name],
            ["link", "set", self._port, "addrgenmode", "none"],
            ["link", "set", self._port, "master", self.name, "up"],
            ["-n", self.name, "address", "add", "%s/%d" % (mine.own, mine.prefix), "dev", "probe"],
            ["-n", self.name, "link", "set", "probe", "up"],
        ):
            output_of(["ip", *words], attempted="make an isolated bridge for %s" % mine.guest, remedy=_REMEDY)

    def remove(self) -> None:
        """Also what a run that died has left."""
        for words in (["netns", "del", self.name], ["link", "del", self._port], ["link", "del", self.name]):
            commands.run(["ip", *words])

    def answers(self, port: int) -> bool:
        probe: List[str] = ["/usr/bin/python3", "-I", "-c", _CONNECT, self.neighbour.guest, str(port)]
        return commands.run(["ip", "netns", "exec", self.name, *probe], timeout_s=20).rc == 0


@contextlib.contextmanager
def isolated(name: str, neighbour: Neighbour) -> Iterator[Bridge]:
    """For as long as the block lasts. name: by which a later run finds what this one left. Raises HostError."""
    bridge = Bridge(name, neighbour)
    bridge.remove()
    try:
        bridge.make()
        yield bridge
    finally:
        bridge.remove()
