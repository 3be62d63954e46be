# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pilot of one live move: asks the plan at every sample what to do now."""

from __future__ import annotations

from typing import List, Optional, Sequence

from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Sample, Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import ABORT, PAUSE, POSTCOPY, Act
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import overdue, prediction
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.course import Course, begin
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.steering import steer
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.way import Way


class Pilot:
    """Holds the course between samples. See plan/steering.py for the decisions."""

    def __init__(self, wish: Wish, way: Way) -> None:
        self._late = overdue.rule(wish.timeout_s, wish.on_timeout)
        self._ended: Optional[str] = None
        self._course: Course = begin(
            way.schedule,
            # Who comes back to the same pages within the second writes more than was seen to change.
            way.task.written_mib_s or way.task.dirty_mib_s,
            way.chosen.postcopy,
            limited=way.chosen.bandwidth_mib_s is not None,
            throttled=way.chosen.auto_converge,
            connections=max(1, way.chosen.connections),
            written_packs_by=prediction.written_packs_by(way.task, way.chosen),
        )

    def steer(self, sample: Optional[Sample], elapsed_s: float) -> Sequence[Act]:
        late = self._late(elapsed_s) if self._ended is None else None
        acts: List[Act] = [late] if late is not None else []
        if sample is not None and late is None:
            self._course, steered = steer(self._course, sample)
            acts += steered
        for act in acts:
            if act.what in (ABORT, PAUSE, POSTCOPY):
                self._ended = act.what
                self._course = self._course.ending(act.what)
        return acts
