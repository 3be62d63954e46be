# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A connection to an NBD server over a unix socket: read, write, write zeros, flush. See the NBD protocol, doc/proto.md.

Of the protocol only what qemu-nbd has spoken since it exists: simple replies, one request at a time.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError

_GREETING = struct.Struct(">8s8sH")
_OPTION = struct.Struct(">8sII")
_EXPORT = struct.Struct(">QH")
_REQUEST = struct.Struct(">IHHQQI")
_REPLY = struct.Struct(">IIQ")
_FIXED_NO_ZEROES = 3
_EXPORT_NAME = 1
_REQUEST_MAGIC, _REPLY_MAGIC = 0x25609513, 0x67446698
_READ, _WRITE, _FLUSH, _WRITE_ZEROES = 0, 1, 3, 6
# The server's numbers are those of Linux.
_LATEST_S = 120.0


class Nbd:
    """size: bytes of the export. Not for two threads at once."""

    def __init__(self, path: str, image: str) -> None:
        """path: of the socket. image: named in errors. Raises OSError when nobody listens, HostError when it is no NBD."""
        self._image, self._handle = image, 0
        self._stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._stream.settimeout(_LATEST_S)
        try:
            self._stream.connect(path)
            self.size = self._handshake()
        except BaseException:
            self._stream.close()
            raise

    def close(self) -> None:
        self._stream.close()

    def read(self, offset: int, length: int) -> bytearray:
        return self._do("read", _READ, offset, length, expected=length)

    def write(self, offset: int, data: bytes) -> None:
        self._do("write", _WRITE, offset, len(data), data)

    def zero(self, offset: int, length: int) -> None:
        """The bytes read as zeros from now on; the server may make a hole."""
        self._do("write zeros to", _WRITE_ZEROES, offset, length)

    def flush(self) -> None:
        """All that was written is on the medium."""
        self._do("flush", _FLUSH, 0, 0)

    def _handshake(self) -> int:
        magic, option, dummy = _GREETING.unpack(self._exactly(_GREETING.size))
        if (magic, option) != (b"NBDMAGIC", b"IHAVEOPT"):
            raise HostError("open %s" % self._image, "this host", "what listens there is no NBD server")
        self._stream.sendall(struct.pack(">I", _FIXED_NO_ZEROES) + _OPTION.pack(b"IHAVEOPT", _EXPORT_NAME, 0))
        size, dummy = _EXPORT.unpack(self._exactly(_EXPORT.size))
        return int(size)

    def _do(self, verb: str, kind: int, offset: int, length: int, data: bytes = b"", expected: int = 0) -> bytearray:
        attempted = "%s %s at byte %d" % (verb, self._image, offset)
        self._handle += 1
        try:
            self._stream.sendall(_REQUEST.pack(_REQUEST_MAGIC, 0, kind, self._handle, offset, length))
            if data:
                self._stream.sendall(data)
            magic, error, handle = _REPLY.unpack(self._exactly(_REPLY.size))
            if magic != _REPLY_MAGIC or handle != self._handle:
                raise HostError(attempted, "this host", "qemu-nbd answered another question")
            if error:
                raise HostError(attempted, "this host", os.strerror(error), remedy_of(error))
            return self._exactly(expected)
        except OSError as error:
            raise HostError(attempted, "this host", str(error), "Look whether qemu-nbd was ended; then run again.")

    def _exactly(self, length: int) -> bytearray:
        parts = bytearray(length)
        left = memoryview(parts)
        while left:
            count = self._stream.recv_into(left)
            if not count:
                raise ConnectionResetError(errno.ECONNRESET, "qemu-nbd closed the connection")
            left = left[count:]
        return parts


def remedy_of(error: Optional[int]) -> str:
    """What to do when the storage of an image says that errno."""
    if error == errno.ENOSPC:
        return "Make room in the pool, then run again: what came is kept."
    return "Look at the storage of the pool, then run again."
