# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks that are attached to the host itself: what of them is used, who has them, and that nobody gets them meanwhile."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import p2v_import_look
from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_attached import Attached, held, lineage
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_import import ImportDisk

from . import disks

MIB = disks.MIB


def mountable(node: str, point: Path) -> bool:
    if subprocess.run(["mount", node, str(point)], check=False, stderr=subprocess.DEVNULL).returncode:
        return False
    disks.run("umount", str(point))
    return True


def test_a_disk_in_use_says_by_whom_and_one_that_is_not_is_claimed(disk: disks.Disk, tmp_path: Path) -> None:
    part = disk.partition(1, 4, 200)
    disks.run("mkfs.ext4", "-q", part)
    point = disk.mount(part, tmp_path / "here")
    (point / "file").write_bytes(b"x" * 9 * MIB)
    assert held(disk.node) == ["%sp1 is mounted at %s" % (disk.name, point)]
    disk.umount()
    assert held(disk.node) == []
    attached = Attached({disk.name: "sda"})
    attached.rest()
    told = attached.map(disk.name)
    (area,) = [area for area in told["areas"] if area["what"].startswith("ext4")]
    assert area["how"] == "dumpe2fs" and area["used_bytes"] < 60 * MIB
    devices = {each["name"]: each for each in attached.devices()}
    assert devices[disk.name + "p1"]["pieces"][0]["disk"] == "sda"
    attached.claim(disk.name)
    try:
        assert not mountable(part, point)
        assert attached.written() == {"sda": 0}
        disks.run("dd", "if=/dev/zero", "of=" + disk.node, "bs=4096", "count=2", "oflag=direct")
        assert attached.written() == {"sda": 8192}
        with pytest.raises(HostError, match="alone"):
            Attached({disk.name: "sda"}).claim(disk.name)
    finally:
        attached.release()


@pytest.mark.skipif(not disks.known("btrfs"), reason="the kernel has no btrfs")
def test_what_only_a_mount_would_tell_is_copied_whole(disk: disks.Disk) -> None:
    disks.run("mkfs.btrfs", "-q", "-f", disk.node)
    (area,) = Attached({disk.name: "sda"}).map(disk.name)["areas"]
    assert (area["how"], area["used_bytes"]) == ("all", disk.size)


def test_a_domain_that_has_a_partition_has_the_disk_and_a_loop_device_is_its_file(disk: disks.Disk) -> None:
    part = disk.partition(1, 4, 50)
    assert {disk.name, disk.name + "p1"} == lineage(disk.name + "p1")
    seen = p2v_import_look.seen(ImportDisk(disk.node, "raw", "sda"), {part: ["web1"]})
    assert seen.domains == ("web1",) and (seen.kind, seen.kernel, seen.size) == ("block", disk.name, disk.size)
    assert p2v_import_look.identity_of(str(disk.path)) in seen.identities
    file = p2v_import_look.seen(ImportDisk(str(disk.path), "raw", "sda"), {})
    assert file.identities < seen.identities and file.busy == ("another program has it open for writing",)
