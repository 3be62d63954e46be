# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kvm_domain on a running guest of the fake hypervisor: the guest and its definition go together, or neither goes."""

from __future__ import annotations

from typing import Any, List

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import live_change
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_xml import read_domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError, PreflightError
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.host import fake_hypervisor
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.run.test_domain_job import run

SYSTEM = {"pool": "default", "name": "a.qcow2", "size_mib": 8}
MORE = {"pool": "default", "name": "b.qcow2", "size_mib": 8}
DRIVE = {"device": "cdrom", "target": "sda"}


@pytest.fixture(name="hv")
def fixture_hv(monkeypatch: pytest.MonkeyPatch) -> Hypervisor:
    """web1 runs there, with a network that it can be given a card on."""
    monkeypatch.setattr(live_change, "RELEASE_S", 0.2)
    monkeypatch.setattr(live_change, "LOOK_AGAIN_S", 0.05)
    monkeypatch.setattr(live_change, "BALLOON_STALLS_S", 0.1)
    monkeypatch.setattr(live_change, "STATS_S", 0.3)
    hv = fake_hypervisor.hypervisor()
    run(hv, state="running", memory_mib=256, max_memory_mib=512, max_vcpus=4, disks=[SYSTEM, MORE, DRIVE])
    return hv


def ends(hv: Hypervisor) -> List[Domain]:
    """web1 as it runs and as it is defined."""
    dom = hv.conn.domains["web1"]
    return [read_domain(dom.live_xml), read_domain(dom.xml)]


def targets(hv: Hypervisor) -> List[List[str]]:
    return [[disk.target for disk in domain.disks] for domain in ends(hv)]


def test_both_ends_change_and_nothing_waits(hv: Hypervisor) -> None:
    plan, result = run(hv, memory_mib=384, vcpus=2, disks=[SYSTEM, DRIVE])
    assert plan.words == (
        "set memory 256 → 384 MiB (live)",
        "set vCPUs 1 → 2 (live)",
        "detach disk vdb (/pool/b.qcow2); its data stays (live)",
    )
    assert [(one.memory_now_mib, one.memory_mib, one.vcpus_now, one.vcpus) for one in ends(hv)] == [
        (384, 512, 2, 4)
    ] * 2
    assert targets(hv) == [["vda", "sda"]] * 2
    assert (result["pending"], result["pending_changes"]) == (False, [])
    assert run(hv, memory_mib=384, vcpus=2, disks=[SYSTEM, DRIVE])[0].words == ()


def test_check_mode_leaves_both_alone(hv: Hypervisor) -> None:
    before = ends(hv)
    run(hv, check=True, memory_mib=384, vcpus=2, disks=[SYSTEM, DRIVE])
    assert ends(hv) == before


def test_next_boot_leaves_the_guest_alone(hv: Hypervisor) -> None:
    before = ends(hv)[0]
    result = run(hv, memory_mib=384, vcpus=2, disks=[SYSTEM, DRIVE], apply="next_boot")[1]
    assert ends(hv)[0] == before
    assert (ends(hv)[1].memory_now_mib, ends(hv)[1].vcpus_now, targets(hv)[1]) == (384, 2, ["vda", "sda"])
    assert len(result["pending_changes"]) == 3


@pytest.mark.parametrize("refuses", [True, False])
def test_a_disk_that_the_guest_keeps_stays_in_the_definition(hv: Hypervisor, refuses: bool) -> None:
    dom = hv.conn.domains["web1"]
    dom.refuses_release, dom.ignores_shutdown = refuses, not refuses
    words = "the guest refused" if refuses else "the guest has not let it go"
    with pytest.raises(
        HostError, match="detach disk vdb from domain web1 .*%s.*apply: next_boot.*Nothing was changed" % words
    ):
        run(hv, disks=[SYSTEM, DRIVE])
    assert targets(hv) == [["vda", "vdb", "sda"]] * 2


def test_a_guest_without_a_balloon_driver_keeps_its_memory_and_its_definition(hv: Hypervisor) -> None:
    hv.conn.domains["web1"].spare_mib = None
    with pytest.raises(HostError, match="stopped at 256 MiB; it may have no balloon driver.*apply: next_boot"):
        run(hv, memory_mib=128)
    assert [one.memory_now_mib for one in ends(hv)] == [256, 256]
    assert run(hv, memory_mib=128, apply="next_boot")[1]["pending_changes"] == ["set memory 256 → 128 MiB"]


