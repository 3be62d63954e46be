# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Evacuation by memory: examples, and properties over many random fleets."""

from __future__ import annotations

from typing import Dict, List

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kvmops.fleet.plugins.module_utils.plan.placement import Guest, Room, evacuation, room_of

GUESTS = st.lists(
    st.builds(
        Guest,
        name=st.text("abcdef", min_size=1, max_size=6),
        state=st.sampled_from(["running", "paused", "shutoff"]),
        memory_mib=st.integers(1, 9000),
    ),
    unique_by=lambda guest: guest.name,
    max_size=12,
)
ROOMS = st.lists(
    st.builds(Room, host=st.sampled_from(["kvm2", "kvm3", "kvm4"]), memory_mib=st.integers(0, 20000)),
    unique_by=lambda room: room.host,
)


@given(GUESTS, ROOMS)
def test_no_host_over_capacity_and_nobody_forgotten(guests: List[Guest], rooms: List[Room]) -> None:
    moves = evacuation(guests, rooms)
    load: Dict[str, int] = {}
    for move in moves:
        if move.to is not None:
            load[move.to] = load.get(move.to, 0) + move.guest.memory_mib
    assert all(load[room.host] <= room.memory_mib for room in rooms if room.host in load)
    assert sorted(move.guest.name for move in moves) == sorted(guest.name for guest in guests)
    assert all(move.reason for move in moves)


@given(GUESTS, ROOMS)
def test_the_order_of_what_was_found_does_not_matter(guests: List[Guest], rooms: List[Room]) -> None:
    assert evacuation(guests, rooms) == evacuation(list(reversed(guests)), list(reversed(rooms)))


def test_the_largest_goes_first_to_the_host_with_most_room() -> None:
    moves = evacuation(
        [Guest("a", "running", 1000), Guest("b", "shutoff", 3000), Guest("c", "paused", 2000)],
        [Room("kvm2", 3500), Room("kvm3", 4000)],
    )
    assert [(move.guest.name, move.to, move.guest.mode) for move in moves] == [
        ("b", "kvm3", "offline"),
        ("c", "kvm2", "live"),
        ("a", "kvm2", "live"),
    ]


def test_a_guest_that_fits_nowhere_stays_with_a_reason() -> None:
    (move,) = evacuation([Guest("big", "running", 5000)], [Room("kvm2", 4000)])
    assert move.to is None
    assert "5000" in move.reason and "kvm2" in move.reason and "4000" in move.reason
    (alone,) = evacuation([Guest("big", "running", 5000)], [])
    assert alone.to is None and "no other host" in alone.reason


def test_memory_promised_to_guests_is_no_room() -> None:
    assert room_of("kvm2", total_mib=8000, free_mib=7000, promised_mib=6000, reserve_mib=500) == Room("kvm2", 1500)
    assert room_of("kvm2", total_mib=8000, free_mib=100, promised_mib=0, reserve_mib=500) == Room("kvm2", 0)
