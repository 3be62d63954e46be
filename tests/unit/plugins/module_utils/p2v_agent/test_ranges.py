# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Arithmetic of ranges, against sets of bytes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kvmops.fleet.plugins.module_utils.p2v_agent import ranges

ANY = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 40)), max_size=12)


def bytes_of(some: list[tuple[int, int]]) -> set[int]:
    return {at for offset, length in some for at in range(offset, offset + length)}


def is_tidy(some: list[tuple[int, int]]) -> bool:
    return all(a + n < b for (a, n), (b, dummy) in itertools.pairwise(some))


@given(ANY)
def test_merged_holds_the_same_bytes_once(some: list[tuple[int, int]]) -> None:
    found = ranges.merged(some)
    assert bytes_of(found) == bytes_of(some)
    assert is_tidy(found)
    assert ranges.total(found) == len(bytes_of(some))


@given(ANY, ANY)
def test_subtracted_and_common_are_what_sets_say(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    assert bytes_of(ranges.subtracted(some, others)) == bytes_of(some) - bytes_of(others)
    assert bytes_of(ranges.common(some, others)) == bytes_of(some) & bytes_of(others)
    assert is_tidy(ranges.subtracted(some, others))


@given(ANY, st.integers(1, 4), st.integers(0, 8))
def test_coarsened_holds_all_and_is_bounded(some: list[tuple[int, int]], most: int, gap: int) -> None:
    found = ranges.coarsened(some, most, gap)
    assert len(found) <= most
    assert bytes_of(found) >= bytes_of(some)


@given(ANY)
def test_pieces_never_cross_a_multiple_of_the_unit(some: list[tuple[int, int]]) -> None:
    found = list(ranges.pieces(some, 16))
    assert bytes_of(found) == bytes_of(some)
    assert all(offset // 16 == (offset + length - 1) // 16 for offset, length in found)


@pytest.mark.parametrize(
    ("some", "grain", "expect"), [([(5, 1), (9, 3)], 4, [(4, 8)]), ([(0, 4)], 4, [(0, 4)]), ([], 4, [])]
)
def test_widened(some: list[tuple[int, int]], grain: int, expect: list[tuple[int, int]]) -> None:
    assert ranges.widened(some, grain) == expect
