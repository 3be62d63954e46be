# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a second image costs: where a chunk differs it is compared in parts, and never at the price of a wrong image."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_ranges import MOST_STRETCHES, PART

from .p2v_source import MIB
from .test_p2v import USED, Place, wish


@pytest.fixture(name="place")
def fixture_place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def manifest_holds(place: Place, content: bytes) -> None:
    (path,) = place.pool.glob("old1-sda.*.manifest")
    for line in path.read_text().splitlines()[1:]:
        for offset, length, digest in json.loads(line)[1]:
            assert hashlib.sha256(content[offset : offset + length]).hexdigest() == digest


def test_only_the_parts_that_differ_are_read_and_sent(place: Place) -> None:
    place.go(wish())
    source = place.new_source(wish())
    source.write("sda", 9 * MIB + 512, b"new" * 100)
    source.write("sda", 12 * MIB, bytes(MIB))
    source.write("sda", 14 * MIB + 2 * PART - 1, b"on an edge")
    told = place.go(wish(), source)
    content = place.image()
    place.expect(content)
    manifest_holds(place, content)
    assert source.read_bytes == MIB + 3 * PART == told["metrics"]["bytes"]
    # Only what differs is hashed twice.
    assert source.compared_bytes == 3 * MIB
    metrics = told["metrics"]
    passes_s = sum(each["seconds"] for each in told["passes"])
    assert metrics["agent_s"] >= 0 and metrics["look_s"] > 0 and metrics["compare_s"] > 0
    assert metrics["look_s"] + metrics["compare_s"] + passes_s <= metrics["total_s"] + 0.01


def test_a_chunk_that_differs_in_many_places_is_sent_whole(place: Place) -> None:
    place.go(wish())
    source = place.new_source(wish())
    for at in range(MOST_STRETCHES + 1):
        source.write("sda", 9 * MIB + at * 4 * PART, b"new")
    for at in range(MOST_STRETCHES):
        source.write("sda", 11 * MIB + at * 4 * PART, b"new")
    place.go(wish(), source)
    place.expect(place.image())
    assert source.read_bytes == MIB + MOST_STRETCHES * PART


def test_what_the_image_knows_nothing_of_is_hashed_once(place: Place) -> None:
    place.go(wish())
    place.used["sda"] = [*USED[:-1], [20 * MIB, 2 * MIB], USED[-1]]
    place.go(wish())
    place.expect(place.image())
    assert place.source and place.source.compared_bytes == 0 and place.source.read_bytes == 2 * MIB


def test_what_is_used_in_other_stretches_than_before_is_compared_where_it_is_known(place: Place) -> None:
    place.go(wish())
    source = place.new_source(wish())
    source.write("sda", 5 * MIB + 65536, b"new")
    place.used["sda"] = [*USED[:1], [5 * MIB + 65536, 4096 + 65536], *USED[3:]]
    place.go(wish(), source)
    content = place.image()
    place.expect(content)
    manifest_holds(place, content)
    # Of the stretch, the end was held as it is: the second of the two pieces that were used before.
    assert source.read_bytes <= 4096 + 65536


def test_a_chunk_that_is_not_what_its_manifest_says_is_sent_whole(place: Place) -> None:
    """It has rotted in one place, and was changed on the source in another."""
    place.go(wish(format="raw"))
    image = place.pool / "old1-sda.raw"
    seen = image.stat()
    with image.open("r+b") as file:
        file.seek(9 * MIB + 40 * PART)
        file.write(b"rotten")
    os.utime(image, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    source = place.new_source(wish(format="raw"))
    source.write("sda", 9 * MIB, b"new")
    place.go(wish(format="raw"), source)
    content = place.image("old1-sda.raw", "raw")
    place.expect(content)
    manifest_holds(place, content)
    assert source.read_bytes == MIB


def test_a_chunk_that_is_changed_back_meanwhile_is_sent_whole(place: Place) -> None:
    place.go(wish())
    source = place.new_source(wish())
    with source.disks["sda"].open("r+b") as file:
        file.seek(9 * MIB)
        before = file.read(3)
    source.write("sda", 9 * MIB, b"new")
    up_to_there = sum(length for offset, length in USED[:3]) + 2 * MIB

    def change_back(word: str) -> None:
        if word == "digest" and source.hashed_bytes >= up_to_there and source.asked.count("written") == 0:
            source.before_request = lambda word: None
            source.write("sda", 9 * MIB, before)

    source.before_request = change_back
    place.go(wish(connections=1), source)
    place.expect(place.image())
    # The chunk, and what its tracked write touched.
    assert source.compared_bytes == MIB and source.read_bytes == MIB + 4096
