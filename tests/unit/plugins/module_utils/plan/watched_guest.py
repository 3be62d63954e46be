# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest page by page, moved as QEMU does it and looked at as the watch does: late, at moments of its own.

plan/precopy_model.py knows only sums. Here pages compress differently, empty ones lie between, the guest may walk through
what it writes, and a look shows the round some time after its sync.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import List, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Sample
from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import ABORT, DOWNTIME, EXTEND, PAUSE, Act
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.course import BUFFERED_MIB, Course
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.steering import steer

# Of the watch (host/live_migration.py), and of QEMU's view of the rate (migration.c, BUFFER_DELAY).
POLL_S, RATE_S = 0.25, 0.1
STEP_S, MOST_S = 0.01, 600.0
# One of them stands for 64 pages.
CHUNK_MIB = 0.25
# An empty page is told in a few bytes.
MARK_PACKS_BY = 400
SWITCHED = "switched"


@dataclass(frozen=True)
class Scene:
    """Rates in MiB/s. memory_mib: with content; as much again, and more, is empty. packs_by, written_packs_by: how many times
    smaller it goes over the wire. walks: page after page, else anywhere. late_s: when the first look comes."""

    dirty_mib_s: float
    working_set_mib: float
    memory_mib: float = 94.0
    link_mib_s: float = 22.8
    packs_by: float = 1.0
    written_packs_by: float = 1.0
    walks: bool = True
    late_s: float = 0.1

    @property
    def pass_s(self) -> float:
        return self.memory_mib / self.link_mib_s


@dataclass(frozen=True)
class Flight:
    """ended: switched, pause, abort. passes: time until then in memory / link. stop_ms: as libvirt would tell, without sockets."""

    ended: str
    passes: float
    stop_ms: float
    acts: Tuple[Act, ...]

    @property
    def whats(self) -> List[str]:
        return [act.what for act in self.acts]


@dataclass
class _Move:
    scene: Scene
    known: bytearray
    written: bytearray
    content: bytearray
    busy: List[int]
    left: int = 0
    at: int = 0
    wrote: int = 0
    owed: float = 0.0
    credit: float = 0.0
    wire_mib: float = 0.0
    pages_mib: float = 0.0
    empty_mib: float = 0.0
    rounds: int = 1
    rate_mib_s: float = 0.0
    seen: Tuple[float, float] = field(default=(0.0, 0.0))

    def write(self) -> None:
        self.owed += self.scene.dirty_mib_s * STEP_S / CHUNK_MIB
        while self.owed >= 1:
            self.owed -= 1
            self.wrote += 1
            number = self.wrote if self.scene.walks else _mixed(self.wrote)
            self.written[self.busy[number % len(self.busy)]] = 1

    def send(self, stop_mib: float) -> None:
        """For one step of time; empty pages cost next to nothing."""
        self.credit += self.scene.link_mib_s * STEP_S
        while self.credit > 0 and self.left and self.left * CHUNK_MIB > stop_mib:
            self.at = self.known.find(1, self.at)
            self.at = self.known.find(1) if self.at < 0 else self.at
            self.known[self.at], self.left = 0, self.left - 1
            cost = self.cost(self.at)
            self.credit, self.wire_mib = self.credit - cost, self.wire_mib + cost
            if self.content[self.at]:
                self.pages_mib += CHUNK_MIB
            else:
                self.empty_mib += CHUNK_MIB
        if self.left * CHUNK_MIB <= stop_mib:
            self.credit = min(self.credit, 0.0)

    def cost(self, page: int) -> float:
        if not self.content[page]:
            return CHUNK_MIB / MARK_PACKS_BY
        is_busy = self.busy[0] <= page <= self.busy[-1]
        return CHUNK_MIB / (self.scene.written_packs_by if is_busy else self.scene.packs_by)

    def sync(self) -> None:
        for page in self.busy:
            self.known[page] |= self.written[page]
            self.written[page] = 0
        self.left, self.rounds = sum(self.known), self.rounds + 1

    def rest_s(self) -> float:
        """To send what is left while the guest stands still."""
        rest = (page for page in range(len(self.known)) if self.known[page] or self.written[page])
        return sum(map(self.cost, rest)) / self.scene.link_mib_s

    def measure(self, seconds: float) -> None:
        since, wire = self.seen
        if seconds - since >= RATE_S and self.wire_mib > wire:
            self.rate_mib_s, self.seen = (self.wire_mib - wire) / (seconds - since), (seconds, self.wire_mib)

    def sample(self, seconds: float) -> Sample:
        return Sample(
            int(seconds * 1000),
            "memory",
            round(self.wire_mib, 2),
            round(self.left * CHUNK_MIB, 2),
            iteration=self.rounds,
            memory_normal_mib=round(self.pages_mib, 2),
            memory_empty_mib=round(self.empty_mib, 2),
        )


def _mixed(number: int) -> int:
    return (number * 2654435761 >> 7) & 0xFFFFFF


def _begin(scene: Scene) -> _Move:
    """Content in stretches of 8 MiB with empty ones between; what is written to lies side by side in the middle."""
    stretch, pages = int(8 / CHUNK_MIB), int(scene.memory_mib / CHUNK_MIB)
    whole = bytearray()
    for _number in range(0, pages, stretch):
        whole += bytearray([1]) * stretch + bytearray(stretch + stretch // 2)
    filled = [page for page, content in enumerate(whole) if content]
    for page in filled[pages:]:
        whole[page] = 0
    busy = max(1, min(pages, int(scene.working_set_mib / CHUNK_MIB)))
    first = (pages - busy) // 2
    known = bytearray([1]) * len(whole)
    return _Move(
        scene,
        known,
        bytearray(len(whole)),
        whole,
        filled[first : first + busy],
        len(known),
        rate_mib_s=scene.link_mib_s,
    )


def fly(scene: Scene, course: Course) -> Flight:
    """Move it, steered from `course` on."""
    move, seconds, look = _begin(scene), 0.0, scene.late_s
    acts: Tuple[Act, ...] = ()
    downtime_s = course.allowed_ms / 1000.0
    while seconds < MOST_S:
        seconds += STEP_S
        move.write()
        move.send(move.rate_mib_s * downtime_s)
        move.measure(seconds)
        if move.left * CHUNK_MIB <= move.rate_mib_s * downtime_s:
            move.sync()
            if move.left * CHUNK_MIB <= move.rate_mib_s * downtime_s:
                return _ended(SWITCHED, move, seconds, acts)
        if seconds < look:
            continue
        look += POLL_S
        course, new = steer(course, move.sample(seconds))
        acts += new
        for act in new:
            if act.what in (DOWNTIME, EXTEND):
                downtime_s = (act.value or 0) / 1000.0
            elif act.what in (ABORT, PAUSE):
                return _ended(act.what, move, seconds, acts)
    raise AssertionError("it went on for ever: %s" % (scene,))


def _ended(how: str, move: _Move, seconds: float, acts: Tuple[Act, ...]) -> Flight:
    stop_s = 0.0 if how == ABORT else move.rest_s()
    return Flight(how, (seconds + stop_s) / move.scene.pass_s, stop_s * 1000, acts)


def sockets_ms(scene: Scene, connections: int) -> float:
    return BUFFERED_MIB * connections / scene.link_mib_s * 1000
