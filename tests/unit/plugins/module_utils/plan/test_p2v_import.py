# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images and attached disks instead of a machine: what may be asked, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host.image_look import cards_of
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import RequestError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import (
    GONE,
    NONE,
    P2vFound,
    Source,
    SourceDisk,
    Target,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_import import FORMATS, ImportDisk, ImportSeen
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_vm import machine_of
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v import plan_p2v, was_left
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_import import import_concerns, machine_told
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_vm import domain_concerns, domain_params
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_vm_request import read_wishes

DISK = {"path": "/srv/a.img", "format": "raw", "disk": "sda"}
DOMAIN: Dict[str, Any] = {
    "memory_mib": 1024, "vcpus": 1, "firmware": "efi",
    "networks": [{"interface": "eno1", "mac": "52:54:00:00:00:01", "bridge": "br0"}],
}  # fmt: skip


def params(**said: Any) -> Dict[str, Any]:
    plain = {
        "name": "old1", "pool": "default", "format": "qcow2", "mode": "cold", "cutover": "none", "max_downtime_s": 10.0,
        "max_passes": 20, "connections": 2, "connect_timeout_s": 60.0, "fixup": False, "import_from": [DISK],
    }  # fmt: skip
    return dict(plain, **said)


def problems(**said: Any) -> List[str]:
    with pytest.raises(RequestError) as refused:
        read_wishes(params(**said))
    return list(refused.value.problems)


def test_a_request_is_read_and_its_disks_are_those_that_it_names() -> None:
    wish, vm = read_wishes(params(import_from=[DISK, dict(DISK, path="/dev/sdx", disk="sdb")]))
    assert wish.imports == (ImportDisk("/srv/a.img", "raw", "sda"), ImportDisk("/dev/sdx", "raw", "sdb"))
    assert wish.disks == ("sda", "sdb") and wish.cold and wish.cutover == NONE and not vm.final
    looked = read_wishes(params(mode="gather"))[0]
    assert looked.cold and looked.gather_only


def test_a_guest_that_starts_has_the_images_for_good() -> None:
    wish, vm = read_wishes(params(fixup=True, domain=dict(DOMAIN, state="running")))
    assert wish.cutover == GONE and vm.final and vm.starts
    head = {"disk": {"name": "sda"}, "disks": ["sda"], "cutover": GONE}
    assert was_left(wish, [head]) and not was_left(wish, [dict(head, cutover=None)])
    found = P2vFound(
        Source("a.img", "", (SourceDisk("sda", 1 << 20),)), (SourceDisk("sda", 1 << 20),), {},
        {"sda": Target("/p/old1-sda.qcow2")}, {"sda": ((0, 4096),)},
    )  # fmt: skip
    assert [step.action for step in plan_p2v(wish, found, ()).steps] == ["copy", "publish"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"import_from": None}, "source is missing"),
        ({"source": "old1"}, "choose one"),
        ({"import_from": []}, "import_from is empty"),
        ({"mode": "hot"}, "choose cold"),
        ({"cutover": "poweroff"}, "no machine to leave"),
        ({"disks": ["sda"]}, "leave disks out"),
        ({"receiver": "10.0.0.1"}, "leave receiver out"),
        ({"serials": {"sdb": "1"}}, "serials has sdb"),
        ({"import_from": [dict(DISK, path="a.img")]}, "whole path"),
        ({"import_from": [dict(DISK, disk="/dev/sda")]}, "such as sda"),
        ({"import_from": [DISK, dict(DISK, path="/b")]}, "the disk sda twice"),
        ({"import_from": [DISK, dict(DISK, disk="sdb")]}, "the path /srv/a.img twice"),
        ({"fixup": True}, "fixup is given and domain is not"),
        ({"domain": {}}, "domain lacks memory_mib, vcpus, firmware, networks"),
        ({"domain": dict(DOMAIN, networks=[{"interface": "eno1", "bridge": "br0"}])}, "interface and no mac"),
        ({"domain": DOMAIN, "boot_test": {"timeout_s": 9.0, "wait_for": "port", "port": 22}}, "address is not known"),
    ],
)  # fmt: skip
def test_what_has_no_place_is_refused(said: Dict[str, Any], words: str) -> None:
    assert len([each for each in problems(**said) if words in each]) == 1


def test_everything_is_told_at_once() -> None:
    assert len(problems(mode="hot", disks=["sda"], import_from=[dict(DISK, path="a")], domain={})) == 4


def test_a_machine_with_a_source_names_its_cards_as_before() -> None:
    with_both = dict(DOMAIN, networks=[{"interface": "eno1", "mac": "52:54:00:00:00:01"}])
    told = problems(import_from=None, source="old1", domain=with_both)
    assert told and "has interface and mac" in told[0]


def test_the_cards_and_the_firmware_are_those_of_the_domain() -> None:
    machine = machine_of(machine_told(DOMAIN))
    cards = cards_of(machine["interfaces"])
    assert machine["firmware"] == "uefi" and machine["rescue"]
    assert [(card.name, card.mac, card.addresses) for card in cards] == [("eno1", "52:54:00:00:00:01", ())]
    vm = read_wishes(params(domain=dict(DOMAIN, state="present")))[1]
    assert domain_concerns(vm, cards, ["br0"]) == []
    told = domain_params(DOMAIN, "old1", (), machine, {}, cards, ["br0"])
    assert told["networks"][0]["mac"] == "52:54:00:00:00:01" and told["firmware"] == "efi"
    assert machine_told(None) == {"interfaces": [], "boot": {"firmware": None}, "rescue": True}


GOOD = ImportSeen(
    ImportDisk("/srv/a.img", "raw", "sda"), kind="file", real="/srv/a.img", size=512, identities=frozenset([(1, 2)])
)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, []),
        ({"error": "Too many levels of symbolic links"}, ["p2v-import-path"]),
        ({"contains": "qcow2"}, ["p2v-import-other-format"]),
        ({"refers": ("its backing file /etc/shadow",)}, ["p2v-import-chain"]),
        ({"busy": ("sdb1 is mounted at /",), "domains": ("web1",)}, ["p2v-import-in-use", "p2v-import-in-use"]),
        ({"unreadable": "it is encrypted"}, ["p2v-import-unreadable"]),
        ({"size": 0}, ["p2v-import-unreadable"]),
        ({"identities": frozenset([(1, 2), (9, 9)])}, ["p2v-import-target"]),
        ({"refers": ("a parent",), "busy": ("locked",), "contains": "vdi"},
         ["p2v-import-other-format", "p2v-import-chain", "p2v-import-in-use"]),
    ],
)  # fmt: skip
def test_what_is_found_is_refused_by_name(said: Dict[str, Any], expected: List[str]) -> None:
    told = import_concerns([replace(GOOD, **said)], FORMATS, {(9, 9): "/p/old1-sda.qcow2"})
    assert [each.id for each in told] == expected
    assert all(each.level == "error" and "/srv/a.img" in each.detail for each in told)


def test_two_names_of_one_disk_and_a_format_that_is_not_there_are_refused() -> None:
    other = replace(GOOD, wanted=ImportDisk("/srv/b.img", "vhdx", "sdb"), unreadable="Unknown driver")
    told = import_concerns([GOOD, other], ["raw"], {})
    assert [(each.id, each.detail) for each in told] == [
        ("p2v-import-no-format", "/srv/b.img: vhdx"),
        ("p2v-import-twice", "/srv/b.img is /srv/a.img"),
    ]
