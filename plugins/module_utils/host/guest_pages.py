# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at a sample of a guest's pages from outside, to see how many are empty and how many change. Nothing of it is kept."""

from __future__ import annotations

import contextlib
import os
import re
import struct
import zlib
from typing import Iterator, List, Optional, Sequence, Tuple

# A checksum of each page of the sample; None: on swap.
Sums = List[Optional[int]]
PAGE = 4096
EMPTY = zlib.crc32(bytes(PAGE))
# One standard deviation is at most 1.1 % of the memory then.
SAMPLED_PAGES = 2048
# Of those, compressed to see how well that goes: 2 MiB at most, a few hundredths of a second.
FEWEST_COMPRESSED, MOST_COMPRESSED, PACKET_PAGES = 32, 512, 128
# Documentation/admin-guide/mm/pagemap.rst of the kernel: one such word per page.
_MARK = struct.Struct("=Q")
PRESENT, SWAPPED = 1 << 63, 1 << 62
RUNTIME = "/run/libvirt/qemu"


def look(name: str, size: int, runtime: str = RUNTIME, proc: str = "/proc") -> Optional[Sums]:
    """A checksum of each page in the sample, the same pages each time. None for a page on swap; None for all: it cannot be told.

    size: bytes of the guest's memory. Pages that were never written to are not read: the kernel might have to make them.
    """
    try:
        with _sampled(name, size, runtime, proc) as (pages, marks, memory):
            return [_checksum(page, marks, memory) for page in pages]
    except (OSError, ValueError, struct.error):
        return None


def ratio(name: str, size: int, numbers: Sequence[int], runtime: str = RUNTIME, proc: str = "/proc") -> Optional[float]:
    """How much smaller those pages of the sample (by their place in it) become when they are compressed. None: too few.

    zlib at level 1, in pieces as large as QEMU's packets, comes near to what zstd at level 1 makes of them.
    """
    if len(numbers) < FEWEST_COMPRESSED:
        return None
    chosen = [numbers[len(numbers) * part // MOST_COMPRESSED] for part in range(MOST_COMPRESSED)]
    try:
        with _sampled(name, size, runtime, proc) as (pages, _marks, memory):
            found = [os.pread(memory, PAGE, pages[number] * PAGE) for number in sorted(set(chosen))]
    except (OSError, ValueError, struct.error):
        return None
    packed = sum(
        len(zlib.compress(b"".join(found[at : at + PACKET_PAGES]), 1)) for at in range(0, len(found), PACKET_PAGES)
    )
    return max(1.0, len(found) * PAGE / float(packed))


@contextlib.contextmanager
def _sampled(name: str, size: int, runtime: str, proc: str) -> Iterator[Tuple[List[int], int, int]]:
    """The sample as page numbers of QEMU's memory; the open pagemap and memory. Raises OSError, ValueError."""
    with open("%s/%s.pid" % (runtime, name), encoding="ascii") as file:
        process = "%s/%d" % (proc, int(file.read()))
    with open(process + "/maps", encoding="ascii", errors="replace") as file:
        start = _start_of(file.read(), size)
    if start is None:
        raise ValueError("no mapping of that size")
    with open(process + "/pagemap", "rb", buffering=0) as marks, open(process + "/mem", "rb", buffering=0) as memory:
        looked = min(size // PAGE, SAMPLED_PAGES)
        pages = [(start + size * number // looked) // PAGE for number in range(looked)]
        yield pages, marks.fileno(), memory.fileno()


def _start_of(maps: str, size: int) -> Optional[int]:
    """Where the guest's memory begins in QEMU's: mappings side by side, as the kernel may have split it."""
    rows = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) rw", maps, re.MULTILINE)
    begin = end = 0
    for start, stop in [(int(start, 16), int(stop, 16)) for start, stop in rows]:
        if stop - start == size:
            return start
        begin, end = (begin if start == end else start), stop
        if end - begin == size:
            return begin
    return None


def _checksum(page: int, marks: int, memory: int) -> Optional[int]:
    (mark,) = _MARK.unpack(os.pread(marks, _MARK.size, page * _MARK.size))
    if mark & SWAPPED:
        return None
    return zlib.crc32(os.pread(memory, PAGE, page * PAGE)) if mark & PRESENT else EMPTY
