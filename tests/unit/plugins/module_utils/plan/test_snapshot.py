# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from typing import Any, List, Optional

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Disk, Domain, DomainStatus, Firmware
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import PreflightError, RequestError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.snapshot import (
    EXTERNAL,
    INTERNAL,
    Snapshot,
    SnapshotFound,
    SnapshotWish,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.snapshot_xml import (
    agent_is_connected,
    new_files,
    read_snapshot,
    write_snapshot,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.snapshot import plan_snapshot
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.snapshot_request import wanted_snapshot

BOOKWORM, TRIXIE = 9000000, 11003000
CDROM = Disk("sda", device="cdrom", source="/x.iso", format="raw", readonly=True)
VDA, VDB = (Disk(target, source="/d/%s.qcow2" % target, format="qcow2") for target in ("vda", "vdb"))
RAW, BLOCK = Disk("vdc", source="/d/vdc.raw", format="raw"), Disk("vdd", kind="block", source="/dev/x", format="raw")


def found(
    *disks: Disk, state: str = "running", libvirt: int = TRIXIE, agent: bool = False, **more: Any
) -> SnapshotFound:
    domain = Domain("web1", "u", "kvm", 512, 1, disks=disks or (VDA, VDB, CDROM))
    made = SnapshotFound(domain, DomainStatus(state, True), more.pop("snapshots", ()), agent, libvirt)
    return replace(made, **more)


def there(name: str, created: int = 1, kind: str = INTERNAL, **more: Any) -> Snapshot:
    return Snapshot(name, kind, created, more.pop("state", "shutoff"), **more)


def words(wish: SnapshotWish, what: SnapshotFound) -> List[str]:
    return list(plan_snapshot(wish, what).words)


def refused(wish: SnapshotWish, what: SnapshotFound) -> List[str]:
    with pytest.raises(PreflightError) as error:
        plan_snapshot(wish, what)
    assert all(each.remedy for each in error.value.concerns)
    return [each.id for each in error.value.concerns]


WISH = SnapshotWish("web1", "s1")


@pytest.mark.parametrize(
    ("wish", "what", "said"),
    [
        (
            WISH,
            found(),
            "take snapshot s1: its memory and vda, vdb, inside the images; the guest stands still meanwhile",
        ),
        (WISH, found(state="shutoff"), "take snapshot s1: vda, vdb, inside the images"),
        (
            WISH,
            found(VDA, RAW),
            "take snapshot s1: vda, vdc without memory; the guest writes to new files from then on",
        ),
        (WISH, found(RAW, state="shutoff"), "take snapshot s1: vdc; the guest writes to new files from then on"),
        (
            replace(WISH, quiesce=True),
            found(agent=True),
            "take snapshot s1: vda, vdb without memory; the guest writes to new files from then on, its filesystems "
            "frozen by the guest agent",
        ),
    ],
)
def test_what_is_taken_is_said(wish: SnapshotWish, what: SnapshotFound, said: str) -> None:
    plan = plan_snapshot(wish, what)
    assert list(plan.words) == [said]
    assert plan.before == {"snapshots": []} and plan.after == {"snapshots": ["s1"]}
    assert "sda" not in plan.steps[0].args["disks"]


def test_firmware_with_variables_is_taken_outside() -> None:
    efi = found()
    assert efi.domain
    efi = replace(efi, domain=replace(efi.domain, firmware=Firmware("efi")))
    assert plan_snapshot(WISH, efi).steps[0].args["kind"] == EXTERNAL
    assert refused(replace(WISH, kind=INTERNAL), efi) == ["snapshot-not-inside"]


def test_one_that_is_there_stays() -> None:
    for kind in (INTERNAL, EXTERNAL):
        assert words(replace(WISH, kind=kind), found(snapshots=(there("s1"),))) == []
    assert words(replace(WISH, state="absent"), found()) == []


@pytest.mark.parametrize(
    ("wish", "what", "ids"),
    [
        (WISH, SnapshotFound(None, None, (), False, TRIXIE), ["snapshot-no-domain"]),
        (replace(WISH, kind=INTERNAL), found(VDA, RAW), ["snapshot-not-inside"]),
        (replace(WISH, kind=INTERNAL), found(CDROM), ["snapshot-not-inside"]),
        (replace(WISH, kind=EXTERNAL), found(CDROM), ["snapshot-no-disk"]),
        (replace(WISH, quiesce=True), found(VDA, BLOCK), ["snapshot-no-place", "snapshot-no-agent"]),
        (replace(WISH, quiesce=True), found(state="shutoff"), ["snapshot-no-agent"]),
        (replace(WISH, state="reverted"), found(), ["snapshot-unknown"]),
        (
            replace(WISH, state="reverted"),
            found(snapshots=(there("s1", kind=EXTERNAL),), libvirt=BOOKWORM),
            ["snapshot-external-revert"],
        ),
        (
            replace(WISH, state="absent"),
            found(snapshots=(there("s1", kind=EXTERNAL), there("s2")), libvirt=8000000),
            ["snapshot-external-delete", "snapshot-mixed-delete"],
        ),
        (WISH, found(status=DomainStatus("running", True, job="backup")), ["snapshot-busy"]),
    ],
)
def test_what_stands_against_it_is_said_at_once(wish: SnapshotWish, what: SnapshotFound, ids: List[str]) -> None:
    assert refused(wish, what) == ids


def test_a_domain_that_is_gone_has_no_snapshot_to_delete() -> None:
    assert words(replace(WISH, state="absent"), SnapshotFound(None, None, (), False, TRIXIE)) == []


def test_going_back_says_what_is_lost() -> None:
    old = there("s1", state="running", memory=True)
    plan = plan_snapshot(replace(WISH, state="reverted"), found(snapshots=(old, there("s2", 2, current=True))))
    assert plan.words == (
        "revert to snapshot s1: the memory of the running guest and what was written since are lost; the domain is "
        "running then",
    )
    assert plan.before["current"] == "s2" and plan.after["current"] == "s1"
    disk_only = there("s1", kind=EXTERNAL, state="disk-snapshot")
    (said,) = words(replace(WISH, state="reverted"), found(snapshots=(disk_only,), state="shutoff"))
    assert said == "revert to snapshot s1: what was written since is lost; the domain is shutoff then"


@pytest.mark.parametrize("keep", [1, 2, 3, 9])
def test_the_oldest_go_and_the_new_one_counts(keep: int) -> None:
    others = (there("d-3", 30), there("d-1", 10), there("d-2", 20), there("mine", 5))
    wish = replace(WISH, snapshot="d-4", keep=keep, keep_names="d-*")
    plan = plan_snapshot(wish, found(snapshots=others))
    gone = [step.args["name"] for step in plan.steps if step.action == "delete"]
    assert gone == ["d-1", "d-2", "d-3"][: max(0, 4 - keep)]
    assert plan.steps[0].action == "take"
    left = tuple(each for each in others if each.name not in gone)
    assert words(wish, found(snapshots=(*left, there("d-4", 40)))) == []


PARAMS = {
    "name": "web1", "snapshot": "d-1", "state": "present", "kind": "auto", "quiesce": False, "description": None,
    "keep": None, "keep_names": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("said", "problems"),
    [
        ({"snapshot": "a/b", "name": ""}, 2),
        ({"keep": 0, "keep_names": "e-*"}, 2),
        ({"keep": 3}, 1),
        ({"state": "absent", "keep": 3, "keep_names": "d-*", "quiesce": True}, 3),
        ({"kind": "internal", "quiesce": True}, 1),
    ],
)
def test_bad_requests_are_refused_with_every_problem(said: Any, problems: int) -> None:
    with pytest.raises(RequestError) as error:
        wanted_snapshot(dict(PARAMS, **said))
    assert len(error.value.problems) == problems


def test_the_record_is_read_as_it_was_written() -> None:
    xml = write_snapshot("s & 1", "two <words>", EXTERNAL, ["vda"], ["sda"])
    read = read_snapshot(xml, True)
    assert (read.name, read.description, read.kind, read.disks) == ("s & 1", "two <words>", EXTERNAL, ("vda",))
    assert not read.memory and read.current and read.parent is None and new_files(xml) == []


LIBVIRT = """
<domainsnapshot><name>s2</name><state>disk-snapshot</state><parent><name>s1</name></parent>
<creationTime>1700000000</creationTime><memory snapshot='no'/><disks>
<disk name='vda' snapshot='external' type='file'><driver type='qcow2'/><source file='/d/vda.s2'/></disk>
<disk name='sda' snapshot='no'/></disks><domain><name>web1</name></domain></domainsnapshot>"""


def test_libvirt_s_record_is_understood() -> None:
    read = read_snapshot(LIBVIRT, False)
    assert read.as_dict() == {
        "name": "s2", "kind": EXTERNAL, "created": 1700000000, "state": "disk-snapshot", "parent": "s1",
        "description": None, "memory": False, "disks": ["vda"], "current": False,
    }  # fmt: skip
    assert new_files(LIBVIRT) == ["/d/vda.s2"]
    inside = LIBVIRT.replace("external", "internal").replace("<memory snapshot='no'/>", "<memory snapshot='internal'/>")
    assert read_snapshot(inside, False).kind == INTERNAL and read_snapshot(inside, False).memory


@pytest.mark.parametrize(("state", "connected"), [("connected", True), ("disconnected", False), (None, False)])
def test_the_agent_is_there_when_the_guest_has_opened_its_channel(state: Optional[str], connected: bool) -> None:
    told = " state='%s'" % state if state else ""
    xml = "<domain><devices><channel><target name='org.qemu.guest_agent.0'%s/></channel></devices></domain>" % told
    assert agent_is_connected(xml) is connected
    assert not agent_is_connected("<domain><devices/></domain>")
