# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ranges of bytes of a disk: (offset, length) pairs, and what is done with lists of them."""

from __future__ import annotations

from typing import Iterable, Iterator, List, Tuple

# Every hash of a manifest is of bytes within one such chunk: a piece never crosses a multiple of it.
CHUNK = 1024 * 1024
# Where a chunk differs it is compared in parts of this size. A lone change costs one part on the link, and 32 bytes for the hash of each
# part of its chunk. That is least with 6 KiB (12 KiB in all; with 16 KiB it is 18, with 64 KiB 65), but each part is also a call on both
# sides, and programs write pages of 4 to 16 KiB.
PART = 16 * 1024
# Of a chunk. Above that all of it is sent: a list of ranges must not grow with what programs write at random.
MOST_STRETCHES = 8

Range = Tuple[int, int]


def merged(ranges: Iterable[Range], gap: int = 0) -> List[Range]:
    """Sorted, without overlap; neighbours that are at most `gap` bytes apart become one, with what lies between."""
    found: List[Range] = []
    for offset, length in sorted(item for item in ranges if item[1] > 0):
        if found and offset <= found[-1][0] + found[-1][1] + gap:
            first = found[-1][0]
            found[-1] = (first, max(found[-1][0] + found[-1][1], offset + length) - first)
        else:
            found.append((offset, length))
    return found


def without(ranges: Iterable[Range], holes: Iterable[Range]) -> List[Range]:
    """What of the ranges lies in no hole."""
    left: List[Range] = []
    cuts = merged(holes)
    for start, length in merged(ranges):
        end = start + length
        for offset, size in cuts:
            if offset + size <= start or offset >= end:
                continue
            if offset > start:
                left.append((start, offset - start))
            start = max(start, offset + size)
        if start < end:
            left.append((start, end - start))
    return left


def aligned(ranges: Iterable[Range], unit: int, size: int) -> List[Range]:
    """Grown to multiples of `unit`, within a disk of `size` bytes."""
    grown = []
    for offset, length in ranges:
        first = offset // unit * unit
        grown.append((first, min(-(-(offset + length) // unit) * unit, size) - first))
    return merged(grown)


def pieces(ranges: Iterable[Range]) -> Iterator[Range]:
    """The same bytes, cut at every multiple of CHUNK."""
    for offset, length in ranges:
        end = offset + length
        while offset < end:
            until = min(end, (offset // CHUNK + 1) * CHUNK)
            yield offset, until - offset
            offset = until


def batches(ranges: Iterable[Range], most: int) -> Iterator[List[Range]]:
    """The ranges in portions of about `most` bytes. All of one chunk comes in one portion: its pieces have one writer."""
    batch: List[Range] = []
    taken = 0
    for offset, length in pieces(ranges):
        another = bool(batch) and batch[-1][0] // CHUNK != offset // CHUNK
        if another and taken >= most:
            yield merged(batch)
            batch, taken = [], 0
        batch.append((offset, length))
        taken += length
    if batch:
        yield merged(batch)


def parts(offset: int, length: int, unit: int) -> List[Range]:
    """The range cut every `unit` bytes from its beginning, the last part being what is left."""
    return [(start, min(unit, offset + length - start)) for start in range(offset, offset + length, unit)]


def total(ranges: Iterable[Range]) -> int:
    return sum(length for dummy, length in ranges)
