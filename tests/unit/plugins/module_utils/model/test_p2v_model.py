# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ranges and manifests: set arithmetic on bytes, and a file that is only ever appended to."""

from __future__ import annotations

import itertools
import random
from typing import List, Set

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_manifest import Manifest, Piece, read_manifest
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_ranges import (
    CHUNK,
    Range,
    aligned,
    batches,
    merged,
    pieces,
    total,
    without,
)

HEAD = {"disk": {"name": "sda", "size": 8 * CHUNK}}


def some(seed: int) -> List[Range]:
    chance = random.Random(seed)
    return [(chance.randrange(200), chance.randrange(30)) for dummy in range(chance.randrange(12))]


def as_bytes(ranges: List[Range]) -> Set[int]:
    return {place for offset, length in ranges for place in range(offset, offset + length)}


@pytest.mark.parametrize("seed", range(60))
def test_ranges_are_sets_of_bytes(seed: int) -> None:
    one, other = some(seed), some(seed + 1000)
    assert as_bytes(merged(one)) == as_bytes(one)
    assert total(merged(one)) == len(as_bytes(one))
    assert as_bytes(without(one, other)) == as_bytes(one) - as_bytes(other)
    found = merged(one)
    assert all(a[0] + a[1] < b[0] for a, b in itertools.pairwise(found)), "neighbours are one"


def test_neighbours_within_the_gap_become_one_with_what_lies_between() -> None:
    assert merged([(0, 10), (15, 5), (40, 1)], gap=5) == [(0, 20), (40, 1)]


def test_alignment_stays_within_the_disk() -> None:
    assert aligned([(5000, 10), (8190, 10), (20000, 479)], 4096, 20480) == [(4096, 8192), (16384, 4096)]


@pytest.mark.parametrize("seed", range(20))
def test_no_piece_crosses_a_chunk_and_no_chunk_is_in_two_batches(seed: int) -> None:
    chance = random.Random(seed)
    ranges = merged((chance.randrange(40 * CHUNK), chance.randrange(1, 3 * CHUNK)) for dummy in range(20))
    cut = list(pieces(ranges))
    assert all(offset // CHUNK == (offset + length - 1) // CHUNK for offset, length in cut)
    assert merged(cut) == ranges
    portions = list(batches(ranges, 2 * CHUNK))
    assert merged(piece for portion in portions for piece in portion) == ranges
    chunks = [{offset // CHUNK for offset, dummy in pieces(portion)} for portion in portions]
    assert sum(len(each) for each in chunks) == len(set().union(*chunks))


def test_a_manifest_is_what_its_last_lines_say() -> None:
    manifest = Manifest(HEAD)
    manifest.take(0, [Piece(0, 4096, "aa")])
    lines = [manifest.head_line(), *manifest.lines(manifest.changed)]
    manifest.take(0, [Piece(8192, 10, "cc"), Piece(0, 4096, "bb")])
    manifest.take(3, [Piece(3 * CHUNK, CHUNK, "dd")])
    manifest.forget(3)
    again = read_manifest([*lines, *manifest.lines([0, 3])])
    assert again.at(0) == (Piece(0, 4096, "bb"), Piece(8192, 10, "cc"))
    assert again.at(3) == () and again.bytes == 4106
    assert again.head["disk"] == HEAD["disk"]


def test_a_line_that_a_crash_cut_off_does_not_count() -> None:
    manifest = Manifest(HEAD)
    manifest.take(0, [Piece(0, 4096, "aa")])
    line = next(manifest.lines([0]))
    assert read_manifest([manifest.head_line(), line, line[:-9]]).at(0) == (Piece(0, 4096, "aa"),)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["[]\n"],
        ['{"manifest": 2}\n'],
        ["no json\n"],
        ['{"manifest": 1}\n', "[0]\n"],
        ['{"manifest": 1}\n', '[0, [[0, "x", "aa"]]]\n'],
        ['{"manifest": 1}\n', "[0, [[%d, 4096, 'aa']]]\n" % CHUNK],
        ['{"manifest": 1}\n', '[0, [[%d, 4096, "aa"]]]\n' % CHUNK],
        ['{"manifest": 1}\n', '[1, [[0, 4096, "aa"]]]\n'],
        ['{"manifest": 1}\n', '[0, [[10, -5, "aa"]]]\n'],
    ],
)
def test_what_is_no_manifest_is_refused(lines: List[str]) -> None:
    with pytest.raises(ValueError):
        read_manifest(lines)
