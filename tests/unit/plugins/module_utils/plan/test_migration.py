# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kvm_migrate's decisions, case by case: see cases/migration.yml."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Mapping

import pytest
import yaml

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import NOTE
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import (
    CannotConverge,
    KvmError,
    PreflightError,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.migration import (
    ACTIVE,
    ANSWERS,
    MISSING,
    OFF,
    plan_move,
)
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.plan.migration_ends import found_of, wish_of

CASES = yaml.safe_load((Path(__file__).parent / "cases" / "migration.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_case(case: Mapping[str, Any]) -> None:
    wish, found, expect = wish_of(case.get("wish", {})), found_of(case), case["expect"]
    if "refused" in expect:
        with pytest.raises(PreflightError) as refusal:
            plan_move(wish, found)
        assert [concern.id for concern in refusal.value.concerns] == expect["refused"]
        assert all(concern.detail and concern.remedy for concern in refusal.value.concerns)
    elif "stuck" in expect:
        with pytest.raises(CannotConverge, match=expect["stuck"]):
            plan_move(wish, found)
    else:
        move = plan_move(wish, found)
        assert [step.action for step in move.plan.steps] == expect["steps"]
        assert move.plan.changes is bool(expect["steps"])
        for phrase in expect.get("words", []):
            assert any(phrase in words for words in move.plan.words), (phrase, move.plan.words)
        for phrase in expect.get("warnings", []):
            assert any(phrase in warning for warning in move.plan.warnings), move.plan.warnings
        noticed = [concern.id for concern in move.concerns if concern.level != NOTE]
        assert noticed == expect.get("noticed", noticed)
        choices = [choice.what for choice in move.how.chosen.choices] if move.how else []
        for choice in expect.get("choices", []):
            assert choice in choices, choices
        ways = {disk.target: disk.way for disk in move.moves}
        assert ways == expect.get("storage", ways)
        for step in move.plan.steps:
            assert step.args.get("connections") == expect.get("connections", step.args.get("connections"))


def test_every_row_has_an_answer() -> None:
    assert set(ANSWERS) == set(itertools.product((MISSING, OFF, ACTIVE), repeat=2))


def test_a_refusal_tells_everything_at_once() -> None:
    found = found_of({"domain": {"memory_mib": 9999999, "nics": [{"mac": "m", "kind": "bridge", "source": "br7"}]}})
    with pytest.raises(KvmError) as refusal:
        plan_move(wish_of({}), found)
    for word in ("memory-short", "bridge-missing", "kvm2", "br7", "refused before anything was changed"):
        assert word in str(refusal.value)


def test_planning_the_result_gives_no_steps() -> None:
    case = {"domain": {}, "source": {"state": None}, "dest": {"state": "running"}}
    assert plan_move(wish_of({}), found_of(case)).plan.steps == ()
