# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of real guests on libvirt 9.0 (kvm1) and 11.3 (kvm3); what the disks hold is read with qemu-io."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from .fleet import IMAGES, Lab, Task, answers, guest, until

DISK = "web1.qcow2"


def off(**more: Any) -> Dict[str, Any]:
    disks = [{"pool": "default", "name": DISK, "size_mib": 16, "format": "qcow2"}]
    return dict(guest("web1", 71), state="shutdown", disks=disks, **more)


def write(lab: Lab, host: str, pattern: int, image: str = DISK, form: str = "qcow2") -> None:
    lab.sh(host, "qemu-io", "-f", form, "-c", "write -P %d 1M 64k" % pattern, "%s/%s" % (IMAGES, image))


def holds(lab: Lab, host: str, pattern: int, image: str = DISK, form: str = "qcow2") -> bool:
    argv = ("qemu-io", "-f", form, "-c", "read -P %d 1M 64k" % pattern, "%s/%s" % (IMAGES, image))
    return "Pattern verification failed" not in lab.sh(host, *argv)


@pytest.mark.parametrize("host", ["kvm1", "kvm3"])
def test_a_guest_that_is_off_goes_back_and_forth(clean: Lab, host: str) -> None:
    clean.one(host, "kvm_domain", **off())
    write(clean, host, 1)
    check, real, again, again_check = clean.quartet(host, "kvm_snapshot", name="web1", snapshot="s1", description="one")
    assert (check["changed"], real["changed"], again["changed"], again_check["changed"]) == (True, True, False, False)
    assert check["steps"] == real["steps"] == ["take snapshot s1: vda, inside the images"]
    assert check["diff"] == real["diff"] and check["snapshot"] is None
    assert real["snapshot"]["kind"] == "internal" and real["snapshot"]["description"] == "one"
    write(clean, host, 2)
    second = clean.one(host, "kvm_snapshot", name="web1", snapshot="s2")
    assert [each["parent"] for each in second["snapshots"]] == [None, "s1"]
    write(clean, host, 3)
    for name, pattern in (("s1", 1), ("s2", 2), ("s1", 1)):
        told = clean.one(host, "kvm_snapshot", name="web1", snapshot=name, state="reverted")
        assert told["changed"] and told["snapshot"]["current"] and told["domain_state"] == "shutoff"
        assert holds(clean, host, pattern), name
    gone = clean.quartet(host, "kvm_snapshot", name="web1", snapshot="s1", state="absent")
    assert [each["changed"] for each in gone] == [True, True, False, False]
    assert [each["name"] for each in gone[1]["snapshots"]] == ["s2"] and holds(clean, host, 1)
    unknown = clean.one(host, "kvm_snapshot", may_fail=True, name="web1", snapshot="s1", state="reverted")
    assert unknown["failed"] and "it has: s2" in unknown["msg"]


def test_a_running_guest_goes_back_with_its_memory(clean: Lab) -> None:
    clean.one("kvm3", "kvm_domain", **dict(off(), state="running", machine="pc-q35-10.0"))
    until(lambda: answers(clean, 71), 60, "web1 answers")
    taken = clean.one("kvm3", "kvm_snapshot", name="web1", snapshot="warm")
    assert taken["snapshot"]["memory"] and taken["domain_state"] == "running"
    clean.virsh("kvm3", "destroy", "web1")
    back = clean.one("kvm3", "kvm_snapshot", name="web1", snapshot="warm", state="reverted")
    assert back["domain_state"] == "running"
    # It boots in three seconds; what answers at once has not booted.
    until(lambda: answers(clean, 71), 60, "web1 answers again")
    refused = clean.one("kvm3", "kvm_snapshot", may_fail=True, name="web1", snapshot="calm", quiesce=True)
    assert refused["failed"] and "snapshot-no-agent" in refused["msg"]


@pytest.mark.parametrize("host", ["kvm1", "kvm3"])
def test_a_running_guest_with_a_raw_disk_writes_to_new_files(clean: Lab, host: str) -> None:
    disks = [{"pool": "default", "name": "web1.raw", "size_mib": 16, "format": "raw"}]
    about = dict(off(), disks=disks)
    clean.one(host, "kvm_domain", **about)
    write(clean, host, 1, "web1.raw", "raw")
    clean.virsh(host, "start", "web1")
    taken = clean.one(host, "kvm_snapshot", name="web1", snapshot="s1")
    assert taken["snapshot"]["kind"] == "external" and taken["snapshot"]["state"] == "disk-snapshot"
    overlay = "%s/web1.s1" % IMAGES
    assert overlay in clean.virsh(host, "domblklist", "web1")
    assert clean.sh(host, "stat", "-c", "%a", overlay).strip() == "600"
    back = clean.one(host, "kvm_snapshot", may_fail=True, name="web1", snapshot="s1", state="reverted")
    if host == "kvm1":
        assert back["failed"] and "snapshot-external-revert" in back["msg"] and "libvirt 9.0" in back["msg"]
        merged = clean.one(host, "kvm_snapshot", name="web1", snapshot="s1", state="absent")
        assert merged["snapshots"] == [] and merged["domain_state"] == "running"
        assert "web1.raw" in clean.virsh(host, "domblklist", "web1")
        assert clean.sh(host, "sh", "-c", "[ -e %s ] && echo there; true" % overlay).strip() == ""
    else:
        assert back["changed"] and back["domain_state"] == "shutoff"
        assert holds(clean, host, 1, "web1.raw", "raw")


def test_the_oldest_go(clean: Lab) -> None:
    clean.one("kvm1", "kvm_domain", **off())
    names = ["mine", *("daily-%d" % day for day in range(1, 5))]
    kept = [{"keep": 2, "keep_names": "daily-*"} if name != "mine" else {} for name in names]
    tasks = [
        Task("kvm_snapshot", dict({"name": "web1", "snapshot": name}, **more))
        for name, more in zip(names, kept, strict=True)
    ]
    last = clean.play("kvm1", tasks)[-1]
    assert [each["name"] for each in last["snapshots"]] == ["mine", "daily-3", "daily-4"]
    assert "delete snapshot daily-2" in last["steps"][1]
