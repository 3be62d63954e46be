# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Image files that were made elsewhere, and a disk that is attached to the KVM host, become images there: no machine, no ssh."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterator, List

import pytest

from .fleet import IMAGES, MACHINE, Lab, Task
from .p2v import differing, nothing_left

HOST = "kvm1"
FOLDER = "/srv/p2v-import"
ATTACHED = "/srv/p2v-attached"
MIB = 96
USED_MIB = 12
FILES = ("raw", "qcow2", "vmdk")


@pytest.fixture(name="disks", scope="module")
def fixture_disks(lab: Lab) -> Iterator[List[Dict[str, str]]]:
    """Options of import_from: one disk in three formats, and a block device with a filesystem from which a file was deleted."""
    make = """
mkdir -p %(folder)s && cd %(folder)s
truncate -s %(mib)dM a.raw
dd if=/dev/urandom of=a.raw bs=1M count=%(used)d seek=7 conv=notrunc status=none
for format in qcow2 vmdk; do qemu-img convert -f raw -O $format a.raw a.$format; done
"""
    lab.sh(HOST, "sh", "-ec", make % {"folder": FOLDER, "mib": MIB, "used": USED_MIB})
    lab.lab("volume", HOST, ATTACHED, "--mib", str(MIB))
    minor = lab.sh(HOST, "findmnt", "--noheadings", "--output", "MAJ:MIN", ATTACHED).strip().partition(":")[2]
    node = "/dev/loop" + minor
    lab.sh(HOST, "sh", "-ec", "[ -e %s ] || mknod %s b 7 %s" % (node, node, minor))
    for name in ("here", "gone"):
        lab.sh(HOST, "dd", "if=/dev/urandom", "of=%s/%s" % (ATTACHED, name), "bs=1M", "count=20", "status=none")
    lab.sh(HOST, "sh", "-ec", "cd / && rm %s/gone && sha256sum < %s/here > %s/here.sum" % (ATTACHED, ATTACHED, FOLDER))
    lab.sh(HOST, "umount", ATTACHED)
    files = [
        {"path": "%s/a.%s" % (FOLDER, kind), "format": kind, "disk": "sd" + "abc"[n]} for n, kind in enumerate(FILES)
    ]
    yield [*files, {"path": node, "format": "raw", "disk": "sdd"}]
    lab.sh(HOST, "mount", node, ATTACHED)
    lab.sh(HOST, "sh", "-c", "rm -rf %s %s/imp* %s/.imp*; virsh -q pool-refresh default" % (FOLDER, IMAGES, IMAGES))


def task(disks: List[Dict[str, str]], may_fail: bool = False, check: bool = False, **options: Any) -> Task:
    args = {"name": "imp1", "mode": "cold", "import_from": disks, **options}
    return Task("kvm_p2v_image", args, check, may_fail)


def test_four_kinds_of_disks_become_images_and_the_second_run_changes_nothing(
    lab: Lab, disks: List[Dict[str, str]]
) -> None:
    sums = "cd %s && sha256sum a.* && stat -c %%Y.%%y a.*" % FOLDER
    before = lab.sh(HOST, "sh", "-c", sums)
    looked, first, second = lab.play(HOST, [task(disks, check=True), task(disks), task(disks)])
    assert looked["changed"] and first["changed"] and not second["changed"] and second["steps"] == []
    assert looked["steps"] == first["steps"] and [each["disk"] for each in first["images"]] == [
        "sda",
        "sdb",
        "sdc",
        "sdd",
    ]
    assert lab.sh(HOST, "sh", "-c", sums) == before
    raw = lab.sh(HOST, "sha256sum", FOLDER + "/a.raw").split()[0]
    read = "qemu-img convert -f qcow2 -O raw %s/imp1-%s.qcow2 /var/tmp/imp.raw && sha256sum < /var/tmp/imp.raw"
    for each in disks[:3]:
        assert lab.sh(HOST, "sh", "-ec", read % (IMAGES, each["disk"])).split()[0] == raw
    told = {each["name"]: each for each in first["disks"]}
    assert all(told[name]["used_bytes"] < (USED_MIB + 2) * 1024**2 for name in ("sda", "sdb", "sdc"))
    # The deleted file of the attached disk is no part of it.
    assert told["sdd"]["areas"][0]["how"] == "dumpe2fs" and told["sdd"]["used_bytes"] < 36 * 1024**2
    assert differing(lab, HOST, "imp1-sdd.qcow2", first) == 0
    lab.sh(HOST, "sh", "-ec", read % (IMAGES, "sdd"))
    lab.sh(HOST, "e2fsck", "-fn", "/var/tmp/imp.raw")
    found = lab.sh(
        HOST, "sh", "-c", "debugfs -R 'cat /here' /var/tmp/imp.raw 2>/dev/null | sha256sum; rm /var/tmp/imp.raw"
    )
    assert found == lab.sh(HOST, "cat", FOLDER + "/here.sum")
    nothing_left(lab, HOST, HOST)
    print("\n%s\n%s" % (first["summary"], first["metrics"]))


