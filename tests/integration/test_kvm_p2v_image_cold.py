# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cold P2V by the module and ssh: disks of a lab host that nobody has mounted, as a rescue system shows them."""

from __future__ import annotations

from typing import Any, Iterator, List

import pytest

from .fleet import IMAGES, Lab, Task
from .p2v import differing, nothing_left

HOST, SOURCE = "kvm1", "kvm2"
FOLDER = "/srv/p2v-cold"
MIB = 192
USED_MIB = 24


@pytest.fixture(name="disks", scope="module")
def fixture_disks(lab: Lab) -> Iterator[List[str]]:
    """Kernel names of two, with files, and not mounted. Their device files are where the agent looks for them."""
    found = []
    for number in (1, 2):
        folder = "%s-%d" % (FOLDER, number)
        lab.lab("volume", SOURCE, folder, "--mib", str(MIB))
        minor = lab.sh(SOURCE, "findmnt", "--noheadings", "--output", "MAJ:MIN", folder).strip().partition(":")[2]
        found.append("loop" + minor)
        lab.sh(SOURCE, "sh", "-ec", "[ -e /dev/loop%s ] || mknod /dev/loop%s b 7 %s" % (minor, minor, minor))
        lab.sh(SOURCE, "dd", "if=/dev/urandom", "of=%s/here" % folder, "bs=1M", "count=%d" % USED_MIB, "status=none")
        lab.sh(SOURCE, "sh", "-ec", "sha256sum < %s/here > %s-%d.sum; umount %s" % (folder, FOLDER, number, folder))
    yield found
    for number, name in enumerate(found, 1):
        lab.sh(SOURCE, "mount", "/dev/" + name, "%s-%d" % (FOLDER, number))
    lab.sh(HOST, "sh", "-c", "rm -f %s/cold1-* %s/.cold1-*; virsh -q pool-refresh default" % (IMAGES, IMAGES))


def task(disks: List[str], may_fail: bool = False, **options: Any) -> Task:
    return Task(
        "kvm_p2v_image", {"name": "cold1", "source": SOURCE, "mode": "cold", "disks": disks, **options}, False, may_fail
    )


def test_two_disks_at_rest_become_two_images_and_the_second_run_changes_nothing(lab: Lab, disks: List[str]) -> None:
    first, second = lab.play(HOST, [task(disks), task(disks)])
    assert first["changed"] and not second["changed"] and second["steps"] == []
    assert len(first["images"]) == 2 and len(first["passes"]) == 1 and first["pause_s"] is None
    assert all(disk["areas"][0]["how"] == "dumpe2fs" for disk in first["disks"])
    assert first["metrics"]["bytes"] < 2 * MIB * 1024**2 / 2
    for number, name in enumerate(disks, 1):
        image = "cold1-%s.qcow2" % name
        assert differing(lab, HOST, image, first) == 0
        raw = "/var/tmp/%s.raw" % image
        lab.sh(HOST, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", "%s/%s" % (IMAGES, image), raw)
        lab.sh(HOST, "e2fsck", "-fn", raw)
        told = lab.sh(HOST, "sh", "-c", "debugfs -R 'cat /here' %s 2>/dev/null | sha256sum; rm %s" % (raw, raw))
        assert told == lab.sh(SOURCE, "cat", "%s-%d.sum" % (FOLDER, number))
    nothing_left(lab, SOURCE, HOST)
    print("\n%s\n%s" % (first["summary"], first["metrics"]))


def test_a_disk_that_is_mounted_is_refused_by_its_name(lab: Lab, disks: List[str]) -> None:
    lab.sh(SOURCE, "mount", "/dev/" + disks[0], FOLDER + "-1")
    try:
        (told,) = lab.play(HOST, [task(disks, may_fail=True)])
    finally:
        lab.sh(SOURCE, "umount", FOLDER + "-1")
    assert told["failed"] and [each["id"] for each in told["concerns"]] == ["p2v-cold-in-use"]
    assert "%s is mounted read-write at %s" % (disks[0], FOLDER + "-1") in told["msg"]
    nothing_left(lab, SOURCE, HOST)
