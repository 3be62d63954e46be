# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kvm_domain with many domains, on the fake hypervisor."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import RequestError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan
from ansible_collections.kvmops.fleet.plugins.module_utils.run import domain as one
from ansible_collections.kvmops.fleet.plugins.module_utils.run.domain_set import DomainSetJob, read_set
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.host import fake_hypervisor

DISK = {"pool": "default", "size_mib": 8}


@pytest.fixture(name="hv")
def fixture_hv() -> Hypervisor:
    return fake_hypervisor.hypervisor()


def entry(name: str, **more: Any) -> Dict[str, Any]:
    return dict({"name": name, "memory_mib": 64, "disks": [dict(DISK, name=name + ".qcow2")]}, **more)


def params(domains: List[Dict[str, Any]], **more: Any) -> Mapping[str, Any]:
    checked = ArgumentSpecValidator(one.OPTIONS).validate(dict({"domains": domains}, **more))
    assert not checked.error_messages
    return dict(checked.validated_parameters)


def run(hv: Hypervisor, said: Mapping[str, Any], check: bool = False) -> Tuple[Plan, Mapping[str, Any]]:
    """One task, as run/sentence.py runs it."""
    wanted = read_set(said, one.OPTIONS, one._wanted)
    job = DomainSetJob(hv, wanted, said["parallel"], one._report)
    found = job.observe()
    plan = job.plan(found)
    outcome: Optional[Any] = job.apply(plan, found) if plan.changes and not check else None
    return plan, job.report(plan, found, outcome)


def test_a_set_is_made_and_then_is_as_described(hv: Hypervisor) -> None:
    said = params([entry("web1"), entry("web2", state="present"), entry("db1")], state="running")
    check, told = run(hv, said, check=True)
    assert hv.conn.domains == {} and not told.get("failed")
    plan, told = run(hv, said)
    assert plan.words == check.words and plan.words[0].startswith("web1: create volume web1.qcow2")
    assert [(each["name"], each["changed"], each["domain"]["state"]) for each in told["domains"]] == [
        ("web1", True, "running"),
        ("web2", True, "shutoff"),
        ("db1", True, "running"),
    ]
    again, told = run(hv, said)
    assert again.words == () and again.before == again.after == {}
    assert [each["changed"] for each in told["domains"]] == [False, False, False]


def test_what_stands_against_one_leaves_the_others_alone(hv: Hypervisor) -> None:
    huge = entry("huge", memory_mib=10**9)
    said = params([entry("web1"), huge, {"name": "nobody"}, entry("web2")], state="running")
    for check in (True, False):
        told = run(hv, said, check)[1]
        assert told["failed"] and told["msg"].startswith("2 of 4 domains are not as described. huge: ")
        assert [each["failed"] for each in told["domains"]] == [False, True, True, False]
        assert told["domains"][1]["concerns"][0]["id"] == "memory-too-large"
    assert sorted(hv.conn.domains) == ["web1", "web2"]


def test_what_goes_wrong_with_one_leaves_the_others_alone(hv: Hypervisor) -> None:
    run(hv, params([entry("web1"), entry("web2")]))
    hv.conn.domains["web1"].refuses_start = "no room"
    told = run(hv, params([{"name": "web1"}, {"name": "web2"}], state="running", parallel=1))[1]
    assert [each["failed"] for each in told["domains"]] == [True, False]
    assert "no room" in told["msg"] and told["domains"][1]["domain"]["state"] == "running"


def test_one_after_the_other_keeps_the_order(hv: Hypervisor) -> None:
    names = ["n%d" % number for number in (3, 1, 2)]
    run(hv, params([entry(name) for name in names]))
    hv.conn.events.clear()
    run(hv, params([{"name": name} for name in names], state="running", parallel=1))
    assert [event.split()[0] for event in hv.conn.events] == names


@pytest.mark.parametrize(
    ("domains", "problems"),
    [
        ([{"memory_mib": 1}], ["domains[0] (no name): name is missing"]),
        ([{"name": "a/b"}, {"name": "c", "memory_mib": "x"}], ["domains[0] (a/b): ", "domains[1] (c): "]),
        ([{"name": "a"}, {"guest": "a"}], ["domains names a more than once"]),
        ([{"name": "a", "memory": 1}], ["domains[0] (a): memory"]),
        ([{"name": "a", "uri": "x"}], ["domains[0] (a): uri"]),
    ],
)
def test_bad_entries_are_refused_all_at_once(domains: List[Dict[str, Any]], problems: List[str]) -> None:
    with pytest.raises(RequestError) as refused:
        read_set(params(domains), one.OPTIONS, one._wanted)
    assert len(refused.value.problems) == len(problems)
    for problem, begins in zip(refused.value.problems, problems, strict=True):
        assert problem.startswith(begins)