def test_what_must_not_be_touched_is_refused_at_once_and_nothing_is_changed(
    lab: Lab, disks: List[Dict[str, str]]
) -> None:
    make = """
cd %(folder)s
qemu-img create -q -f qcow2 -F raw -b /etc/shadow evil.qcow2 1M
ln -sfn loop loop
ln -sfn %(images)s/imp1-sda.qcow2 target.qcow2
qemu-img create -q -f qcow2 running.qcow2 8M
"""
    lab.sh(HOST, "sh", "-ec", make % {"folder": FOLDER, "images": IMAGES})
    lab.sh(HOST, "mount", disks[3]["path"], ATTACHED)
    guest = {
        "name": "imp-guest", "state": "running", "memory_mib": 64, "vcpus": 1, "machine": MACHINE, "domain_type": "qemu",
        "disks": [{"path": FOLDER + "/running.qcow2", "format": "qcow2", "bus": "virtio"}],
    }  # fmt: skip
    paths = [
        ("evil.qcow2", "qcow2"), ("loop", "raw"), ("none", "raw"), ("target.qcow2", "qcow2"), ("running.qcow2", "qcow2"),
        ("a.qcow2", "raw"),
    ]  # fmt: skip
    bad = [
        {"path": "%s/%s" % (FOLDER, name), "format": kind, "disk": "sd" + "abcdef"[number]}
        for number, (name, kind) in enumerate(paths)
    ]
    listed = "ls -la --time-style=full-iso %s | grep -v ' \\.\\.*$'" % IMAGES
    try:
        lab.one(HOST, "kvm_domain", **guest)
        before = lab.sh(HOST, "sh", "-c", listed)
        (told,) = lab.play(HOST, [task([*bad, dict(disks[3], disk="sdg")], may_fail=True)])
        assert lab.sh(HOST, "sh", "-c", listed) == before
    finally:
        lab.sh(HOST, "umount", ATTACHED)
        lab.one(HOST, "kvm_domain", name="imp-guest", state="absent", force=True, wait_timeout=1)
    assert told["failed"] and "was refused before anything was changed" in told["msg"]
    found = {(each["id"], each["detail"].split(":")[0].split(" ")[0].rpartition("/")[2]) for each in told["concerns"]}
    assert found >= {
        ("p2v-import-chain", "evil.qcow2"),
        ("p2v-import-path", "loop"),
        ("p2v-import-path", "none"),
        ("p2v-import-target", "target.qcow2"),
        ("p2v-import-in-use", "running.qcow2"),
        ("p2v-import-other-format", "a.qcow2"),
        ("p2v-import-in-use", disks[3]["path"].rpartition("/")[2]),
    }
    assert "its backing file /etc/shadow" in told["msg"] and "is a disk of imp-guest, which runs" in told["msg"]
    assert "is mounted at %s" % ATTACHED in told["msg"]


def test_a_request_that_cannot_be_is_refused_by_the_module_itself(lab: Lab, disks: List[Dict[str, str]]) -> None:
    both, lacks, none = lab.play(
        HOST,
        [
            task(disks[:1], may_fail=True, source="kvm2", mode="hot"),
            task(disks[:1], may_fail=True, fixup=True, domain={"memory_mib": 512}),
            Task("kvm_p2v_image", {"name": "imp1", "mode": "cold"}, False, True),
        ],
    )
    assert "source and import_from are given" in both["msg"] and "mode is hot" in both["msg"]
    assert "domain lacks vcpus, firmware, networks" in lacks["msg"]
    assert "source is ''" in none["msg"] and "or import_from" in none["msg"]


def test_the_playbook_makes_a_guest_whose_disk_is_the_image(lab: Lab, disks: List[Dict[str, str]]) -> None:
    """Started at once: from then on the image is the guest's own, and a second run changes nothing."""
    domain = {
        "name": "imp2", "memory_mib": 64, "vcpus": 1, "firmware": "bios", "networks": [], "machine": MACHINE,
        "domain_type": "qemu",
    }  # fmt: skip
    said = {
        "p2v_to": HOST, "p2v_name": "imp2", "p2v_mode": "cold", "p2v_import_from": json.dumps(disks[:1]),
        "p2v_domain": json.dumps(domain), "p2v_start": "true",
    }  # fmt: skip
    words = ["-e", json.dumps(said)]
    try:
        first = lab.playbook("kvmops.fleet.p2v", *words)
        assert lab.state(HOST, "imp2") == "running"
        assert "%s/imp2-sda.qcow2" % IMAGES in lab.virsh(HOST, "domblklist", "imp2")
        second = lab.playbook("kvmops.fleet.p2v", *words)
    finally:
        lab.one(HOST, "kvm_domain", name="imp2", state="absent", force=True, wait_timeout=1)
    changed = [told["stats"][HOST]["changed"] for told in (first, second)]
    assert changed == [1, 0]
