# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks at rest, as a rescue system has them: what of them is used, and whether they stay so. On real devices."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, Callable, Dict

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.p2v_agent import rest

from . import disks
from .test_copy import LENGTH, compared, copied, made

MIB = disks.MIB
VOLUMES = """\
  /dev/sda2|1048576|4194304|0|10|linear|vg|root|-wi-a-----|0|83886080
  /dev/sda2|1048576|4194304|10|5|linear|vg|root|-wi-a-----|10|83886080
  /dev/sda2|1048576|4194304|15|5|linear|vg|root|-wi-a-----|15|83886080
  /dev/sda2|1048576|4194304|20|5|linear|my-vg|da-ta|-wi-------|0|20971520
  /dev/sda2|1048576|4194304|25|5|linear|vg|split|-wi-------|0|41943040
  /dev/sda2|1048576|4194304|32|5|linear|vg|split|-wi-------|5|41943040
  /dev/sda2|1048576|4194304|40|5|linear|vg|half|-wi-------|0|41943040
  /dev/sda2|1048576|4194304|45|5|linear|vg|origin|owi-------|0|20971520
  /dev/sda2|1048576|4194304|50|5|linear|vg|[pool_tdata]|Twi-------|0|20971520
  /dev/sda2|1048576|4194304|55|9|free|vg|||0|
"""


def test_volumes_in_one_stretch_are_found_and_no_others() -> None:
    assert rest.parsed_volumes(VOLUMES) == [
        ("my-vg/da-ta", "my--vg-da--ta", MIB + 20 * 4 * MIB, 20 * MIB),
        ("vg/root", "vg-root", MIB, 80 * MIB),
    ]
    assert rest.parsed_volumes("nonsense\n") == []


@pytest.mark.parametrize("kind", [kind for kind in ("ext4", "xfs", "btrfs") if disks.known(kind)])
def test_the_copy_of_a_filesystem_that_nobody_mounts_has_its_files(
    disk: disks.Disk, agent: Callable[..., Any], tmp_path: Path, kind: str
) -> None:
    node = made(disk, kind)
    disks.fill(disk.mount(node, tmp_path / "here"))
    disk.umount()
    running = agent(disk)
    running.control.ask("rest", disks=[disk.name])
    told = running.control.ask("map", disk=disk.name)
    (area,) = [area for area in told["areas"] if area["what"].startswith(kind)]
    assert area["how"] == {"ext4": "dumpe2fs", "xfs": "xfs_db", "btrfs": "btrfs"}[kind]
    assert area["used_bytes"] < LENGTH * MIB / 2
    copied(running, disk, tmp_path / "copy.img", told["used"], [0])
    assert running.control.ask("rested")["written"] == {disk.name: 0}
    running.end()
    disk.mount(node, tmp_path / "here")
    compared(disk, tmp_path / "copy.img", tmp_path, kind)


def lvm(*argv: str) -> None:
    """Without device-mapper, which the kernel of this machine may lack."""
    disks.run("lvm", argv[0], "--driverloaded", "n", "--quiet", *argv[1:])


