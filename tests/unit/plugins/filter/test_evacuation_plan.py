# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter takes what the modules give."""

from __future__ import annotations

from ansible_collections.kvmops.fleet.plugins.filter.evacuation_plan import evacuation_plan

ROOMY = {"memory_total_mib": 8192, "memory_free_mib": 8000, "memory_guests_max_mib": 0}


def test_a_definition_that_was_kept_is_no_guest() -> None:
    web1 = {"name": "web1", "state": "running", "memory_mib": 256, "moved_to": None}
    kept = {"name": "web2", "state": "shutoff", "memory_mib": 256, "moved_to": "kvm3"}
    plan = evacuation_plan([web1, kept], {"kvm2": ROOMY})
    assert [move["name"] for move in plan["moves"]] == ["web1"] and plan["stays"] == []


def test_a_guest_counts_with_all_that_it_may_claim() -> None:
    web1 = {"name": "web1", "state": "running", "memory_mib": 256, "max_memory_mib": 4096, "moved_to": None}
    assert [move["memory_mib"] for move in evacuation_plan([web1], {"kvm2": ROOMY})["moves"]] == [4096]
