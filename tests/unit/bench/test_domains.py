# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page of make bench-domains, from numbers."""

from __future__ import annotations

from ansible_collections.kvmops.fleet.tests.bench import domains

ROUND = {
    "created": 130.0,
    "virsh created": 100.0,
    "one task": 2.0,
    "loop": 101.0,
    "info": 1.0,
    "dominfo": 5.0,
    "dominfo loop": 40.0,
    "ping": 0.5,
}


def _reached(page: str) -> list[str]:
    return [
        line.split(" | ")[-1].rstrip(" |") for line in page.splitlines() if line.startswith("| ") and "goal" not in line
    ]


def test_a_goal_is_reached_or_missed_aloud() -> None:
    page = domains.page([ROUND], 100, 100)
    assert _reached(page)[-4:] == ["yes", "yes", "**no**", "yes"]
    assert "`ansible.builtin.ping` takes 0.50 s" in page
    assert "counted for all" not in page


def test_a_sample_is_said() -> None:
    assert "The loops went over 10 of the domains" in domains.page([ROUND], 100, 10)


def test_the_ratio_is_of_the_rounds_and_not_of_the_medians() -> None:
    slow = {who: seconds * 10 for who, seconds in ROUND.items()}
    assert "| 50.5 |" in domains.page([ROUND, slow, ROUND], 100, 100)
