# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Protocol 1 between the receiver and the agent on the source: frames over a byte stream, requests and their answers.

A frame is one byte of kind, four of length (big-endian), and the payload. `j` is a JSON object, `c` a piece of a disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import struct
import threading
import zlib
from typing import Any, Dict, Iterator, NamedTuple, Optional, Sequence, Tuple, Union

from ansible_collections.kvmops.fleet.plugins.module_utils.host import zstd
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_held import ZEROS, ZEROS_SHA256
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_ranges import CHUNK, Range, parts

PROTOCOL = 1
_FRAME = struct.Struct(">cI")
_PIECE = struct.Struct(">HQIB32s")
# A piece is at most a chunk, and coding may make it a little longer; a discovery or a map is text of some MiB.
_MOST = 256 * 1024 * 1024
RAW, ZLIB, ZERO, ZSTD, HASH_ONLY, READ_ERROR = range(6)
# What can be undone here; the agent takes the best that it has too.
CODINGS = (RAW, ZLIB, ZERO, *((ZSTD,) if zstd.AVAILABLE else ()))
# Silence for longer than this is a dead connection: the slowest request reads 32 MiB from a busy disk.
SILENCE_S = 120.0
_DIGEST = 32
Buffer = Union[bytes, bytearray, memoryview]

_REMEDY = (
    "The source serves as before. Look at the connection between the two hosts, then run again: what came is kept."
)


class Piece(NamedTuple):
    """data: the bytes, checked against sha256 (raw); None for a hash only. wire: bytes of the frame.

    parts: the hashes of its parts, in their order, when those were asked for.
    """

    disk: int
    offset: int
    length: int
    sha256: bytes
    data: Optional[Buffer]
    wire: int
    parts: Tuple[bytes, ...] = ()


class Refused(HostError):
    """The agent lives and says no."""


