# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading a disk past every cache, hashing and coding what was read. Memory: one buffer of 1 MiB per reader."""

from __future__ import absolute_import, division, print_function

import ctypes
import errno
import fcntl
import hashlib
import json
import mmap
import os
import threading
import time
import zlib

from ansible_collections.kvmops.fleet.plugins.module_utils.p2v_agent import frames, processes, ranges

__metaclass__ = type

O_DIRECT = getattr(os, "O_DIRECT", 0o40000)
BLKFLSBUF = 0x1261
# Enough for every logical block there is, and a page.
ALIGNED = 4096
ATTEMPTS = 3
PREAD = getattr(processes.libc, "pread64", None) or processes.libc.pread
PREAD.restype = ctypes.c_ssize_t
PREAD.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64]
NOTHING = b"\0" * 32
ZEROS = bytes(bytearray(ranges.MIB))
ZEROS_DIGEST = hashlib.sha256(ZEROS).digest()


class Disk:
    """One disk (or image file) opened for reading. Not to be shared between threads.

    Read with O_DIRECT: a buffered read would return what the block device's own cache holds, which is not what a
    filesystem on it wrote since. Where O_DIRECT is refused, that cache is dropped before each read.
    """

    def __init__(self, path, size):
        self.size = size
        self._buffer = mmap.mmap(-1, ranges.MIB + 2 * ALIGNED)
        self._held = (ctypes.c_char * len(self._buffer)).from_buffer(self._buffer)
        try:
            self._descriptor = os.open(path, os.O_RDONLY | O_DIRECT)
            self._direct = True
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._descriptor = os.open(path, os.O_RDONLY)
            self._direct = False

    def close(self):
        os.close(self._descriptor)

    def read(self, offset, length):
        """Exactly these bytes; at most 1 MiB. OSError or IOError when they cannot be read."""
        if not self._direct:
            self._drop_cache()
        start = offset // ALIGNED * ALIGNED
        wanted = min(-(-(offset + length) // ALIGNED) * ALIGNED, self.size) - start
        if offset + length > start + wanted:
            raise IOError(errno.EINVAL, "the disk ends at %d" % self.size)
        got = 0
        while got < wanted:
            # What a short read left behind starts anew at a whole block, as O_DIRECT asks for.
            got = got // ALIGNED * ALIGNED
            count = PREAD(self._descriptor, ctypes.byref(self._held, got), wanted - got, start + got)
            if count < 0:
                number = ctypes.get_errno()
                raise IOError(number, os.strerror(number))
            if got + count < wanted and count < ALIGNED:
                raise IOError(errno.EIO, "the disk ends at %d, before its size" % (start + got + count))
            got += count
        return self._buffer[offset - start : offset - start + length]

    def _drop_cache(self):
        try:
            fcntl.ioctl(self._descriptor, BLKFLSBUF, 0)
        except (IOError, OSError) as error:
            # An image file has no such cache.
            if error.errno not in (errno.ENOTTY, errno.EINVAL):
                raise


class Zstd:
    """libzstd by ctypes; `Zstd.load()` is None where there is none."""

    LEVEL = 1

    def __init__(self, library):
        self._library = library
        for name in ("ZSTD_compressBound", "ZSTD_compress", "ZSTD_isError"):
            getattr(library, name).restype = ctypes.c_size_t
        library.ZSTD_compressBound.argtypes = [ctypes.c_size_t]
        library.ZSTD_isError.argtypes = [ctypes.c_size_t]
        library.ZSTD_compress.argtypes = [
            ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int,
        ]  # fmt: skip
        self._room = library.ZSTD_compressBound(ranges.MIB)
        self._local = threading.local()

    @classmethod
    def load(cls):
        try:
            return cls(ctypes.CDLL("libzstd.so.1"))
        except (OSError, AttributeError):
            return None

    def compress(self, data):
        if not hasattr(self._local, "coded"):
            self._local.coded = ctypes.create_string_buffer(self._room)
        coded = self._local.coded
        length = self._library.ZSTD_compress(coded, self._room, data, len(data), self.LEVEL)
        return None if self._library.ZSTD_isError(length) else ctypes.string_at(coded, length)


class Coder:
    """Finds the smallest of the codings that the receiver allows."""

    def __init__(self):
        self._zstd = Zstd.load()

    def offered(self):
        return [frames.RAW, frames.ZLIB, frames.ZERO] + ([frames.ZSTD] if self._zstd else [])

    def code(self, data, allowed):
        """(coding, coded bytes); raw unless coding saves a twentieth."""
        if frames.ZERO in allowed and data == (ZEROS if len(data) == ranges.MIB else ZEROS[: len(data)]):
            return frames.ZERO, b""
        coding, coded = frames.RAW, None
        if frames.ZSTD in allowed and self._zstd:
            coding, coded = frames.ZSTD, self._zstd.compress(data)
        elif frames.ZLIB in allowed:
            coding, coded = frames.ZLIB, zlib.compress(data, 1)
        if coded is None or len(coded) > len(data) * 0.95:
            return frames.RAW, data
        return coding, coded


class Pace:
    """What all connections together may send: a bucket that holds a quarter of a second. None: as fast as it goes."""

    def __init__(self):
        self._lock = threading.Lock()
        self._rate = None
        self._free_at = 0.0

    def limit(self, bytes_per_s):
        with self._lock:
            self._rate = bytes_per_s
            self._free_at = 0.0

    def spend(self, count):
        with self._lock:
            if not self._rate:
                return
            now = time.time()
            # A clock that was set back must not stop the copy.
            if not now - 0.25 <= self._free_at <= now + 60:
                self._free_at = now - 0.25
            self._free_at += count / float(self._rate)
            wait = self._free_at - now
        if wait > 0:
            time.sleep(wait)


def digests(data, unit):
    """The hashes of the parts of `unit` bytes, one behind the other. Parts of less than a block are refused."""
    if unit < ALIGNED:
        raise ValueError("parts of %r bytes" % (unit,))
    return b"".join(hashlib.sha256(data[start : start + unit]).digest() for start in range(0, len(data), unit))


def send_chunks(stream, disk, number, wanted, pace, code):
    """Read, hash and send what is `wanted`; the number of chunks sent. code(data) gives (coding, coded bytes)."""
    sent = 0
    for offset, length in ranges.pieces(wanted):
        try:
            data = read_again(disk, offset, length)
        except (IOError, OSError) as error:
            said = {"errno": error.errno, "message": error.strerror or str(error)}
            coding, digest, coded = frames.READ_ERROR, NOTHING, json.dumps(said).encode("utf-8")
        else:
            digest = ZEROS_DIGEST if data == ZEROS else hashlib.sha256(data).digest()
            coding, coded = code(data)
        pace.spend(len(coded) + frames.CHUNK.size)
        stream.send_chunk(number, offset, length, coding, digest, coded)
        sent += 1
    return sent


def read_again(disk, offset, length):
    """A read with bounded retries: some faults pass."""
    for attempt in range(ATTEMPTS):
        try:
            return disk.read(offset, length)
        except (IOError, OSError):
            if attempt == ATTEMPTS - 1:
                raise
    return b""