@pytest.mark.skipif(not disks.tool("lvm"), reason="lvm is not on this machine")
def test_a_volume_that_is_not_active_is_looked_into(
    disk: disks.Disk, agent: Callable[..., Any], tmp_path: Path
) -> None:
    group = "kvmops%d" % os.getpid()
    lvm("pvcreate", disk.node)
    lvm("vgcreate", group, disk.node)
    lvm("lvcreate", "-an", "-Zn", "-Wn", "-n", "swap", "-L", "40M", group)
    lvm("lvcreate", "-an", "-Zn", "-Wn", "-n", "root", "-L", "200M", group)
    place = "offset=%d,sizelimit=%d" % (41 * MIB, 200 * MIB)
    swap = disks.run("losetup", "-f", "--show", "-o", str(MIB), "--sizelimit", str(40 * MIB), disk.node).strip()
    disks.run("mkswap", swap)
    disks.run("losetup", "-d", swap)
    disks.run("mkfs.ext4", "-q", "-E", "offset=%d" % (41 * MIB), disk.node, "200M")
    disks.fill(disk.mount(disk.node, tmp_path / "here", "loop," + place), 12)
    here = disks.contents(tmp_path / "here")
    disk.umount()
    loops = disks.run("losetup", "-n", "-O", "NAME")
    running = agent(disk)
    running.control.ask("rest", disks=[disk.name])
    told = running.control.ask("map", disk=disk.name)
    areas: Dict[str, Any] = {area["what"]: area for area in told["areas"]}
    assert areas["swap %s/swap" % group]["used_bytes"] == 65536
    root = areas["ext4 %s/root" % group]
    assert root["how"] == "dumpe2fs" and (root["offset"], root["length"]) == (41 * MIB, 200 * MIB)
    assert 4 * MIB < root["used_bytes"] < 60 * MIB
    # The rest of the group is nobody's.
    assert sum(length for dummy, length in told["used"]) < root["used_bytes"] + 8 * MIB
    assert disks.run("losetup", "-n", "-O", "NAME") == loops, "a window is left behind"
    image = tmp_path / "copy.img"
    copied(running, disk, image, told["used"], [0, 1, 2])
    assert running.control.ask("rested")["written"] == {disk.name: 0}
    running.end()
    other = disks.Disk(image, disk.size // MIB)
    try:
        assert disks.contents(other.mount(other.node, tmp_path / "there", "ro,loop," + place)) == here
    finally:
        other.close()


def test_what_is_written_to_a_disk_at_rest_is_noticed(disk: disks.Disk, agent: Callable[..., Any]) -> None:
    running = agent(disk)
    with pytest.raises(Exception, match="nobody asked for that before"):
        running.control.ask("rested")
    running.control.ask("rest", disks=[disk.name])
    disks.run("dd", "if=/dev/zero", "of=" + disk.node, "bs=4096", "count=3", "oflag=direct", "status=none")
    assert running.control.ask("rested")["written"] == {disk.name: 3 * 4096}


def test_a_disk_that_rests_becomes_an_image_and_one_that_is_written_to_does_not(receiver: Any, tmp_path: Path) -> None:
    receiver.disk.umount()
    told = receiver.go(cold=True)
    assert told["power"] == "on" and told["pause_s"] is None and len(told["passes"]) == 1
    assert told["disks"][0]["areas"][0]["how"] == "dumpe2fs"
    assert "rescue system" in told["summary"][-1]
    receiver.disk.mount(receiver.disk.node, tmp_path / "here")
    here = disks.contents(tmp_path / "here")
    receiver.looked_into(lambda there: check(disks.contents(there) == here))
    receiver.disk.umount()
    # Mounted and unmounted: what differs is brought up to date, then there is nothing more to do.
    assert "bring" in receiver.go(cold=True)["steps"][0]
    assert receiver.go(cold=True)["steps"] == ()
    published = receiver.image.stat().st_mtime_ns
    disks.run("e2label", receiver.disk.node, "new")

    def write(progress: Any) -> None:
        if progress.phase == "copy" and not wrote.is_set():
            wrote.set()
            disks.run("e2label", receiver.disk.node, "newer")

    wrote = threading.Event()
    receiver.tell = write
    with pytest.raises(Exception, match="were written to %s while it was copied" % receiver.disk.name):
        receiver.go(cold=True)
    assert not receiver.image.exists() or receiver.image.stat().st_mtime_ns == published
    receiver.tell = lambda progress: None
    assert "go on with" in receiver.go(cold=True)["steps"][0]
    receiver.looked_into(lambda there: None)


def test_a_disk_that_is_mounted_is_refused_by_its_name(receiver: Any) -> None:
    with pytest.raises(Exception, match="%s is mounted read-write at" % receiver.disk.name):
        receiver.go(cold=True)
    assert list(receiver.pool.iterdir()) == []


def check(true: bool) -> None:
    assert true