class Channel:
    """One connection to the agent. One request at a time."""

    def __init__(self, stream: socket.socket, side: str) -> None:
        stream.settimeout(SILENCE_S)
        self._stream, self.side = stream, side
        self._number = 0
        # Why nothing more comes: an answer that was not waited for would be taken for the next one.
        self._dead = ""
        self._lock = threading.Lock()
        self.hello: Dict[str, Any] = {}

    def close(self) -> None:
        self._stream.close()

    def shut(self) -> None:
        """End it, also for a thread that waits for an answer on it at this moment."""
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)

    def greet(self, run: str) -> None:
        """Read the agent's first frame. Raises HostError when it is not of this run or protocol."""
        attempted = "greet the agent"
        kind, payload = self._read(attempted)
        told = _object(payload) if kind == b"j" else {}
        if told.get("protocol") != PROTOCOL or told.get("channel") not in ("control", "data"):
            raise HostError(attempted, self.side, "it speaks another protocol", "Use one version of kvmops.fleet.")
        if told.get("run") != run:
            raise HostError(attempted, self.side, "it belongs to another run", "Run again.")
        self.hello = told

    def ask(self, word: str, within_s: float = SILENCE_S, **said: Any) -> Dict[str, Any]:
        """The answer to a request without pieces. Raises HostError with the agent's words, or after so long a silence."""
        with self._lock:
            self._stream.settimeout(within_s)
            number = self._send(word, said)
            kind, payload = self._read("ask for %s" % word)
            if kind != b"j":
                raise HostError("ask for %s" % word, self.side, "it sent a piece of a disk", _REMEDY)
            return self._answer(word, number, payload)

    def fetch(self, word: str, disk: str, ranges: Sequence[Range], unit: int = 0) -> Iterator[Piece]:
        """The pieces of a `read` or `digest`, each checked. unit: of a digest, of how many bytes parts are hashed as well. Raises
        HostError."""
        attempted = "%s %s" % (word, disk)
        said: Dict[str, Any] = {"disk": disk, "ranges": [list(item) for item in ranges], "codings": CODINGS}
        with self._lock:
            number = self._send(word, dict(said, unit=unit) if unit else said)
            while True:
                kind, payload = self._read(attempted)
                if kind == b"j":
                    self._answer(word, number, payload)
                    return
                yield self._piece(disk, payload, unit)

    def _send(self, word: str, said: Dict[str, Any]) -> int:
        if self._dead:
            raise HostError("ask for %s" % word, self.side, self._dead, _REMEDY)
        self._number += 1
        payload = json.dumps(dict(said, do=word, id=self._number)).encode("utf-8")
        try:
            self._stream.sendall(_FRAME.pack(b"j", len(payload)) + payload)
        except OSError as error:
            raise self._lost("ask for %s" % word, self._words(error))
        return self._number

    def _read(self, attempted: str) -> Tuple[bytes, memoryview]:
        kind, length = _FRAME.unpack(self._exactly(_FRAME.size, attempted))
        if kind not in (b"j", b"c") or length > _MOST:
            raise HostError(attempted, self.side, "what came is no frame of the agent", _REMEDY)
        return kind, self._exactly(length, attempted)

    def _exactly(self, length: int, attempted: str) -> memoryview:
        """Of a buffer that is written once: a MiB that is copied costs half of what hashing it does."""
        parts = bytearray(length)
        left = memoryview(parts)
        while left:
            try:
                count = self._stream.recv_into(left)
            except OSError as error:
                raise self._lost(attempted, self._words(error))
            if not count:
                raise self._lost(attempted, "the agent's connection ended")
            left = left[count:]
        return memoryview(parts)

    def _lost(self, attempted: str, said: str) -> HostError:
        self._dead = said
        return HostError(attempted, self.side, said, _REMEDY)

    def _words(self, error: OSError) -> str:
        return (
            "silence for %d s" % (self._stream.gettimeout() or 0) if isinstance(error, socket.timeout) else str(error)
        )

    def _answer(self, word: str, number: int, payload: memoryview) -> Dict[str, Any]:
        told = _object(payload)
        if "error" in told:
            error = told["error"]
            # The agent names what it was at as a noun: "tracking writes".
            attempted = "do what was asked of the agent (%s)" % (error.get("what") or word)
            raise Refused(attempted, self.side, str(error.get("said") or "no reason given"), "The source serves on.")
        if told.get("id") != number:
            raise HostError("ask for %s" % word, self.side, "it answered another question", _REMEDY)
        return dict(told.get("ok") or {})

    def _piece(self, disk: str, payload: memoryview, unit: int) -> Piece:
        index, offset, length, coding, digest = _PIECE.unpack_from(payload)
        coded = payload[_PIECE.size :]
        attempted = "read %s at byte %d" % (disk, offset)
        if length > CHUNK or offset % CHUNK + length > CHUNK:
            raise HostError(attempted, self.side, "the piece is longer than a chunk", _REMEDY)
        if coding == READ_ERROR:
            told = _object(coded)
            raise HostError(
                "read %d bytes of %s at byte %d" % (length, disk, offset),
                self.side,
                str(told.get("message") or told.get("errno")),
                "The disk does not give these bytes. Nothing was published.",
            )
        if coding == HASH_ONLY:
            hashes = _hashes(coded, length, unit)
            if hashes is None:
                raise HostError(attempted, self.side, "it sent other hashes than it was asked for", _REMEDY)
            return Piece(index, offset, length, digest, None, len(payload) + _FRAME.size, hashes)
        data = _decoded(coding, coded, length)
        if data is None or len(data) != length or _sha256(coding, data) != digest:
            raise HostError(attempted, self.side, "what came is not what was read there (SHA-256 differs)", _REMEDY)
        return Piece(index, offset, length, digest, data, len(payload) + _FRAME.size)


def _hashes(coded: memoryview, length: int, unit: int) -> Optional[Tuple[bytes, ...]]:
    """Of the parts of a piece; None when it is not one for each."""
    if len(coded) != (_DIGEST * len(parts(0, length, unit)) if unit else 0):
        return None
    return tuple(bytes(coded[start : start + _DIGEST]) for start in range(0, len(coded), _DIGEST))


def _sha256(coding: int, data: Buffer) -> bytes:
    return ZEROS_SHA256 if coding == ZERO and len(data) == CHUNK else hashlib.sha256(data).digest()


def _decoded(coding: int, coded: memoryview, length: int) -> Optional[Buffer]:
    if coding == RAW:
        return coded
    if coding == ZERO:
        return memoryview(ZEROS)[:length]
    if coding == ZLIB:
        try:
            # No more than the piece may hold, whatever the stream says.
            return zlib.decompressobj().decompress(coded, length + 1)
        except zlib.error:
            return None
    if coding == ZSTD:
        return zstd.decompressed(coded, length)
    return None


def _object(payload: memoryview) -> Dict[str, Any]:
    try:
        told = json.loads(str(payload, "utf-8"))
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
