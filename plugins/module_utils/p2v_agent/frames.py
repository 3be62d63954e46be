# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Protocol 1 of the agent and the receiver: frames on any byte stream.

A frame is one byte of kind, four bytes of length (big endian) and the payload. Kind `j` is a JSON object, kind `c` a
chunk: CHUNK and then the coded bytes.
"""

from __future__ import absolute_import, division, print_function

import json
import os
import struct
import threading

__metaclass__ = type

PROTOCOL = 1
HEADER = struct.Struct(">cI")
# disk, offset, raw length, coding, SHA-256 of the raw bytes
CHUNK = struct.Struct(">HQIB32s")

RAW, ZLIB, ZERO, ZSTD, HASH_ONLY, READ_ERROR = range(6)

# A request with the ranges of a whole disk is the largest frame there is.
MOST = 64 * 1024 * 1024
# Below that a copy costs less than a call.
AT_ONCE = 32 * 1024


class ProtocolError(Exception):
    """The other side does not speak this protocol."""


class Stream:
    """Frames over a pair of descriptors, which may be the same. Any thread may send."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer
        self._sending = threading.Lock()

    def receive(self):
        """(kind, payload) of the next frame, or None when the other side has closed the stream."""
        header = self._exactly(HEADER.size, at_start=True)
        if header is None:
            return None
        kind, length = HEADER.unpack(header)
        if kind not in (b"j", b"c") or length > MOST:
            raise ProtocolError("this is no frame: kind %r, %d bytes" % (kind, length))
        return kind, self._exactly(length)

    def receive_json(self):
        """The object of the next frame, or None at the end of the stream."""
        frame = self.receive()
        if frame is None:
            return None
        if frame[0] != b"j":
            raise ProtocolError("a request is a JSON frame, and this one is of kind %r" % frame[0])
        try:
            said = json.loads(frame[1].decode("utf-8"))
        except ValueError as error:
            raise ProtocolError("a request that is no JSON: %s" % error)
        if not isinstance(said, dict):
            raise ProtocolError("a request is a JSON object")
        return said

    def send_json(self, said):
        self._send(b"j", json.dumps(said, separators=(",", ":")).encode("utf-8"), b"")

    def send_chunk(self, disk, offset, length, coding, digest, coded):
        self._send(b"c", CHUNK.pack(disk, offset, length, coding, digest), coded)

    def _send(self, kind, head, body):
        """Small frames by one call, since each may become a packet; a large body without a copy of it."""
        whole = HEADER.pack(kind, len(head) + len(body)) + head
        parts = (whole + body,) if len(body) < AT_ONCE else (whole, body)
        with self._sending:
            for part in parts:
                left = memoryview(part)
                while left:
                    left = left[os.write(self.writer, left) :]

    def _exactly(self, length, at_start=False):
        parts = []
        left = length
        while left:
            part = os.read(self.reader, min(left, 1024 * 1024))
            if not part:
                if at_start and left == length:
                    return None
                raise ProtocolError("the stream ended within a frame")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
