# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pilot of a move: the user's own limit, and one end only."""

from __future__ import annotations

from typing import Any, List

from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Sample
from ansible_collections.kvmops.fleet.plugins.module_utils.model.prediction import Prediction, Task
from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import Chosen
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.policies import POLICIES
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.way import Way
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_pilot import Pilot
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.plan.migration_ends import wish_of


def pilot(**wish: Any) -> Pilot:
    return Pilot(wish_of(wish), Way("balanced", POLICIES["balanced"], Chosen(), Task(100), Prediction()))


def at(seconds: int, sent: float) -> Sample:
    return Sample(seconds * 1000, "memory", sent, 10, iteration=1)


def whats(acts: Any) -> List[str]:
    return [act.what for act in acts]


def test_the_limit_ends_the_move_once() -> None:
    one = pilot(timeout_s=10)
    assert whats(one.steer(at(10, 10), 10.0)) == []
    (act,) = one.steer(at(11, 11), 10.1)
    assert (act.what, act.why, act.at_ms) == ("abort", "timeout_s (10) passed", 10100) and "more time" in act.remedy
    assert whats(one.steer(at(12, 12), 12.0)) == []


def test_the_limit_holds_when_the_job_does_not_tell() -> None:
    assert whats(pilot(timeout_s=10, on_timeout="pause").steer(None, 11.0)) == ["pause"]


def test_after_a_pause_a_dead_link_ends_it_all_the_same() -> None:
    one = pilot(timeout_s=10, on_timeout="pause")
    assert whats(one.steer(at(11, 11), 11.0)) == ["pause"]
    assert whats(one.steer(at(12, 12), 12.0)) == []
    assert whats(one.steer(at(73, 12), 73.0)) == ["abort"]
    assert whats(one.steer(at(200, 12), 200.0)) == []


def test_after_post_copy_nothing_is_done_any_more() -> None:
    one = pilot(timeout_s=10, on_timeout="postcopy")
    assert whats(one.steer(at(11, 11), 11.0)) == ["postcopy"]
    assert whats(one.steer(at(200, 11), 200.0)) == []
