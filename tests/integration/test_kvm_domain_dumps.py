# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many different domains on real libvirts: what the unit tests believe of them, and one changed option at a time."""

from __future__ import annotations

import re
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_patch_xml import patch
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import Wanted
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_xml import read_domain
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain import edits_of, plan_domain
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils import dumped
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.plan.domain_as_found import (
    OneChange,
    found,
    one_changed,
)
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.plan.domain_ends import wanted_of

from .defining import define_each
from .fleet import Lab

RELEASES = "bookworm,trixie"
HOSTS = ("kvm1", "kvm2")
# libvirt makes up a part of these.
MADE_UP = {"genid", "net-bridge-vlan"}
# What no libvirt has a reason to refuse. Of the rest it refuses much, in words: a read-only SATA disk, UEFI without ACPI.
ALWAYS_TAKEN = re.compile(
    r"memory_mib|vcpus|cpu|boot\..*|tpm|serial_log|metadata\..*|autostart|disks\.[a-z]+(\.discard)?|networks\.[^.]*(\.source)?"
)


class Case(NamedTuple):
    dump: dumped.Dump
    change: OneChange
    wanted: Wanted
    xml: str


@pytest.mark.parametrize("host", HOSTS)
def test_the_dumps_are_what_libvirt_keeps(lab: Lab, host: str) -> None:
    answers = define_each(lab, host, dumped.GIVEN)
    kept = {dump.name: dump.kept for dump in dumped.dumps() if dump.version == answers.version}
    assert {name for name, answer in answers.of.items() if answer.kept is not None} == set(kept)
    for name in set(kept) - MADE_UP:
        assert dumped.places(kept[name], answers.of[name].kept or "") == set(), name


@pytest.mark.parametrize("host", HOSTS)
def test_one_changed_option_is_kept_and_then_there_is_nothing_to_do(lab: Lab, host: str) -> None:
    version = define_each(lab, host, {}).version
    cases = dict(_cases(version))
    answers = define_each(lab, host, {key: case.xml for key, case in cases.items()})
    wrong: List[Tuple[Any, ...]] = []
    for key, answer in answers.of.items():
        case = cases[key]
        if answer.kept is None:
            if ALWAYS_TAKEN.fullmatch(case.change.key):
                wrong.append((key, case.change.options, answer.refused))
            continue
        left = plan_domain(case.wanted, found(answer.kept)).words
        if left:
            wrong.append((key, case.change.options, left))
    assert wrong == []
    assert sum(answer.kept is not None for answer in answers.of.values()) > 1500


def _cases(version: str) -> Iterator[Tuple[str, Case]]:
    for dump in dumped.dumps():
        if dump.version != version:
            continue
        world = found(dump.kept)
        seen: Dict[str, int] = {}
        for change in one_changed(read_domain(dump.kept)):
            wanted = wanted_of(change.options)
            xml = patch(dump.kept, edits_of(plan_domain(wanted, world).steps))
            seen[change.key] = seen.get(change.key, 0) + 1
            yield "%s %s %d" % (dump.name, change.key, seen[change.key]), Case(dump, change, wanted, xml)
