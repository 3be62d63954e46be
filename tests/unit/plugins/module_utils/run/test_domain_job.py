# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kvm_domain from observation to report, on the fake hypervisor: what a real one will not do on demand."""

from __future__ import annotations

from typing import Any, Mapping, Tuple

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import lifecycle
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_xml import read_domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan
from ansible_collections.kvmops.fleet.plugins.module_utils.run.domain import DomainJob
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.host import fake_hypervisor
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.plan.domain_ends import wanted_of

WEB1 = {"memory_mib": 64, "disks": [{"pool": "default", "name": "web1.qcow2", "size_mib": 8}]}


@pytest.fixture(name="hv")
def fixture_hv() -> Hypervisor:
    return fake_hypervisor.hypervisor()


def run(hv: Hypervisor, check: bool = False, **options: Any) -> Tuple[Plan, Mapping[str, Any]]:
    """One task, as run/sentence.py runs it."""
    xml = read_domain(options["xml"]) if "xml" in options else None
    job = DomainJob(hv, wanted_of(options, xml))
    found = job.observe()
    plan = job.plan(found)
    outcome = job.apply(plan, found) if plan.changes and not check else None
    return plan, job.report(plan, found, outcome)


def test_check_mode_says_what_would_happen_and_touches_nothing(hv: Hypervisor) -> None:
    plan, result = run(hv, check=True, state="running", **WEB1)
    assert [step.action for step in plan.steps] == ["create_volume", "define", "start"]
    assert result["domain"] is None
    assert hv.conn.events == []
    assert hv.conn.pools["default"].volumes == {}


@pytest.mark.parametrize("state", ["present", "running", "paused", "shutdown", "destroyed", "saved", "absent"])
@pytest.mark.parametrize("before", ["present", "running", "paused", "saved"])
def test_twice_is_once(hv: Hypervisor, before: str, state: str) -> None:
    run(hv, state="running" if before == "saved" else before, **WEB1)
    if before == "saved":
        run(hv, state="saved")
    run(hv, state=state)
    told = list(hv.conn.events)
    plan, result = run(hv, state=state)
    assert plan.words == ()
    assert hv.conn.events == told
    expected = {"shutdown": "shutoff", "destroyed": "shutoff", "present": None, "absent": None}.get(state, state)
    if state == "absent":
        assert result["domain"] is None
    elif expected == "shutoff" and before == "saved":
        assert result["domain"]["state"] == "saved"
    elif expected and not (state == "saved" and before == "present"):
        assert result["domain"]["state"] == expected


def test_a_guest_that_ignores_the_button_is_an_error_without_force(hv: Hypervisor) -> None:
    run(hv, state="running", **WEB1)
    hv.conn.domains["web1"].ignores_shutdown = True
    with pytest.raises(HostError, match=r"shut domain web1 down .*still running after 0 s.*wait_timeout.*force"):
        run(hv, state="shutdown", wait_timeout=0)
    assert hv.conn.domains["web1"].number >= 0


