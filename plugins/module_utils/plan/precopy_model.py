# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model of QEMU's pre-copy, steered like a real one: what prediction computes with, and what schedules are tried on.

Within a round it sends and the guest writes (F1, F6); when what it knows of fits into the downtime it looks for written
pages, and either stops the guest or begins another round.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Sample
from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import (
    ABORT,
    BANDWIDTH,
    DOWNTIME,
    EXTEND,
    PAUSE,
    POSTCOPY,
    Act,
    Schedule,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.course import begin
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.steering import steer

CONVERGED = "converged"
# How often a real move is looked at.
LOOK_S = 0.25
# A model that has not ended by then is given up.
MOST_LOOKS = 20000


@dataclass(frozen=True)
class Guest:
    """memory_mib: to send at first. working_set_mib: of it, what is written to, at dirty_mib_s."""

    memory_mib: float
    dirty_mib_s: float
    working_set_mib: float


@dataclass(frozen=True)
class Outcome:
    """ended_by: converged, pause, postcopy, abort, or None when it went on for ever. seconds: until the guest runs there for good."""

    ended_by: Optional[str]
    seconds: float
    stop_s: float
    rounds: int
    sent_mib: float
    acts: Tuple[Act, ...]


@dataclass
class _Job:
    """remaining: known to QEMU. written: since its last look. throttle: 0 to 0.99."""

    guest: Guest
    rate: float
    downtime_s: float
    remaining: float
    written: float = 0.0
    sent: float = 0.0
    sent_at_sync: float = 0.0
    iteration: int = 1
    high: int = 0
    throttle: float = 0.0

    def run(self, seconds: float) -> None:
        part = min(self.rate * seconds, self.remaining)
        self.sent += part
        self.remaining -= part
        working_set = self.guest.working_set_mib
        if working_set > 0:
            dirty = self.guest.dirty_mib_s * (1 - self.throttle)
            self.written += (working_set - self.written) * (1 - math.exp(-dirty * seconds / working_set))

    def sync(self) -> None:
        self.remaining = self.known_after_sync()
        self.iteration += 1
        self.written = 0.0

    def known_after_sync(self) -> float:
        """What was written to may be among what remains: after the first round that is of the working set only."""
        whole = self.guest.memory_mib if self.iteration == 1 else self.guest.working_set_mib
        if whole <= 0:
            return self.remaining
        return self.remaining + self.written * (1 - min(1.0, self.remaining / whole))

    def converge(self, schedule: Schedule) -> None:
        """QEMU slows the guest down when it wrote more than half of what was sent, at two looks."""
        if self.written <= 0.5 * (self.sent - self.sent_at_sync):
            return
        self.high += 1
        if self.high >= 2:
            self.high = 0
            step = schedule.throttle_step_percent if self.throttle else schedule.throttle_start_percent
            self.throttle = min(0.99, self.throttle + step / 100.0)


def simulate(
    guest: Guest, link_mib_s: float, schedule: Schedule, auto_converge: bool, postcopy: bool = False, knows: bool = True
) -> Outcome:
    """Run the move. knows: the guest's dirty rate was measured before."""
    share = link_mib_s * schedule.bandwidth_share_percent / 100.0
    course = begin(schedule, guest.dirty_mib_s if knows else None, postcopy, limited=True, throttled=auto_converge)
    job = _Job(guest, share, course.allowed_ms / 1000.0, guest.memory_mib)
    look = max(LOOK_S, guest.memory_mib / share / 400.0)
    acts: Tuple[Act, ...] = ()
    for turn in range(MOST_LOOKS):
        if _switches_over(job, look, schedule if auto_converge else None):
            stop = job.remaining / share
            seconds = job.sent / share + stop
            # QEMU looks once more when the guest stands still.
            return Outcome(CONVERGED, seconds, stop, job.iteration + 1, job.sent + job.remaining, acts)
        course, new = steer(course, _sample(job, turn * look))
        acts += new
        for act in new:
            if act.what in (DOWNTIME, EXTEND):
                job.downtime_s = (act.value or 0) / 1000.0
            elif act.what == BANDWIDTH:
                job.rate = min(job.rate, float(act.value or 1))
            elif act.what in (ABORT, PAUSE, POSTCOPY):
                return _ended(job, act, share, acts)
    return Outcome(None, job.sent / share, 0.0, job.iteration, job.sent, acts)


def _switches_over(job: _Job, seconds: float, throttling: Optional[Schedule]) -> bool:
    """Go on for so long, from one look for written pages to the next. True: QEMU stops the guest and sends what remains."""
    left = seconds
    while left > 1e-9:
        enough = job.rate * job.downtime_s
        part = min(left, max(0.0, job.remaining - enough) / job.rate)
        job.run(part)
        left -= part
        if job.remaining > enough * (1 + 1e-9):
            return False
        if throttling is not None:
            job.converge(throttling)
        job.sync()
        job.sent_at_sync = job.sent
        if job.remaining <= enough * (1 + 1e-9):
            return True
        # QEMU looks again once it sent something, however little.
        step = min(left, max(0.01, seconds / 20))
        job.run(step)
        left -= step
    return False


def _ended(job: _Job, act: Act, rate: float, acts: Tuple[Act, ...]) -> Outcome:
    rest = job.known_after_sync()
    if act.what == ABORT:
        return Outcome(ABORT, job.sent / rate, 0.0, job.iteration, job.sent, acts)
    stop = rest / rate if act.what == PAUSE else 0.0
    return Outcome(act.what, (job.sent + rest) / rate, stop, job.iteration, job.sent + rest, acts)


def _sample(job: _Job, seconds: float) -> Sample:
    return Sample(
        at_ms=int(seconds * 1000),
        phase="memory",
        memory_processed_mib=job.sent,
        memory_remaining_mib=job.remaining,
        iteration=job.iteration,
    )


def with_rate(guest: Guest, ratio: float, rate: float) -> Guest:
    """The same guest, writing at `ratio` times the rate."""
    return replace(guest, dirty_mib_s=ratio * rate)
