# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a live move goes, put together: schedule, choices, prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import DiskMove, Found, Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.prediction import Prediction, Task
from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import Chosen, Schedule
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.choices import choose
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.policies import schedule_of
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.prediction import predict, task_of


@dataclass(frozen=True)
class Way:
    """schedule: the policy's, with what the user replaced. task: what is moved, and over what."""

    policy: str
    schedule: Schedule
    chosen: Chosen
    task: Task
    prediction: Prediction

    def as_dict(self) -> Dict[str, Any]:
        return {
            "policy": self.policy,
            "schedule": self.schedule.as_dict(),
            "choices": [choice.as_dict() for choice in self.chosen.choices],
            "prediction": self.prediction.as_dict(),
        }


def way_of(wish: Wish, found: Found, moves: Tuple[DiskMove, ...]) -> Way:
    """wish.tls must be decided."""
    schedule = schedule_of(wish.policy, wish.schedule, wish.max_downtime_ms)
    task = task_of(wish, found, moves)
    chosen = choose(wish, found, schedule, task)
    return Way(wish.policy, schedule, chosen, task, predict(task, schedule, chosen))
