# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every schedule comes to an end, whatever the guest writes; and the model agrees with the formulas where those hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import Schedule
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import formulas
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.policies import POLICIES
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.precopy_model import Guest, Outcome, simulate

actions = st.sampled_from(["extend", "postcopy", "pause", "abort"])
any_schedule = st.builds(
    lambda start, grow, **more: Schedule(
        downtime_start_ms=start,
        downtime_top_ms=start * grow,
        pause_most_ms=start * grow * more.pop("slack"),
        connections=0,
        compression="auto",
        auto_converge="if_needed",
        **more,
    ),
    start=st.integers(1, 500),
    grow=st.integers(1, 100),
    slack=st.integers(1, 10),
    downtime_steps=st.integers(1, 20),
    throttle_start_percent=st.integers(1, 99),
    throttle_step_percent=st.integers(1, 99),
    bandwidth_share_percent=st.integers(1, 100),
    stall_window=st.floats(0.1, 4),
    patience=st.integers(0, 16),
    at_stall=st.lists(actions, max_size=4).map(tuple),
)
# The link's rate exactly, and all around it.
ratios = st.one_of(st.just(1.0), st.floats(0, 3), st.sampled_from([0.96, 0.99, 0.999, 1.001, 100.0]))


def ends(outcome: Outcome, schedule: Schedule) -> None:
    assert outcome.ended_by in ("converged", "pause", "postcopy", "abort"), "it went on for ever"
    if outcome.ended_by == "converged":
        # What is allowed, and what the guest writes while QEMU looks.
        assert outcome.stop_s * 1000 <= schedule.pause_most_ms * 1.01 + 1


@settings(max_examples=300, deadline=None)
@given(
    schedule=any_schedule,
    ratio=ratios,
    link=st.floats(1, 2000),
    memory=st.floats(16, 4096),
    busy=st.floats(0.01, 1),
    converges=st.booleans(),
    knows=st.booleans(),
)
def test_every_schedule_ends_for_every_dirty_rate(
    schedule: Schedule, ratio: float, link: float, memory: float, busy: float, converges: bool, knows: bool
) -> None:
    guest = Guest(memory, ratio * link * schedule.bandwidth_share_percent / 100, memory * busy)
    ends(simulate(guest, link, schedule, converges, knows=knows), schedule)


@settings(max_examples=200, deadline=None)
@given(policy=st.sampled_from(sorted(POLICIES)), ratio=ratios, busy=st.floats(0.01, 1), converges=st.booleans())
def test_every_policy_ends_within_bounded_data(policy: str, ratio: float, busy: float, converges: bool) -> None:
    schedule = POLICIES[policy]
    outcome = simulate(Guest(256, ratio * 25, 256 * busy), 25, schedule, converges)
    ends(outcome, schedule)
    assert outcome.sent_mib <= 40 * 256


@pytest.mark.parametrize("ratio", [1.0, 1.2, 2.0, 3.0])
@pytest.mark.parametrize("busy", [0.1, 0.3, 0.5])
def test_must_finish_moves_what_never_converges_soon(ratio: float, busy: float) -> None:
    """Goal: within 1.6 x memory / rate, and within the declared pause."""
    outcome = simulate(Guest(256, ratio * 25, 256 * busy), 25, POLICIES["must_finish"], auto_converge=False)
    assert outcome.ended_by in ("converged", "pause")
    assert outcome.seconds <= 1.6 * 256 / 25 and outcome.stop_s <= 30


def test_post_copy_ends_with_no_stop_to_speak_of() -> None:
    outcome = simulate(Guest(256, 80, 256), 25, POLICIES["minimal_downtime"], auto_converge=False, postcopy=True)
    assert outcome.ended_by == "postcopy" and outcome.stop_s == 0
    assert outcome.seconds == pytest.approx(formulas.postcopy_s(256, 230, 25), rel=0.2)


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5])
def test_total_time_agrees_with_the_formulas(ratio: float) -> None:
    """F2 to F4 know no working set: it is made large here by small rounds."""
    memory, rate = 1000.0, 25.0
    schedule = replace(POLICIES["balanced"], downtime_start_ms=50, downtime_top_ms=50, downtime_steps=1)
    outcome = simulate(Guest(memory, ratio * rate, memory * 50), rate, schedule, auto_converge=False)
    needed: Any = formulas.rounds_needed(memory, rate, ratio * rate, 0.05)
    assert outcome.seconds == pytest.approx(formulas.total_mib(memory, ratio, needed) / rate, rel=0.05)
    assert outcome.seconds == pytest.approx(formulas.limit_s(memory, rate, ratio * rate), rel=0.05)
