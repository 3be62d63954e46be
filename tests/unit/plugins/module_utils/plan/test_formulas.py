# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The formulas with numbers worked out by hand."""

from __future__ import annotations

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.plan import formulas


def test_rounds_shrink_by_the_ratio_and_add_up() -> None:
    sizes = [formulas.round_mib(800, 0.5, number) for number in range(4)]
    assert sizes == [800, 400, 200, 100]
    assert formulas.total_mib(800, 0.5, 3) == pytest.approx(sum(sizes))
    assert formulas.total_mib(800, 1, 3) == 3200


def test_rounds_until_the_rest_fits() -> None:
    # 800, 400, 200, 100, 50: four rounds follow the first until 50 MiB fit into 0.5 s at 100 MiB/s.
    assert formulas.rounds_needed(800, 100, 50, 0.5) == 4
    assert formulas.rounds_needed(40, 100, 50, 0.5) == 0
    assert formulas.rounds_needed(800, 100, 0, 0.5) == 0
    assert formulas.rounds_needed(800, 100, 100, 0.5) is None


def test_the_limit_of_many_rounds() -> None:
    assert formulas.limit_s(800, 100, 50) == 16
    assert formulas.limit_s(800, 100, 100) is None


def test_a_stop_takes_what_remains() -> None:
    assert formulas.stop_s(50, 25) == 2


def test_no_more_is_written_than_the_working_set() -> None:
    assert formulas.written_mib(100, 50, 1) == pytest.approx(39.35, abs=0.01)
    assert formulas.written_mib(100, 50, 1000) == pytest.approx(100)
    assert formulas.written_mib(0, 50, 1) == 0


def test_what_remains_for_good_is_a_fixed_point() -> None:
    least = formulas.least_stop_mib(100, 25, 50)
    assert least == pytest.approx(formulas.written_mib(100, 50, least / 25))
    assert least == pytest.approx(79.7, abs=0.1)
    assert formulas.least_stop_mib(100, 25, 20) == 0


def test_compression_is_bounded_by_the_processors() -> None:
    assert formulas.compressed_rate(25, 2.9, 300) == pytest.approx(72.5)
    assert formulas.compressed_rate(1000, 2.9, 300) == 300


def test_postcopy_and_disks() -> None:
    assert formulas.postcopy_s(800, 200, 100) == 10
    assert formulas.disk_s(800, 100, 20) == 10
    assert formulas.disk_s(800, 100, 100) is None