def test_a_guest_is_not_asked_for_memory_that_it_needs(hv: Hypervisor) -> None:
    hv.conn.domains["web1"].spare_mib = 100
    with pytest.raises(HostError, match="take 128 MiB of memory from domain web1 .*it can spare 100 MiB"):
        run(hv, memory_mib=128)
    assert [one.memory_now_mib for one in ends(hv)] == [256, 256]
    assert run(hv, memory_mib=160)[0].words == ("set memory 256 → 160 MiB (live)",)
    assert hv.conn.domains["web1"].polled is False


def test_what_was_changed_before_a_refusal_is_whole_and_said(hv: Hypervisor) -> None:
    hv.conn.domains["web1"].refuses_release = True
    with pytest.raises(HostError, match=r"Done before: set memory 256 → 384 MiB \(live\)\."):
        run(hv, memory_mib=384, disks=[SYSTEM, DRIVE], graphics="vnc")
    assert [one.memory_now_mib for one in ends(hv)] == [384, 384]
    assert [one.graphics for one in ends(hv)] == [(), ()]


def test_a_plugged_disk_has_one_place(hv: Hypervisor) -> None:
    run(hv, disks=[SYSTEM, MORE, {"pool": "default", "name": "c.qcow2", "size_mib": 8, "bus": "scsi"}, DRIVE])
    assert [sorted(one) for one in targets(hv)] == [["sda", "sdb", "vda", "vdb"]] * 2
    assert all("virtio-scsi" in xml for xml in (hv.conn.domains["web1"].live_xml, hv.conn.domains["web1"].xml))


def test_a_plugged_card_has_one_address(hv: Hypervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    card = {"bridge": "br0"}
    run(hv, networks=[card, dict(card, link="down")])
    first, second = [[(nic.mac, nic.link) for nic in one.nics] for one in ends(hv)]
    assert first == second
    assert [link for mac, link in first] == [None, "down"] and all(mac for mac, link in first)
    assert run(hv, networks=[card, dict(card, link="down")])[0].words == ()
    run(hv, networks=[card, dict(card, link="up")])
    assert [[nic.link for nic in one.nics] for one in ends(hv)] == [[None, "up"]] * 2


def test_a_medium_comes_and_goes(hv: Hypervisor) -> None:
    hv.conn.pools["default"].createXML("<volume><name>a.iso</name><capacity>1</capacity><target/></volume>")
    for path, source in (("/pool/a.iso", "/pool/a.iso"), ("", None)):
        plan = run(hv, disks=[SYSTEM, MORE, dict(DRIVE, path=path)])[0]
        assert len(plan.steps) == 1 and plan.words[0].endswith("(live)")
        assert [one.disks[-1].source for one in ends(hv)] == [source, source]


def test_a_volume_is_grown_with_its_guest_and_not_under_others(hv: Hypervisor) -> None:
    volume = hv.conn.pools["default"].volumes["a.qcow2"]
    assert run(hv, disks=[dict(SYSTEM, size_mib=16), MORE, DRIVE])[0].words == (
        "grow volume a.qcow2 8 → 16 MiB (live)",
    )
    assert int(volume.root.findtext("capacity")) == 16 << 20
    with pytest.raises(PreflightError, match=r"\[volume-used\].*domain web1 uses it"):
        run(hv, name="web2", memory_mib=64, disks=[dict(SYSTEM, size_mib=32)])
    run(hv, state="destroyed")
    assert run(hv, disks=[dict(SYSTEM, size_mib=24), MORE, DRIVE])[0].words == ("grow volume a.qcow2 16 → 24 MiB",)
    assert int(volume.root.findtext("capacity")) == 24 << 20


def test_a_guest_in_a_job_is_not_touched(hv: Hypervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    dom: Any = hv.conn.domains["web1"]
    monkeypatch.setattr(dom, "jobStats", lambda flags=0: {"type": 2, "operation": 6}, raising=False)
    with pytest.raises(PreflightError, match="domain-busy"):
        run(hv, memory_mib=384)


def test_a_transient_guest_is_changed_and_then_defined_as_it_runs(hv: Hypervisor) -> None:
    dom = hv.conn.domains["web1"]
    dom.transient, dom.xml = True, "<gone/>"
    third = {"pool": "default", "name": "c.qcow2", "size_mib": 8}
    plan = run(hv, memory_mib=384, disks=[SYSTEM, MORE, third, DRIVE])[0]
    assert plan.words[-2:] == ("attach disk vdc (/pool/c.qcow2) (live)", "make the transient domain persistent")
    assert [one.memory_now_mib for one in ends(hv)] == [384, 384]
    assert targets(hv)[0] == targets(hv)[1] == ["vda", "vdb", "sda", "vdc"]
