# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What becomes of a finished copy: requests, when a fix-up is still good, what its domain gets from the source."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import RequestError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.fixup import Card, FixupWish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_vm import (
    BootTest,
    VmDisk,
    VmFound,
    VmWish,
    machine_of,
    overlay_of,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_request import wanted_domain
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_vm import (
    channel_concerns,
    concerns,
    domain_concerns,
    domain_params,
    is_done,
    neighbour_of,
    networks,
    retire_steps,
    sign_of,
    steps,
    wish_of,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_vm_request import read_vm_wish, read_wishes

MIB = 1024**2
NO_OPTIONS = {"serial_console": False, "services_off": None, "keep_services": None, "timeout_s": 900.0}
AGENT = dict(NO_OPTIONS, guest_agent=True)


def params(**said: Any) -> Dict[str, Any]:
    plain = {
        "name": "old1", "pool": "default", "format": "qcow2", "mode": "hot", "cutover": "none", "max_downtime_s": 10.0,
        "max_passes": 20, "connections": 2, "connect_timeout_s": 60.0, "fixup": False,
        "source": "old1",
    }  # fmt: skip
    return dict(plain, **said)


def test_a_request_is_read() -> None:
    told = read_vm_wish(
        params(
            fixup=True,
            fixup_options=dict(NO_OPTIONS, serial_console=True, services_off=["x.service"]),
            domain={"state": "present", "networks": [{"interface": "eno1", "bridge": "br0"}]},
            boot_test={"timeout_s": 60.0, "wait_for": "auto"},
        )
    )
    assert told.fixup == FixupWish(serial_console=True, services_off=("x.service",))
    assert told.boot_test == BootTest(60.0) and told.domain_name == "old1" and told.wanted and not told.starts
    assert not read_vm_wish(params()).wanted


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"fixup_options": NO_OPTIONS}, "fixup is false"),
        ({"fixup": True, "fixup_options": dict(NO_OPTIONS, services_off=["-x"])}, "has '-x'"),
        ({"fixup": True, "fixup_options": dict(NO_OPTIONS, services_off=["a"], keep_services=["a"])}, "choose one"),
        ({"fixup": True, "fixup_options": dict(NO_OPTIONS, timeout_s=0)}, "fixup_options.timeout_s is 0"),
        ({"fixup": True, "fixup_options": dict(NO_OPTIONS, guest_agent_packages=["/a.deb"])}, "guest_agent is false"),
        (
            {"fixup": True, "fixup_options": dict(AGENT, guest_agent_packages=["a.deb"])},
            "has 'a.deb'; give whole paths",
        ),
        ({"fixup": True, "fixup_options": dict(AGENT, guest_agent_packages=["/a.deb", "/b.rpm"])}, "has .deb and .rpm"),
        ({"fixup": True, "fixup_options": dict(AGENT, guest_agent_packages=["/a.deb", "/b/a.deb"])}, "a file twice"),
        ({"boot_test": {"timeout_s": 1.0, "wait_for": "auto"}}, "domain is not"),
        ({"domain": {}, "boot_test": {"timeout_s": -1.0, "wait_for": "auto"}}, "boot_test.timeout_s is -1"),
        ({"domain": {}, "boot_test": {"timeout_s": 1.0, "wait_for": "port"}}, "boot_test.port is missing"),
        ({"domain": {}, "boot_test": {"timeout_s": 1.0, "wait_for": "agent", "port": 22}}, "choose one"),
        ({"domain": {}, "boot_test": {"timeout_s": 1.0, "wait_for": "auto", "port": 0}}, "boot_test.port is 0"),
        ({"mode": "gather", "fixup": True}, "changes nothing"),
        ({"domain": {"state": "running"}}, "the source serves on"),
        ({"domain": {"memory_mib": 0, "uuid": "x"}}, "memory_mib is 0.*uuid is 'x'"),
        ({"domain": {"networks": [{"bridge": "br0", "network": "default"}]}}, "exactly one of bridge and network"),
        ({"domain": {"networks": [{"interface": "eno1"}, {"interface": "eno1"}]}}, "an interface twice"),
        ({"domain": {"networks": [{"interface": "eno1", "mac": "52:54:00:00:00:01"}]}}, "interface and mac"),
    ],
)
def test_what_cannot_be_meant_is_refused(said: Dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        read_vm_wish(params(**said))


def test_everything_wrong_with_copy_and_guest_is_told_at_once() -> None:
    with pytest.raises(RequestError) as caught:
        read_wishes(params(connections=0, domain={"state": "running"}))
    assert len(caught.value.problems) == 2


DISK = VmDisk("sda", "/pool/old1-sda.qcow2", "qcow2", "S1")
IMAGE, OVERLAY = {"inode": 1, "bytes": 10, "mtime_ns": 5}, {"inode": 2, "bytes": 3, "mtime_ns": 6}
WISH = VmWish("old1", fixup=FixupWish(), domain={}, boot_test=BootTest())
RECORD = {
    "record": 1, "wish": wish_of(WISH), "disks": {"sda": {"image": IMAGE, "overlay": OVERLAY}}, "boot_test": {"seconds": 9},
}  # fmt: skip
DONE = VmFound((DISK,), RECORD, {DISK.image: IMAGE, DISK.overlay: OVERLAY})
FLAT_RECORD = dict(RECORD, flat="done")
FLAT = VmFound((DISK,), FLAT_RECORD, {DISK.image: OVERLAY})
NEW = VmFound((DISK,), None, {DISK.image: IMAGE})


def actions(wish: VmWish, found: VmFound, copies: bool = False) -> List[str]:
    return [step.action for step in steps(wish, found, copies)]


def test_names_of_files() -> None:
    assert overlay_of("/pool/old1-sda.raw") == "/pool/old1-sda.vm.qcow2"
    assert DISK.unfinished == "/pool/.old1-sda.vm.qcow2.part" and DISK.trial == "/pool/.old1-sda.vm.qcow2.boot-test"


@pytest.mark.parametrize(
    ("wish", "found", "copies", "expected"),
    [
        (WISH, NEW, True, ["vm-fixup", "vm-boot-test"]),
        (WISH, NEW, False, ["vm-fixup", "vm-boot-test"]),
        (WISH, DONE, False, []),
        (WISH, DONE, True, ["vm-fixup", "vm-boot-test"]),
        (WISH, replace(DONE, record=dict(RECORD, boot_test=None)), False, ["vm-boot-test"]),
        (replace(WISH, boot_test=None), DONE, False, []),
        # Another wish, another state of the image, an overlay that is gone, a record of another kind.
        (replace(WISH, fixup=FixupWish(serial_console=True)), DONE, False, ["vm-fixup", "vm-boot-test"]),
        (replace(WISH, fixup=FixupWish(timeout_s=5)), DONE, False, []),
        (WISH, replace(DONE, marks={DISK.image: OVERLAY, DISK.overlay: OVERLAY}), False, ["vm-fixup", "vm-boot-test"]),
        (WISH, replace(DONE, marks={DISK.image: IMAGE}), False, ["vm-fixup", "vm-boot-test"]),
        (WISH, replace(DONE, record=dict(RECORD, record=0)), False, ["vm-fixup", "vm-boot-test"]),
        (VmWish("old1"), NEW, True, []),
        (replace(WISH, final=True), NEW, True, ["vm-fixup", "vm-boot-test", "vm-flatten"]),
        (replace(WISH, final=True), DONE, False, ["vm-flatten"]),
        (replace(WISH, final=True), replace(DONE, running={DISK.overlay: ("old1",)}), False, []),
        (replace(WISH, final=True), FLAT, False, []),
        (
            replace(WISH, final=True, fixup=FixupWish(serial_console=True)),
            replace(FLAT, record=dict(FLAT_RECORD, flat="begun")),
            False,
            ["vm-fixup", "vm-boot-test", "vm-flatten"],
        ),
        # A domain that has written to its disk is no reason to do anything.
        (WISH, replace(DONE, marks={DISK.image: IMAGE, DISK.overlay: IMAGE}), False, []),
    ],
)
def test_what_is_left_to_do(wish: VmWish, found: VmFound, copies: bool, expected: List[str]) -> None:
    assert actions(wish, found, copies) == expected
    assert is_done(wish, found) == ("vm-fixup" not in actions(wish, found)) or not wish.wanted


def test_a_domain_that_is_there_keeps_what_is_not_said() -> None:
    told = domain_params(
        {"vcpus": 3}, "old1", [DISK], {"memory_bytes": 2**30, "cpus": 8}, {}, [ENO1], ["br0"], True, True
    )
    assert (told["memory_mib"], told["vcpus"], told["firmware"], told["networks"]) == (None, 3, None, None)
    assert [(disk["path"], disk["format"]) for disk in told["disks"]] == [(DISK.image, "qcow2")]


def test_overlays_go_before_their_image_changes() -> None:
    assert "old1-sda.vm.qcow2" in retire_steps(DONE)[0].words and retire_steps(NEW) == []


@pytest.mark.parametrize(
    ("found", "changes", "expected"),
    [
        (DONE, False, []),
        (DONE, True, []),
        (NEW, True, []),
        (replace(DONE, running={DISK.overlay: ("old1",)}), True, ["p2v-vm-running"]),
        (replace(DONE, running={DISK.overlay: ("old1",)}), False, []),
        (replace(DONE, marks={DISK.image: IMAGE, DISK.overlay: IMAGE}), True, ["p2v-vm-written"]),
        (replace(DONE, record=None), False, ["p2v-vm-written"]),
        (replace(NEW, cannot_open="no guestfs"), False, ["p2v-fixup-no-libguestfs"]),
        (replace(DONE, cannot_open="no guestfs"), False, []),
        (replace(NEW, foreign=True), True, ["p2v-vm-domain-exists"]),
    ],
)
def test_a_guest_that_lives_is_not_thrown_away(found: VmFound, changes: bool, expected: List[str]) -> None:
    assert [each.id for each in concerns(WISH, found, changes)] == expected


ENO1, ENO2 = Card("eno1", "52:54:00:00:00:01", ("192.0.2.5/24",), True), Card("eno2", "52:54:00:00:00:02")


def test_the_domain_is_the_machine_unless_the_user_says_otherwise() -> None:
    facts = {"memory_bytes": 16_300 * MIB, "cpus": 8, "boot": {"firmware": "uefi"}, "disks": [], "interfaces": []}
    machine = machine_of(facts)
    told = domain_params(
        {}, "old1", [DISK], machine, {"disk_bus": "sata", "card_model": "e1000e"}, [ENO1, ENO2], ["br0"]
    )
    wanted = wanted_domain(told)
    assert (wanted.memory_mib, wanted.vcpus, wanted.firmware, wanted.state) == (16384, 8, "efi", "present")
    (disk,), (nic,) = wanted.disks or (), wanted.nics or ()
    assert (disk.path, disk.bus, disk.format, disk.serial) == (DISK.overlay, "sata", "qcow2", "S1")
    assert (nic.source, nic.mac, nic.model) == ("br0", ENO1.mac, "e1000e")
    own = {"name": "web", "memory_mib": 512, "vcpus": 1, "firmware": "bios", "machine": "pc-q35-7.2", "networks": []}
    wanted = wanted_domain(domain_params(own, "old1", [replace(DISK, serial="a b")], machine, {}, [ENO1], ["br0"]))
    assert (wanted.name, wanted.memory_mib, wanted.vcpus, wanted.firmware) == ("web", 512, 1, "bios")
    assert wanted.nics == () and wanted.machine == "pc-q35-7.2" and (wanted.disks or ())[0].serial is None


def test_what_nobody_knows_is_not_made_up() -> None:
    assert not wanted_domain(domain_params({}, "old1", [DISK], {}, {})).describes


def test_cards_are_mapped_to_bridges() -> None:
    given = [
        {"interface": "eno2", "bridge": "br1"},
        {"network": "lan", "mac": "52:54:00:00:00:09", "model": "e1000"},
        {},
    ]
    told = networks(given, [ENO1, ENO2], {}, ["br0"])
    assert [(nic["bridge"], nic["network"], nic["mac"], nic["model"]) for nic in told] == [
        ("br1", None, ENO2.mac, "virtio"), (None, "lan", "52:54:00:00:00:09", "e1000"), ("br0", None, None, "virtio"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("domain", "bridges", "expected"),
    [
        ({}, ["br0"], []),
        ({}, [], ["p2v-vm-no-bridge"]),
        ({}, ["br0", "br1"], ["p2v-vm-no-bridge"]),
        ({"networks": []}, [], []),
        ({"networks": [{"interface": "eno1", "bridge": "br1"}]}, ["br0", "br1"], []),
        ({"networks": [{"interface": "eno1"}]}, ["br0", "br1"], ["p2v-vm-no-bridge"]),
        ({"networks": [{"interface": "eth9", "bridge": "br0"}]}, ["br0"], ["p2v-vm-no-such-card"]),
        (None, [], []),
    ],
)
def test_what_the_cards_lack(domain: Any, bridges: List[str], expected: List[str]) -> None:
    assert [each.id for each in domain_concerns(replace(WISH, domain=domain), [ENO1, ENO2], bridges)] == expected


@pytest.mark.parametrize(
    ("wait_for", "equipment", "expected"),
    [
        ("auto", {"serial_console": True, "guest_agent": True}, "console"),
        ("auto", {"guest_agent": True}, "agent"),
        ("auto", {}, None),
        ("agent", {}, "agent"),
        ("port", {}, "port"),
    ],
)
def test_what_shows_that_it_has_booted(wait_for: str, equipment: Dict[str, Any], expected: Any) -> None:
    assert sign_of(replace(WISH, boot_test=BootTest(wait_for=wait_for)), equipment)[0] == expected


def test_a_port_is_awaited_where_one_is_given() -> None:
    told = sign_of(replace(WISH, boot_test=BootTest(port=22)), {"serial_console": True})
    assert told == ("port", "")


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (("192.0.2.5/24",), ("192.0.2.5", "192.0.2.1", 24)),
        (("192.0.2.1/24",), ("192.0.2.1", "192.0.2.2", 24)),
        (("2001:db8::1/64", "192.0.2.9/32", "198.51.100.2/30"), ("198.51.100.2", "198.51.100.1", 30)),
        (("2001:db8::1/64",), None),
        ((), None),
    ],
)
def test_where_a_probe_sits(addresses: Any, expected: Any) -> None:
    card = Card("eno1", "52:54:00:00:00:01", addresses)
    told = neighbour_of([card], [card.mac])
    assert (told and (told.guest, told.own, told.prefix)) == expected
    assert neighbour_of([card], []) is None


