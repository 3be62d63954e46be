# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans for many different domains, as real libvirts keep them: nothing for what is there, one thing for one change."""

from __future__ import annotations

import re

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_patch_xml import patch
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_xml import read_domain
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain import edits_of, plan_domain
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils import dumped
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.dumped import Dump
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.plan.domain_as_found import (
    as_it_is,
    found,
    one_changed,
)
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.plan.domain_ends import wanted_of

DUMPS = dumped.dumps()
NEWEST = [dump for dump in DUMPS if dump.version == dumped.VERSIONS[0]]


@pytest.mark.parametrize("dump", DUMPS, ids=str)
def test_a_domain_that_is_as_described_has_no_steps(dump: Dump) -> None:
    world = found(dump.kept)
    plan = plan_domain(wanted_of(as_it_is(read_domain(dump.kept))), world)
    assert plan.words == ()
    assert plan.before == plan.after == {}


def test_most_of_what_is_there_can_be_said() -> None:
    """The test above would hold for a task that says nothing."""
    silent = {
        name: sum(name not in as_it_is(read_domain(dump.kept)) for dump in DUMPS)
        for name in ("disks", "networks", "cpu")
    }
    assert silent["disks"] < len(DUMPS) / 10
    assert silent["networks"] < len(DUMPS) / 10
    assert silent["cpu"] < len(DUMPS)


@pytest.mark.parametrize("dump", DUMPS, ids=str)
def test_one_changed_option_changes_one_place(dump: Dump) -> None:
    world = found(dump.kept)
    wrong = []
    for change in one_changed(read_domain(dump.kept)):
        wanted = wanted_of(change.options)
        plan = plan_domain(wanted, world)
        assert list(plan.after) == [change.key], change.options
        after = patch(dump.kept, edits_of(plan.steps))
        elsewhere = [
            place
            for place in dumped.places(dump.kept, after)
            if not any(re.fullmatch(pattern, place) for pattern in change.places)
        ]
        again = plan_domain(wanted, found(after))
        if elsewhere or again.words or after == dump.kept:
            wrong.append((change.options, elsewhere, again.words))
    assert wrong == []
