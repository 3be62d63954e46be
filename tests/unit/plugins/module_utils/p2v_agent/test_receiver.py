# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent and the receiver together: a filesystem at work becomes an image, by real writes, a real freeze, real qemu-nbd."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import image_server

from . import chain, disks

AT_REST = 32 * disks.MIB


def test_a_filesystem_at_work_becomes_an_image_and_then_another(receiver: chain.Receiver, writer: chain.Writer) -> None:
    here = receiver.disk.mounted[0]
    (here / "file-at-rest").write_bytes(os.urandom(AT_REST))
    fixed = {path.name: path.read_bytes() for path in here.glob("file*")}
    acknowledged = writer.last

    def look(there: Path) -> None:
        assert {path.name: path.read_bytes() for path in there.glob("file*")} == fixed
        assert chain.records(there) >= acknowledged

    told = receiver.go(max_downtime_s=5.0)
    receiver.looked_into(look)
    assert told["passes"][-1]["what"] == "last" and 0 < told["pause_s"] < 15
    assert AT_REST < told["passes"][0]["bytes"] < receiver.disk.size / 2
    acknowledged = writer.last
    again = receiver.go(max_downtime_s=5.0)
    receiver.looked_into(look)
    # However much the writer wrote meanwhile, what was at rest is not read again.
    assert again["passes"][0]["bytes"] < told["passes"][0]["bytes"] - AT_REST / 2
    writer.goes_on()


def test_a_disk_that_nobody_wrote_to_is_no_change(receiver: chain.Receiver) -> None:
    # A mounted ext4 marks its superblock at every freeze: there is always something new.
    receiver.disk.umount()
    receiver.go()
    before = receiver.image.stat()
    told = receiver.go()
    assert told["steps"] == ()
    assert receiver.image.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
def test_what_is_read_beside_the_writer_comes_from_the_medium(
    disk: disks.Disk, tmp_path: Path, image_format: str
) -> None:
    """The medium loses a byte behind the kernel's back: whoever asks the kernel is told what was written."""
    disks.run("mkfs.ext4", "-q", disk.node)
    path = str(disk.mount(disk.node, tmp_path / "pool") / "image")
    image_server.create(path, image_format, 8 * disks.MIB)
    written = os.urandom(disks.MIB)
    with image_server.opened(path, image_format, str(tmp_path / "writer"), 1, True) as (writer,):
        writer.write(3 * disks.MIB, written)
        writer.flush()
        place = disk.path.read_bytes().index(written[:65536])
        with open(disk.path, "r+b") as medium:
            medium.seek(place + 5)
            medium.write(bytes([written[5] ^ 1]))
        with image_server.beside(path, image_format, str(tmp_path / "reader")) as reader:
            found = reader.read(3 * disks.MIB, disks.MIB)
        assert writer.read(3 * disks.MIB, disks.MIB) == written
    assert [at for at in range(disks.MIB) if found[at] != written[at]] == [5]
