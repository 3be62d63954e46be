# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sending end of an image stream: data extents of a local file, each behind its offset and length."""

from __future__ import annotations

import os
from typing import Any, Callable, Iterable, Iterator, List, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host.far_side import CHUNK, RECORD

ZEROS = bytes(CHUNK)


def send(path: str, write: Callable[[bytes], Any], have: Iterable[Sequence[int]] = ()) -> int:
    """Call write(bytes) with the image stream of the file: data extents only, then the end record.

    have: [[start, end]] that the other end has already. Returns the bytes of data sent. Holes (SEEK_HOLE) are not read,
    and what reads as zeros is not sent: a new file has zeros there.
    """
    sent = 0
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        for start, end in _without(_extents(descriptor, size), have):
            for offset in range(start, end, CHUNK):
                chunk = _read_full(descriptor, offset, min(CHUNK, end - offset))
                if chunk == ZEROS[: len(chunk)]:
                    continue
                write(RECORD.pack(offset, len(chunk)))
                write(chunk)
                sent += len(chunk)
        write(RECORD.pack(size, 0))
        return sent
    finally:
        os.close(descriptor)


def identity(path: str) -> str:
    """What changes when somebody writes to the file; equal means that a copy cut short may go on."""
    found = os.stat(path)
    return "%d %d %d %d" % (found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)


def _without(extents: Iterable[Tuple[int, int]], have: Iterable[Sequence[int]]) -> Iterator[Tuple[int, int]]:
    """The parts of the extents that no range in `have` covers. Both ascend."""
    for start, end in extents:
        for first, last in have:
            if last <= start or first >= end:
                continue
            if first > start:
                yield start, first
            start = last
            if start >= end:
                break
        if start < end:
            yield start, end


def _read_full(descriptor: int, offset: int, length: int) -> bytes:
    parts: List[bytes] = []
    while length:
        part = os.pread(descriptor, length, offset)
        if not part:
            raise OSError("the file ended at byte %d while it was read" % offset)
        parts.append(part)
        offset, length = offset + len(part), length - len(part)
    return b"".join(parts)


def _extents(descriptor: int, size: int) -> Iterator[Tuple[int, int]]:
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end
        position = end
