# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The receiver's end, for tests: the streamed agent as a process of its own, and what it says over a unix socket."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import socket
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any, Iterator, Sequence

from ansible_collections.kvmops.fleet.plugins.plugin_utils import p2v_bundle

CHUNK = struct.Struct(">HQIB32s")
RAW, ZLIB, ZERO, ZSTD, HASH_ONLY, READ_ERROR = range(6)

# Carries a stream like ssh does: standard input and output to a socket, until either ends.
CARRIER = """
import os, select, socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
while True:
    for ready in select.select([0, s], [], [])[0]:
        part = os.read(0, 65536) if ready == 0 else s.recv(65536)
        if not part: sys.exit(0)
        s.sendall(part) if ready == 0 else os.write(1, part)
"""


class Refused(Exception):
    """An answer of the agent that is an error."""


class Channel:
    """One connection as the receiver sees it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._file = connection.makefile("rb")
        self._numbers = itertools.count(1)
        self.hello = self.json()

    def frame(self) -> tuple[bytes, bytes]:
        header = self._file.read(5)
        if len(header) < 5:
            raise EOFError
        kind, length = struct.unpack(">cI", header)
        return kind, self._file.read(length)

    def json(self) -> Any:
        kind, payload = self.frame()
        assert kind == b"j"
        return json.loads(payload)

    def send(self, do: str, **more: Any) -> int:
        number = next(self._numbers)
        payload = json.dumps({"id": number, "do": do, **more}).encode()
        self.connection.sendall(struct.pack(">cI", b"j", len(payload)) + payload)
        return number

    def ask(self, do: str, **more: Any) -> Any:
        number = self.send(do, **more)
        return self.answer(number)

    def answer(self, number: int) -> Any:
        said = self.json()
        assert said["id"] == number
        if "error" in said:
            raise Refused(said["error"])
        return said["ok"]

    def chunks(self, do: str, **more: Any) -> Iterator[tuple[int, int, int, bytes, bytes]]:
        """(offset, length, coding, digest, coded bytes) until the answer."""
        number = self.send(do, **more)
        count = 0
        while True:
            kind, payload = self.frame()
            if kind == b"j":
                said = json.loads(payload)
                assert said == {"id": number, "ok": {"sent": count}}, said
                return
            count += 1
            dummy, offset, length, coding, digest = CHUNK.unpack_from(payload)
            yield offset, length, coding, digest, payload[CHUNK.size :]

    def read(self, disk: str, ranges: Any, codings: list[int]) -> Iterator[tuple[int, bytes]]:
        """(offset, raw bytes), each checked against its hash."""
        for offset, length, coding, digest, coded in self.chunks("read", disk=disk, ranges=ranges, codings=codings):
            data = decoded(coding, coded, length)
            assert hashlib.sha256(data).digest() == digest
            assert len(data) == length
            yield offset, data

    def close(self) -> None:
        self._file.close()
        self.connection.close()


def decoded(coding: int, coded: bytes, length: int) -> bytes:
    if coding == ZLIB:
        return zlib.decompress(coded)
    if coding == ZSTD:
        return subprocess.run(["zstd", "-dc"], input=coded, stdout=subprocess.PIPE, check=True).stdout
    return {RAW: coded, ZERO: bytes(length)}[coding]


class Agent:
    """An agent that runs, and its channels.

    command: runs `p2v_bundle.START` where the disks are. there: the path under which that place finds the receiver's
    socket, when it is another machine that ssh forwards it to.
    """

    def __init__(
        self, folder: Path, disks: list[str], command: Sequence[str], connections: int = 1, there: str = "", **more: Any
    ) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener_path = str(folder / "receiver")
        self.listener.bind(self.listener_path)
        self.listener.listen(8)
        self.listener.settimeout(60)
        dial = ["python3", "-c", CARRIER, there or self.listener_path]
        settings = {"run": "test-%d" % os.getpid(), "dial": dial, "disks": disks, "connections": connections, **more}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        self.process.stdin.write(p2v_bundle.bundle(settings))
        self.process.stdin.close()
        self.channels = [Channel(self._accepted()) for dummy in range(connections + 1)]
        self.control = next(channel for channel in self.channels if channel.hello["channel"] == "control")
        self.data = [channel for channel in self.channels if channel.hello["channel"] == "data"]
        self.status = json.loads(self.process.stdout.readline())

    def _accepted(self) -> socket.socket:
        try:
            return self.listener.accept()[0]
        except OSError:
            self.process.kill()
            raise AssertionError(self.process.communicate())

    def end(self) -> str:
        """The connections close; what the agent still said, once it is gone."""
        for channel in self.channels:
            channel.close()
        self.listener.close()
        said = self.process.stdout.read().decode() + self.process.stderr.read().decode()
        self.process.wait(60)
        return said
