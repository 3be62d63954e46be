# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Policies are data: what the page shows, what the user may put in their place, and what is refused."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, Dict, List

import pytest
import yaml

from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import Schedule
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.policies import POLICIES, ramp, schedule_of
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.schedule_request import schedule_problems

ROOT = Path(__file__).resolve().parents[5]
KEYS = [field.name for field in fields(Schedule)]


def test_the_page_shows_the_table_of_the_code() -> None:
    page = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")
    for key in KEYS:
        row = re.search(r"^\| `%s` \| (.*) \|$" % key, page, re.MULTILINE)
        assert row, "docs/policies.md has no row for %s" % key
        values = [getattr(schedule, key) for schedule in POLICIES.values()]
        shown = [", ".join(value) if isinstance(value, tuple) else str(value) for value in values]
        assert row.group(1).split(" | ") == shown, key
    assert "| | %s |" % " | ".join(POLICIES) in page


def examples() -> List[Dict[str, Any]]:
    page = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")
    tasks = [task for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) for task in yaml.safe_load(text)]
    return [task["kvmops.fleet.kvm_migrate"] for task in tasks if "kvmops.fleet.kvm_migrate" in task]


def test_the_examples_of_the_page_are_accepted() -> None:
    assert len(examples()) >= 4
    for example in examples():
        policy = example.get("policy", "balanced")
        assert schedule_problems(policy, example.get("schedule"), example.get("max_downtime_ms")) == []


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_what_is_printed_may_be_given_back(policy: str) -> None:
    printed = POLICIES[policy].as_dict()
    assert list(printed) == KEYS
    assert schedule_problems("balanced", printed, None) == []
    assert schedule_of("balanced", printed, None) == POLICIES[policy]


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_ramps_go_from_start_to_top(policy: str) -> None:
    steps = ramp(POLICIES[policy])
    assert steps[0] == POLICIES[policy].downtime_start_ms and steps[-1] == POLICIES[policy].downtime_top_ms
    assert list(steps) == sorted(steps) and len(steps) == POLICIES[policy].downtime_steps


def test_what_was_not_said_bends_to_what_was() -> None:
    short = schedule_of("must_finish", {"pause_most_ms": 80}, None)
    assert (short.downtime_start_ms, short.downtime_top_ms, short.pause_most_ms) == (80, 80, 80)
    long = schedule_of("balanced", None, 8000)
    assert (long.downtime_start_ms, long.downtime_top_ms, long.pause_most_ms) == (50, 8000, 8000)
    assert ramp(schedule_of("balanced", {"downtime_steps": 1, "downtime_top_ms": 300}, None)) == (300,)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"downtime_start_ms": 0}, "downtime_start_ms is 0; give a number from 1 to"),
        ({"downtime_top_ms": 3000000}, "downtime_top_ms is 3000000"),
        ({"downtime_steps": 0}, "downtime_steps is 0"),
        ({"pause_most_ms": -5}, "pause_most_ms is -5"),
        ({"connections": 256}, "connections is 256"),
        ({"throttle_start_percent": 100}, "throttle_start_percent is 100"),
        ({"throttle_step_percent": 0}, "throttle_step_percent is 0"),
        ({"bandwidth_share_percent": 101}, "bandwidth_share_percent is 101"),
        ({"stall_window": 0.0}, "stall_window is 0.0"),
        ({"patience": -1}, "patience is -1"),
        ({"compression": "lzma"}, "compression is 'lzma'; it is one of auto, none, zstd, zlib, xbzrle"),
        ({"auto_converge": "yes"}, "auto_converge is 'yes'; it is one of never, if_needed, always"),
        ({"at_stall": ["hope"]}, "at_stall has 'hope'; its entries are extend, postcopy, pause, abort"),
        ({"at_stall": ["abort", "pause"]}, "at_stall goes on after abort with pause"),
        ({"at_stall": ["pause", "extend"]}, "at_stall goes on after pause with extend"),
        ({"downtime_start_ms": 900, "downtime_top_ms": 400}, "is above downtime_top_ms (400)"),
        ({"downtime_top_ms": 4000}, "is above pause_most_ms (2000)"),
        ({"compression": "xbzrle", "connections": 2}, "goes over one connection"),
    ],
)
def test_refused(given: Dict[str, Any], words: str) -> None:
    problems = schedule_problems("balanced", given, None)
    assert len(problems) == 1 and words in problems[0], problems


def test_all_problems_at_once() -> None:
    assert len(schedule_problems("balanced", {"compression": "x", "patience": -1, "at_stall": ["a", "b"]}, None)) == 4


def test_one_bound_is_said_once() -> None:
    assert schedule_problems("balanced", {"pause_most_ms": 100}, 200) != []
    assert schedule_problems("balanced", {"pause_most_ms": 200}, 200) == []
