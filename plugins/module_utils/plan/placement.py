# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which guest goes to which host when one is emptied. Memory is the measure; sizes are MiB."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import List, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import ACTIVE_STATES
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import LIVE, OFFLINE


@dataclass(frozen=True)
class Guest:
    """memory_mib: its maximum, which it may claim at any time."""

    name: str
    state: str
    memory_mib: int

    @property
    def mode(self) -> str:
        return LIVE if self.state in ACTIVE_STATES else OFFLINE


@dataclass(frozen=True)
class Room:
    """memory_mib: what a host can still give to guests."""

    host: str
    memory_mib: int


@dataclass(frozen=True)
class Move:
    """to: None when no host has room; reason says why, or why this host."""

    guest: Guest
    to: Optional[str]
    reason: str


def room_of(host: str, total_mib: int, free_mib: int, promised_mib: int, reserve_mib: int) -> Room:
    """The smaller of what is free now and what is not promised to running guests, less the reserve."""
    return Room(host, max(min(free_mib, total_mib - promised_mib) - reserve_mib, 0))


def evacuation(guests: Sequence[Guest], rooms: Sequence[Room]) -> Tuple[Move, ...]:
    """Largest guest first, each to the host with the most room left; ties by name, so that a plan is repeatable.

    A guest that is off claims room too: it will be started there one day.
    """
    left = {room.host: room for room in rooms}
    moves: List[Move] = []
    for guest in sorted(guests, key=lambda guest: (-guest.memory_mib, guest.name)):
        best = min(left.values(), key=lambda room: (-room.memory_mib, room.host), default=None)
        if best is None or best.memory_mib < guest.memory_mib:
            most = "no other host is given" if best is None else "the most, on %s, is %d" % (best.host, best.memory_mib)
            moves.append(Move(guest, None, "needs %d MiB of memory; %s" % (guest.memory_mib, most)))
            continue
        moves.append(Move(guest, best.host, "most room: %d MiB" % best.memory_mib))
        left[best.host] = replace(best, memory_mib=best.memory_mib - guest.memory_mib)
    return tuple(moves)
