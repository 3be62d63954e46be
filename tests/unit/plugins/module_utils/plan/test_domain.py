# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kvm_domain's decisions, case by case: see cases/domain.yml and its neighbours."""

from __future__ import annotations

import itertools
import re
from typing import Any, Mapping

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model import domain as is_
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import STATES
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import (
    CannotConverge,
    PreflightError,
    RequestError,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import domain_states
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain import plan_domain
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.plan.domain_ends import CASES, found_of, wanted_of


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_case(case: Mapping[str, Any]) -> None:
    expect = case["expect"]
    if "request" in expect:
        with pytest.raises(RequestError) as refusal:
            wanted_of(case["wanted"])
        _same_length_and_match(expect["request"], refusal.value.problems)
        return
    wanted, found = wanted_of(case["wanted"]), found_of(case.get("found"))
    if "refused" in expect:
        with pytest.raises(PreflightError) as preflight:
            plan_domain(wanted, found)
        assert [concern.id for concern in preflight.value.concerns] == expect["refused"]
        assert all(concern.detail and concern.remedy for concern in preflight.value.concerns)
    elif "stuck" in expect:
        with pytest.raises(CannotConverge, match=expect["stuck"]):
            plan_domain(wanted, found)
    else:
        _check_plan(plan_domain(wanted, found), expect)


def _check_plan(plan: Any, expect: Mapping[str, Any]) -> None:
    if "steps" in expect:
        assert list(plan.words) == expect["steps"]
    else:
        assert [step.action for step in plan.steps] == expect["actions"]
    assert plan.changes is bool(plan.steps)
    assert (plan.before != plan.after) is plan.changes or [step.action for step in plan.steps] == ["persist"]
    for words in expect.get("words", []):
        assert words in plan.words
    if "pending" in expect:
        assert plan.facts["pending"] is expect["pending"]
    if "waiting" in expect:
        assert plan.facts["pending_changes"] == expect["waiting"]
    assert plan.facts["pending"] is bool(plan.facts["pending_changes"])
    if "warnings" in expect:
        _same_length_and_match([re.escape(text) for text in expect["warnings"]], plan.warnings)


def _same_length_and_match(patterns: Any, texts: Any) -> None:
    assert len(patterns) == len(texts), texts
    for pattern, text in zip(patterns, texts, strict=True):
        assert re.search(pattern, text), (pattern, text)


def test_every_action_of_the_table_has_words() -> None:
    actions = {action for row in domain_states.TABLE.values() for actions in row.values() for action in actions}
    assert actions == set(domain_states.WORDS)


def test_every_state_is_answered() -> None:
    """A column that a row leaves out means: there already. That must be so, or mean that there is nothing."""
    columns = {
        domain_states.MISSING,
        domain_states.SAVED,
        is_.RUNNING,
        is_.PAUSED,
        is_.SHUTOFF,
        is_.CRASHED,
        is_.SHUTTING_DOWN,
        is_.SUSPENDED,
        is_.NOSTATE,
    }
    silent = {
        (wanted, column)
        for wanted, column in itertools.product(STATES, columns)
        if not domain_states.TABLE[wanted].get(column)
    }
    off = {domain_states.MISSING, domain_states.SAVED, is_.SHUTOFF}
    fine = {("present", column) for column in columns}
    fine |= {(wanted, column) for wanted in ("shutdown", "destroyed", "saved") for column in off}
    fine |= {("running", is_.RUNNING), ("running", is_.NOSTATE), ("paused", is_.PAUSED), ("absent", "missing")}
    assert silent == fine
