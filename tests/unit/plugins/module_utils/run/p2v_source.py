# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A source of hot P2V whose disks are files: the agent's half of protocol 1, in threads of the test."""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import threading
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

MIB = 1024 * 1024
HEADER = struct.Struct(">cI")
CHUNK = struct.Struct(">HQIB32s")


class FileSource:
    """disks: name -> file. used: what its map tells. write() is what a program on the source does."""

    def __init__(self, disks: Dict[str, Path], run: str, used: Dict[str, List[List[int]]]) -> None:
        self.disks, self.run, self.used = disks, run, used
        self.boot_id, self.lost = "boot-1", 0
        self.frozen = self.thawed_by_itself = self.off = False
        self.asked: List[str] = []
        self.read_bytes = self.hashed_bytes = self.compared_bytes = 0
        self.serials = {name: "SERIAL-%s" % name for name in disks}
        self.services: Dict[str, bool] = {"web": True}
        self.facts: Dict[str, Any] = {"tracing": "/sys/kernel/tracing"}
        self.spoil: Optional[Callable[[str, int, bytes], bytes]] = None
        self.unreadable: Optional[int] = None
        self.refuses = ""
        # A machine that takes the order to power off and stays on; one whose link ends before it could say so.
        self.stays_on = self.mute = False
        self.before_request: Callable[[str], None] = lambda word: None
        self._written: Dict[str, List[List[int]]] = {name: [] for name in disks}
        self._streams: List[socket.socket] = []
        self._threads: List[threading.Thread] = []

    # --- what happens on the machine ---

    def write(self, disk: str, offset: int, data: bytes) -> None:
        with self.disks[disk].open("r+b") as file:
            file.seek(offset)
            file.write(data)
        self._written[disk].append([offset, len(data)])

    def grow(self, disk: str, size: int) -> None:
        with self.disks[disk].open("r+b") as file:
            file.truncate(size)

    # --- connections ---

    def dial(self, path: str, data: int = 2) -> None:
        for number in range(data + 1):
            stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            stream.connect(path)
            self._streams.append(stream)
            channel = "control" if number == 0 else "data"
            hello = {"protocol": 1, "run": self.run, "channel": channel, "number": number, "codings": [0, 1, 2]}
            self._send(stream, b"j", json.dumps(hello).encode())
            thread = threading.Thread(target=self._serve, args=(stream,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def die(self) -> None:
        """As if the machine or the link were gone."""
        for stream in self._streams:
            stream.shutdown(socket.SHUT_RDWR)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(10)
        for stream in self._streams:
            stream.close()

    def _serve(self, stream: socket.socket) -> None:
        try:
            while True:
                dummy, length = HEADER.unpack(self._exactly(stream, HEADER.size))
                request = json.loads(self._exactly(stream, length).decode())
                if not self.off or self.stays_on:
                    self._answer(stream, request)
        except OSError:
            return

    def _answer(self, stream: socket.socket, request: Dict[str, Any]) -> None:
        word = request["do"]
        self.asked.append(word)
        self.before_request(word)
        if self.mute and word == "poweroff":
            self.die()
            raise ConnectionResetError
        answer: Dict[str, Any] = {"id": request["id"]}
        if word == self.refuses:
            answer["error"] = {"what": word, "said": "No such file or directory", "errno": 2}
        elif word in ("read", "digest"):
            answer["ok"] = {"sent": self._pieces(stream, request)}
        else:
            answer["ok"] = getattr(self, "_do_" + word)(request)
        self._send(stream, b"j", json.dumps(answer).encode())

    def _pieces(self, stream: socket.socket, request: Dict[str, Any]) -> int:
        sent = 0
        with self.disks[request["disk"]].open("rb") as file:
            for offset, length in request["ranges"]:
                end = offset + length
                while offset < end:
                    size = min(end, (offset // MIB + 1) * MIB) - offset
                    file.seek(offset)
                    self._piece(stream, request, offset, file.read(size))
                    offset += size
                    sent += 1
        return sent

    def _piece(self, stream: socket.socket, request: Dict[str, Any], offset: int, data: bytes) -> None:
        digest = hashlib.sha256(data).digest()
        if self.unreadable is not None and offset <= self.unreadable < offset + len(data):
            coding, digest, coded = 5, bytes(32), json.dumps({"errno": 5, "message": "Input/output error"}).encode()
        elif request["do"] == "digest":
            self.hashed_bytes += len(data)
            unit = request.get("unit") or 0
            self.compared_bytes += len(data) if unit else 0
            parts = [data[at : at + unit] for at in range(0, len(data), unit)] if unit else []
            coding, coded = 4, b"".join(hashlib.sha256(part).digest() for part in parts)
        else:
            self.read_bytes += len(data)
            small = zlib.compress(data, 1)
            coding, coded = (2, b"") if not any(data) else (1, small) if len(small) < len(data) else (0, data)
            if self.spoil is not None:
                coding, coded = 0, self.spoil(request["disk"], offset, data)
        self._send(stream, b"c", CHUNK.pack(0, offset, len(data), coding, digest) + coded)

    def _send(self, stream: socket.socket, kind: bytes, payload: bytes) -> None:
        stream.sendall(HEADER.pack(kind, len(payload)) + payload)

    def _exactly(self, stream: socket.socket, length: int) -> bytes:
        parts = b""
        while len(parts) < length:
            part = stream.recv(length - len(parts))
            if not part:
                raise ConnectionResetError
            parts += part
        return parts

    # --- control ---

    def _do_describe(self, request: Dict[str, Any]) -> Dict[str, Any]:
        disks = [
            {
                "name": name,
                "size": path.stat().st_size,
                "sector": 512,
                "serial": self.serials[name],
                "wwn": None,
                "model": "FILE",
            }
            for name, path in self.disks.items()
        ]
        return dict(self.facts, hostname="old1", boot_id=self.boot_id, disks=disks)

    def _do_limit(self, request: Dict[str, Any]) -> Dict[str, Any]:
        return {}

    def _do_track(self, request: Dict[str, Any]) -> Dict[str, Any]:
        self._written = {name: [] for name in self.disks}
        return {"boot_id": self.boot_id}

    def _do_written(self, request: Dict[str, Any]) -> Dict[str, Any]:
        told, self._written = self._written, {name: [] for name in self.disks}
        lost, self.lost = self.lost, 0
        sizes = {name: path.stat().st_size for name, path in self.disks.items()}
        return {"disks": told, "lost": lost, "boot_id": self.boot_id, "sizes": sizes}

    def _do_map(self, request: Dict[str, Any]) -> Dict[str, Any]:
        return {"used": self.used[request["disk"]], "areas": []}

    def _do_sync(self, request: Dict[str, Any]) -> Dict[str, Any]:
        return {}

    def _do_freeze(self, request: Dict[str, Any]) -> Dict[str, Any]:
        self.frozen = True
        return {"frozen": ["/"], "cannot": [{"mount": "/boot/efi", "said": "Operation not supported"}]}

    def _do_alive(self, request: Dict[str, Any]) -> Dict[str, Any]:
        return {"frozen": self.frozen and not self.thawed_by_itself}

    def _do_thaw(self, request: Dict[str, Any]) -> Dict[str, Any]:
        self.frozen = False
        return {}

    def _do_services(self, request: Dict[str, Any]) -> Dict[str, Any]:
        for name in request.get("stop", []):
            self.services[name] = False
        for name in request.get("start", []):
            self.services[name] = True
        return {}

    def _do_poweroff(self, request: Dict[str, Any]) -> Dict[str, Any]:
        self.off = True
        return {}

    def _do_bye(self, request: Dict[str, Any]) -> Dict[str, Any]:
        return {}
