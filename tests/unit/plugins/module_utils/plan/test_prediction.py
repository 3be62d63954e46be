# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Predictions, with numbers that the formulas give."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Metrics, Sample
from ansible_collections.kvmops.fleet.plugins.module_utils.model.prediction import Prediction, Task
from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import Chosen
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.policies import POLICIES
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.prediction import (
    COMPRESSION_RATIO,
    SETUP_S,
    compared,
    predict,
    with_measured_link,
    words,
)

QUIET = Task(memory_mib=250, link_mib_s=25, link_from="link_mib_s", dirty_mib_s=0, is_content_known=True)
PLAIN = Chosen()


def foretold(task: Task, chosen: Chosen = PLAIN, policy: str = "balanced") -> Prediction:
    return predict(task, POLICIES[policy], chosen)


def test_a_quiet_guest_takes_its_memory_over_the_link() -> None:
    told = foretold(QUIET)
    assert told.total_ms == pytest.approx((10 + SETUP_S) * 1000, rel=0.02)
    assert told.converges and told.ends_by == "converged" and told.confidence == "high" and told.because == ()


def test_disks_come_first() -> None:
    assert foretold(replace(QUIET, disk_mib=500)).total_ms == pytest.approx((30 + SETUP_S) * 1000, rel=0.02)


def test_what_is_written_is_sent_again() -> None:
    """T = M / (R - d) in the limit."""
    assert foretold(replace(QUIET, dirty_mib_s=5)).total_ms == pytest.approx((12.5 + SETUP_S) * 1000, rel=0.05)


def test_compression_makes_the_link_faster() -> None:
    told = foretold(QUIET, Chosen(compression="zstd", connections=2))
    assert told.total_ms == pytest.approx((10 / COMPRESSION_RATIO + SETUP_S) * 1000, rel=0.05)
    assert told.confidence == "medium" and foretold(QUIET, Chosen(compression="xbzrle")).total_ms > 10000  # type: ignore[operator]


def test_compression_is_foretold_from_the_sample() -> None:
    packed = Chosen(compression="zstd", connections=2)
    told = foretold(replace(QUIET, compresses_by=4.0), packed)
    assert told.total_ms == pytest.approx((10 / 4 + SETUP_S) * 1000, rel=0.05) and told.confidence == "high"
    # What it writes does not compress: 20 MiB/s on a link of 25 are four times as much on one of 100.
    alike = foretold(replace(QUIET, compresses_by=4.0, dirty_mib_s=20), packed)
    random = foretold(replace(QUIET, compresses_by=4.0, written_compresses_by=1.0, dirty_mib_s=20), packed)
    assert random.total_ms > 1.5 * alike.total_ms  # type: ignore[operator]


def test_half_of_the_link_takes_twice_as_long() -> None:
    assert foretold(QUIET, policy="least_impact").total_ms == pytest.approx((20 + SETUP_S) * 1000, rel=0.02)


def test_an_unknown_link_gives_no_numbers() -> None:
    told = foretold(replace(QUIET, link_mib_s=None))
    assert (told.total_ms, told.downtime_ms, told.rounds, told.converges) == (None, None, None, None)
    assert told.confidence == "none" and "say link_mib_s" in told.because[0]
    assert words(told) == "how long is not known before the link is measured"


def test_what_does_not_converge_is_said() -> None:
    busy = replace(QUIET, dirty_mib_s=60)
    told = foretold(busy, policy="must_finish")
    assert told.converges is False and told.ends_by == "extend" and 5000 < (told.downtime_ms or 0) < 12000
    assert "does not converge by itself" in words(told)
    told = foretold(busy)
    assert told.ends_by == "abort" and told.total_ms is None and "given up" in words(told)


def test_a_small_working_set_makes_a_short_stop() -> None:
    """F6: nearly all of the 50 MiB remain, at 25 MiB/s."""
    busy = replace(QUIET, dirty_mib_s=48, written_mib_s=120, working_set_mib=50)
    told = foretold(busy)
    assert told.ends_by == "extend" and 1900 < (told.downtime_ms or 0) < 2200 and told.confidence == "high"
    assert told.total_ms == pytest.approx((10 + 2 + SETUP_S) * 1000, rel=0.06)


def test_near_the_rate_of_the_link_confidence_is_low() -> None:
    assert foretold(replace(QUIET, dirty_mib_s=24, is_content_known=False)).confidence == "low"
    assert "was not measured" in foretold(replace(QUIET, dirty_mib_s=None)).because[0]


def moment(at_ms: int, sent: float, iteration: int) -> Sample:
    return Sample(at_ms, "memory", sent, 250 - sent, iteration=iteration)


def test_an_unknown_link_is_read_from_the_first_round_alone() -> None:
    unknown = replace(QUIET, link_mib_s=None)
    first = [moment(at * 1000, at * 25.0, 1) for at in range(5)]
    later = [moment(5000, 400, 2)]
    measured = with_measured_link(unknown, [*first, *later])
    assert measured.link_mib_s == pytest.approx(25) and measured.link_from == "first round"
    assert with_measured_link(unknown, first[:2]) == unknown
    assert with_measured_link(QUIET, first) == QUIET


def test_prediction_and_measurement_side_by_side() -> None:
    told = Prediction(total_ms=10000, downtime_ms=50, rounds=4)
    beside = compared(told, Metrics(mode="live", total_ms=11000, wall_ms=11500, downtime_ms=25, iterations=4))
    assert beside["ratio"] == {"total_ms": 1.1, "downtime_ms": 0.5, "rounds": 1.0}
    assert beside["measured"] == {"total_ms": 11000, "downtime_ms": 25, "rounds": 4} and beside["total_ms"] == 10000
    assert compared(Prediction(), Metrics(mode="live", total_ms=11000, wall_ms=1))["ratio"] == {}
