# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A rescue system's own medium, disks that are in use, and what of its words is not the installed system's."""

from __future__ import annotations

from typing import Any, Dict, List

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import RequestError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.fixup import Card, ImageFacts
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import (
    P2vFound,
    P2vWish,
    Source,
    SourceDisk,
    Target,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_vm import machine_of
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.fixup_network import network_changes
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v import plan_p2v
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_cold import cold_concerns, cold_disks, installed
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_preflight import source_concerns
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_vm_request import read_wishes

ESP, BIOS_BOOT = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "21686148-6449-6e6f-744e-656564454649"
LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"
COLD = P2vWish("old1", "default", cold=True)


def part(name: str, disk: str, entry: str = LINUX) -> Dict[str, Any]:
    return {"name": name, "pieces": [{"disk": disk}], "signature": {"part_entry_type": entry}}


def mount(point: str, device: str, fstype: str = "ext4", options: str = "rw") -> Dict[str, Any]:
    return {"point": point, "device": device, "fstype": fstype, "options": options}


def rescue(**more: Any) -> Source:
    """Debian live from the SSD-like stick sdb; the machine has sda with LVM."""
    facts: Dict[str, Any] = {
        "devices": [
            part("sda1", "sda", ESP),
            part("sda2", "sda"),
            part("sdb1", "sdb", "0x83"),
            {"name": "dm-0", "pieces": None, "below": ["sda2"]},
        ],
        "mounts": [
            mount("/run/live/medium", "sdb1", "vfat", "ro"),
            mount("/run/live/rootfs/filesystem.squashfs", "loop0", "squashfs", "ro"),
        ],
        "loops": [{"name": "loop0", "file": "/run/live/medium/live/filesystem.squashfs"}],
        "swaps": [],
        "boot": {"firmware": "bios"},
        "processes": ["postgres"],
        "interfaces": [
            {"name": "eth0", "mac": "02:00:00:00:00:01", "kind": "card", "state": "up", "addresses": ["10.0.0.9/24"]}
        ],
        **more,
    }
    return Source("rescue", "1", (SourceDisk("sda", 1 << 30), SourceDisk("sdb", 1 << 30)), facts)


def ids(source: Source, wish: P2vWish = COLD) -> List[str]:
    return [each.id for each in (*source_concerns(wish, source), *cold_concerns(wish, source))]


def test_the_medium_of_the_rescue_system_is_left_out_and_said_so() -> None:
    assert [disk.name for disk in cold_disks(COLD, rescue())] == ["sda"]
    assert ids(rescue()) == ["p2v-cold-medium"]
    # Known by the file that its root is in, wherever that is mounted; a stick from which an ISO was written, by its content.
    odd = rescue(
        mounts=[mount("/odd", "sdb1", "vfat"), mount("/ro", "loop0", "squashfs", "ro")],
        loops=[{"name": "loop0", "file": "/odd/a/b"}],
    )
    assert [disk.name for disk in cold_disks(COLD, odd)] == ["sda"]
    iso = rescue(mounts=[mount("/somewhere", "sdb1", "iso9660", "ro")], loops=[])
    assert [disk.name for disk in cold_disks(COLD, iso)] == ["sda"]


def test_a_machine_that_serves_is_refused_although_it_has_loop_devices() -> None:
    serves = rescue(
        mounts=[mount("/", "dm-0"), mount("/snap/core", "loop0", "squashfs", "ro")],
        loops=[{"name": "loop0", "file": "/var/lib/snapd/core.snap"}],
    )
    (found,) = [each for each in cold_concerns(COLD, serves) if each.level == "error"]
    assert (
        found.id == "p2v-cold-in-use"
        and found.detail == "sda is mounted read-write at /"
        and "mode hot" in found.remedy
    )
    assert ids(serves, P2vWish("old1", "default", disks=("sdb",), cold=True)) == []


def test_what_writes_is_refused_and_what_only_reads_is_not() -> None:
    assert ids(rescue(swaps=[{"device": "sda2", "file": None}])) == ["p2v-cold-medium", "p2v-cold-in-use"]
    assert ids(rescue(mounts=[mount("/mnt", "sda2", options="ro,relatime")], loops=[])) == []
    array = {"name": "md0", "pieces": None, "below": ["sda2"], "raid_sync": "resync"}
    assert "p2v-cold-array" in ids(rescue(devices=[part("sda2", "sda"), array]))
    assert "p2v-cold-array" not in ids(rescue(devices=[part("sda2", "sda"), dict(array, raid_sync="idle")]))


def test_a_source_with_nothing_but_its_own_medium_has_no_disk() -> None:
    wish = P2vWish("old1", "default", disks=("sdb",), cold=True)
    assert ids(rescue(), wish) == ["p2v-cold-medium", "p2v-no-disk"]


@pytest.mark.parametrize(
    ("entries", "firmware"),
    [
        ((ESP, LINUX), "uefi"),
        (("0x83", "0x82"), "bios"),
        ((BIOS_BOOT, LINUX), "bios"),
        ((ESP, BIOS_BOOT), "as booted"),
        ((), "as booted"),
    ],
)
def test_the_firmware_is_read_off_the_partitions(entries: Any, firmware: str) -> None:
    devices = [part("sda%d" % number, "sda", entry) for number, entry in enumerate(entries)]
    found = machine_of(installed(rescue(devices=devices, boot={"firmware": "as booted"}).facts, {"sda"}))
    assert found["firmware"] == firmware


def test_what_the_rescue_system_is_is_not_taken_for_the_machine() -> None:
    found = machine_of(installed(rescue(mounts=[mount("/", "sda2")]).facts, {"sda"}))
    assert found["rescue"] and found["root"] == {"mapping": None, "uuid": None}
    assert found["interfaces"][0]["mac"] == "02:00:00:00:00:01" and found["interfaces"][0]["addresses"] == []


def test_a_card_keeps_its_name_only_if_the_system_knows_it() -> None:
    paths = frozenset(["/lib/systemd/systemd"])
    files = {"/etc/network/interfaces": "auto enp1s0\niface enp1s0 inet dhcp\n"}
    facts = ImageFacts(systemd=252, paths=paths, files=files, cards=(Card("eth0", "02:00:00:00:00:01"),), rescue=True)
    changes, concerns = network_changes(facts)
    assert not changes and [each.id for each in concerns] == ["p2v-fixup-card-unnamed"]
    known = ImageFacts(systemd=252, paths=paths, files=files, cards=(Card("enp1s0", "02:00:00:00:00:01"),), rescue=True)
    changes, concerns = network_changes(known)
    assert len(changes) == 1 and not concerns


def test_one_pass_and_no_freeze_is_planned() -> None:
    disk = SourceDisk("sda", 1 << 30)
    found = P2vFound(rescue(), (disk,), {}, {"sda": Target("/p/old1-sda.qcow2")}, {"sda": ((0, 1 << 20),)})
    assert [step.action for step in plan_p2v(COLD, found, ()).steps] == ["copy", "publish"]
    off = P2vWish("old1", "default", cold=True, cutover="poweroff")
    assert [step.action for step in plan_p2v(off, found, ()).steps] == ["copy", "publish", "poweroff"]


def test_what_has_no_place_in_cold_mode_is_refused_all_at_once() -> None:
    params = {
        "name": "old1", "pool": "default", "format": "qcow2", "mode": "cold", "cutover": "stop", "max_downtime_s": 10.0,
        "max_passes": 20, "services": ["web.service"], "takeover": {"command": ["/bin/true"], "timeout_s": 1.0},
        "connections": 2, "connect_timeout_s": 60.0, "source": "old1",
    }  # fmt: skip
    with pytest.raises(RequestError) as refused:
        read_wishes(params)
    said = "; ".join(refused.value.problems)
    assert "cutover is stop and mode is cold" in said and "services are given and mode is cold" in said
    wish, dummy = read_wishes(dict(params, cutover="poweroff", services=None, takeover=None))
    assert wish.cold
    started = dict(
        params, cutover="none", services=None, takeover=None, domain={"state": "running", "memory_mib": 512, "vcpus": 1}
    )
    with pytest.raises(RequestError, match="the rescue system keeps the cards"):
        read_wishes(started)