def test_a_guest_agent_is_part_of_the_wish_once_it_is_asked_for() -> None:
    wish = FixupWish(guest_agent=True, guest_agent_packages=("/srv/b.deb", "/srv/a.deb"))
    told = read_vm_wish(
        params(fixup=True, fixup_options=dict(AGENT, guest_agent_packages=["/srv/b.deb", "/srv/a.deb"]))
    )
    assert told.fixup == wish and wish.as_dict()["guest_agent"] == ["/srv/a.deb", "/srv/b.deb"]
    # Records of an earlier time stay good.
    assert set(FixupWish().as_dict()) == {"serial_console", "services_off", "keep_services"}


def test_packages_that_are_not_there_are_told_before_anything_changes() -> None:
    lacking = replace(NEW, no_packages=("/srv/a.deb",))
    assert [(each.id, each.level) for each in concerns(WISH, lacking, True)] == [("p2v-fixup-no-package", "error")]
    assert concerns(WISH, replace(DONE, no_packages=("/srv/a.deb",)), False) == []


def test_a_domain_without_a_channel_for_the_agent_is_told() -> None:
    asked = replace(WISH, fixup=FixupWish(guest_agent=True))
    assert channel_concerns(asked, NEW, True) == []
    assert [each.id for each in channel_concerns(asked, NEW, False)] == ["p2v-vm-no-agent-channel"]
    assert channel_concerns(WISH, NEW, False) == []
    has_one = replace(DONE, record=dict(RECORD, equipment={"guest_agent": True}))
    assert [each.id for each in channel_concerns(WISH, has_one, False)] == ["p2v-vm-no-agent-channel"]
