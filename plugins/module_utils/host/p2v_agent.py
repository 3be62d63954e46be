# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent on the source as seen from here: its connections, and what it is asked for, as values of the model."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_wire import Channel, Refused
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import Area, Source, SourceDisk, UsedMap
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_ranges import Range, merged

_LOOK_EVERY_S = 0.5
# The agent answers an order to power off before it does so.
_ORDER_S = 20.0


class NotThere(HostError):
    """The agent did not come. stage: how far its start came, "" when nobody told. address: its own, towards us. port: of sshd."""

    def __init__(self, side: str, said: str, stage: str = "", address: str = "", port: str = "") -> None:
        self.stage, self.address, self.port = stage, address, port or "22"
        remedy = "Look whether the source reaches this host by ssh; nothing was changed on it."
        super().__init__("get the agent's connections", side, said, remedy)


class Written(NamedTuple):
    """disks: what was written since the last question. lost: events that were not told. sizes: bytes, now."""

    disks: Dict[str, List[Range]]
    lost: int
    boot_id: str
    sizes: Dict[str, int]


class Rested(NamedTuple):
    """written: bytes, by disk, since they were to rest. sizes: bytes, now."""

    written: Dict[str, int]
    boot_id: str
    sizes: Dict[str, int]


class Agent:
    """control: one request at a time. data: connections for reading, each of one thread. awaited_s: until they were there."""

    def __init__(self, control: Channel, data: Sequence[Channel], awaited_s: float = 0.0) -> None:
        self.control, self.data, self.awaited_s = control, list(data), awaited_s
        self.side = control.side

    def describe(self) -> Source:
        told = self.control.ask("describe")
        disks = tuple(_disk(disk) for disk in told.get("disks", ()))
        return Source(str(told.get("hostname") or self.side), str(told.get("boot_id") or ""), disks, told)

    def limit(self, bandwidth_mib_s: Any) -> None:
        self.control.ask("limit", bandwidth_mib_s=bandwidth_mib_s)

    def track(self, disks: Sequence[str]) -> str:
        """Writes are noted from now on. Gives the boot id."""
        return str(self.control.ask("track", disks=list(disks)).get("boot_id"))

    def sync(self) -> None:
        self.control.ask("sync")

    def written(self) -> Written:
        told = self.control.ask("written")
        disks = {name: merged(_ranges(ranges)) for name, ranges in told["disks"].items()}
        return Written(disks, int(told["lost"]), str(told["boot_id"]), dict(told.get("sizes") or {}))

    def rest(self, disks: Sequence[str]) -> str:
        """The disks should stay as they are from now on. Gives the boot id."""
        return str(self.control.ask("rest", disks=list(disks)).get("boot_id"))

    def rested(self) -> Rested:
        told = self.control.ask("rested")
        written = {str(name): int(size) for name, size in told["written"].items()}
        return Rested(written, str(told["boot_id"]), dict(told.get("sizes") or {}))

    def map(self, disk: str) -> UsedMap:
        return used_map(self.control.ask("map", disk=disk))

    def freeze(self, limit_s: float) -> Dict[str, Any]:
        """{frozen: mount points, cannot: [{mount, said}] of those that know no freezing}. After limit_s without `alive` all is
        thawed."""
        return self.control.ask("freeze", mounts=None, limit_s=limit_s)

    def alive(self) -> bool:
        """Tells the watchdog that we are. Whether the filesystems are frozen still."""
        return bool(self.control.ask("alive").get("frozen"))

    def thaw(self) -> None:
        self.control.ask("thaw")

    def stop(self, services: Sequence[str]) -> None:
        self.control.ask("services", stop=list(services))

    def start(self, services: Sequence[str]) -> None:
        self.control.ask("services", start=list(services))

    def power_off(self) -> None:
        """It has taken the order, and goes off whatever becomes of this connection. Raises Refused when it cannot, and
        HostError when that is not known."""
        self.control.ask("poweroff", within_s=_ORDER_S)

    def answers(self, within_s: float) -> bool:
        """Whether it says that it is alive. When not, nothing more can be asked."""
        try:
            self.control.ask("alive", within_s=within_s)
        except Refused:
            return True
        except HostError:
            return False
        return True

    def bye(self) -> None:
        with contextlib.suppress(HostError):
            self.control.ask("bye")
        for channel in (self.control, *self.data):
            channel.close()


@contextlib.contextmanager
def listening(path: str) -> Iterator[socket.socket]:
    """The socket that the agent's connections are joined to."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            server.bind(path)
            server.listen(16)
        except OSError as error:
            raise HostError("listen on %s" % path, "this host", str(error), "Run as root (become: true).")
        yield server
    finally:
        server.close()


def awaited(
    server: socket.socket, run: str, connections: int, seconds: float, failed: str = "", side: str = "the source"
) -> Agent:
    """The agent with all its connections. Raises NotThere when they do not come in time, or when the file `failed`
    appears, which says why they will not."""
    began = time.monotonic()
    latest = began + seconds
    control: List[Channel] = []
    data: List[Channel] = []
    server.settimeout(_LOOK_EVERY_S)
    try:
        while not control or len(data) < connections:
            try:
                stream, dummy = server.accept()
            except OSError:
                _insist(len(control) + len(data), connections + 1, seconds, time.monotonic() > latest, failed, side)
                continue
            channel = Channel(stream, side)
            (data if _greeted(channel, run) == "data" else control).append(channel)
    except BaseException:
        for channel in (*control, *data):
            channel.close()
        raise
    return Agent(control[0], data, time.monotonic() - began)


def _insist(came: int, wanted: int, seconds: float, late: bool, failed: str, side: str) -> None:
    told: Dict[str, Any] = {}
    with contextlib.suppress(OSError), open(failed, encoding="utf-8", errors="replace") as lines:
        told = _told(lines.read(8000))
    if late and not told:
        told = {"said": "%d of %d connections came within %d s" % (came, wanted, seconds)}
    if told:
        words = [str(told.get(each) or "") for each in ("said", "stage", "from", "port")]
        raise NotThere(side, *words)


def _told(text: str) -> Dict[str, Any]:
    """What whoever was to start the agent wrote: JSON, or words. A file that is not written yet is nothing."""
    with contextlib.suppress(ValueError):
        told = json.loads(text)
        if isinstance(told, dict):
            return told
    return {"said": text} if text.strip() else {}


def _greeted(channel: Channel, run: str) -> str:
    try:
        channel.greet(run)
    except BaseException:
        channel.close()
        raise
    return str(channel.hello["channel"])


def used_map(told: Dict[str, Any]) -> UsedMap:
    """Of {used, areas} as the agent tells it."""
    areas = tuple(
        Area(str(a["what"]), int(a["offset"]), int(a["length"]), int(a.get("used_bytes") or 0), str(a["how"]))
        for a in told.get("areas", ())
    )
    return UsedMap(tuple(merged(_ranges(told["used"]))), areas)


def _disk(told: Dict[str, Any]) -> SourceDisk:
    return SourceDisk(
        name=str(told["name"]),
        size=int(told["size"]),
        sector=int(told.get("sector") or 512),
        serial=str(told["serial"]) if told.get("serial") else None,
        wwn=str(told["wwn"]) if told.get("wwn") else None,
        model=str(told["model"]) if told.get("model") else None,
    )


def _ranges(told: Any) -> Iterator[Tuple[int, int]]:
    return ((int(offset), int(length)) for offset, length in told)