def test_with_force_it_is_stopped(hv: Hypervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    run(hv, state="running", **WEB1)
    hv.conn.domains["web1"].ignores_shutdown = True
    monkeypatch.setattr(lifecycle, "PRESS_AGAIN_S", 0.05)
    result = run(hv, state="shutdown", wait_timeout=1, force=True)[1]
    assert result["domain"]["state"] == "shutoff"
    assert hv.conn.domains["web1"].presses > 2


@pytest.mark.parametrize("agent, presses", [("obeys", 0), ("refuses", 1), ("hangs", 1), (None, 1)])
def test_the_agent_is_asked_before_the_button_is_pressed(hv: Hypervisor, agent: str, presses: int) -> None:
    run(hv, state="running", **WEB1)
    hv.conn.domains["web1"].agent = agent
    bounds = {"agent_timeout_s": 1, "acpi_timeout_s": 5}
    result = run(hv, state="shutdown", wait_timeout=60, shutdown=bounds)[1]
    assert (result["domain"]["state"], hv.conn.domains["web1"].presses) == ("shutoff", presses)


def test_each_way_has_a_bound_of_its_own(hv: Hypervisor) -> None:
    run(hv, state="running", **WEB1)
    hv.conn.domains["web1"].agent, hv.conn.domains["web1"].ignores_shutdown = "hangs", True
    with pytest.raises(HostError, match="still running after 2 s"):
        run(hv, state="shutdown", wait_timeout=60, shutdown={"agent_timeout_s": 1, "acpi_timeout_s": 1})
    assert hv.conn.domains["web1"].presses == 1
    with pytest.raises(HostError, match="still running after 1 s"):
        run(hv, state="shutdown", wait_timeout=60, shutdown={"agent_timeout_s": 1, "acpi_timeout_s": 0})
    assert hv.conn.domains["web1"].presses == 1


def test_a_failed_start_says_what_was_done_and_the_next_run_goes_on(hv: Hypervisor) -> None:
    run(hv, **WEB1)
    hv.conn.domains["web1"].refuses_start = "Cannot allocate memory"
    words = r"Could not start domain web1 .*Cannot allocate memory.*Done before: set memory 64 → 32 MiB"
    with pytest.raises(HostError, match=words):
        run(hv, state="running", memory_mib=32)
    hv.conn.domains["web1"].refuses_start = None
    plan, result = run(hv, state="running", memory_mib=32)
    assert plan.words == ("start the domain",)
    assert result["domain"]["memory_mib"] == 32


def test_existing_data_is_used_and_never_overwritten(hv: Hypervisor) -> None:
    run(hv, **WEB1)
    volume = hv.conn.pools["default"].volumes["web1.qcow2"]
    run(hv, state="absent")
    assert run(hv, **WEB1)[0].words == ("define domain web1 (64 MiB, 1 vCPUs, qemu)",)
    assert hv.conn.pools["default"].volumes["web1.qcow2"] is volume


def test_storage_goes_only_on_request_and_never_from_under_others(hv: Hypervisor) -> None:
    run(hv, **WEB1)
    run(hv, **{**WEB1, "name": "web2"})
    plan = run(hv, state="absent", remove_storage=True)[0]
    assert "also used by web2" in plan.warnings[0]
    assert "web1.qcow2" in hv.conn.pools["default"].volumes
    run(hv, name="web2", state="absent", remove_storage=True)
    assert hv.conn.pools["default"].volumes == {}


def test_passwords_survive_a_change_and_appear_nowhere(hv: Hypervisor) -> None:
    xml = "<domain type='qemu'><name>web1</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>"
    xml += "<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>"
    xml += "<devices><graphics type='vnc' passwd='geheim'/></devices></domain>"
    run(hv, xml=xml)
    assert run(hv, xml=xml)[0].words == ()
    plan, result = run(hv, memory_mib=128)
    assert "passwd='geheim'" in hv.conn.domains["web1"].xml.replace('"', "'")
    assert "geheim" not in repr((plan.before, plan.after, plan.words, result))


def test_what_libvirt_drops_from_xml_is_said(hv: Hypervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    xml = "<domain type='qemu'><name>web1</name><memory>64</memory><vcpu>1</vcpu><nonsense/>"
    xml += "<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><devices/></domain>"
    define = hv.conn.defineXMLFlags
    monkeypatch.setattr(hv.conn, "defineXMLFlags", lambda text, flags: define(text.replace("<nonsense/>", ""), flags))
    assert "nonsense" in run(hv, xml=xml)[1]["warnings"][0]


def test_pending_until_the_next_boot(hv: Hypervisor) -> None:
    run(hv, state="running", **WEB1)
    assert run(hv, memory_mib=128)[1]["pending"] is True
    plan, result = run(hv, memory_mib=128)
    assert (plan.words, result["pending"]) == ((), True)
    run(hv, state="destroyed")
    assert run(hv, state="running", memory_mib=128)[1]["pending"] is False
