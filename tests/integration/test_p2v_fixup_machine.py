# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copied disks of servers of several kinds are fixed up by libguestfs and boot as a guest."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from .copied_server import (
    ADDRESS,
    CARD,
    INTERFACES,
    MAC,
    OTHERS,
    Image,
    Server,
    agent_packages,
    boot,
    copied,
    fix_up,
    proof,
)

pytestmark = pytest.mark.machine

FSTAB = "/etc/fstab"
SERVERS = {
    "LVM, BIOS, ifupdown": Server(
        Image(network="ifupdown"),
        expect=(
            r"/etc/fstab: /boot is mounted by UUID=\S+, no longer by /dev/sda2",
            r"updates of grub-pc go to /dev/vda",
            r"%s is %s as before, with %s" % (MAC, CARD, ADDRESS),
            r"smartd.service is off \(health of disks\)",
        ),
        files={"etc/network/interfaces": INTERFACES},
    ),
    "LVM, UEFI, networkd": Server(
        Image(firmware="uefi"),
        expect=(
            r"/boot/efi/EFI/BOOT/BOOTX64.EFI: /boot/efi/EFI/debian/\S+, for an NVRAM without entries",
            r"/boot/efi is mounted by UUID=\S+, no longer by /dev/disk/by-id/ata-QEMU_OLD1-part1",
            r"%s is %s as before" % (MAC, CARD),
        ),
        shown=(r"/boot/efi +/dev/vda1",),
    ),
    "plain partition, xfs, an initramfs for that server only": Server(
        layout="xfs",
        expect=(
            r"/etc/fstab: / is mounted by UUID=\S+, no longer by /dev/sda1",
            r"swap space is found by UUID=\S+, no longer by /dev/sda2",
            r"/boot/grub/grub.cfg: root=UUID=\S+, no longer root=/dev/sda1; resume=UUID=\S+, no longer resume=/dev/sda2; kernels have a",
            r"/boot/grub/device.map: removed",
            r"/etc/initramfs-tools/modules: virtio_pci, virtio_blk",
            r"/boot/initrd.img-\S+: made anew, it lacked virtio_pci, virtio_blk",
        ),
        shown=(r"/ +/dev/vda1", r"/dev/vda2"),
    ),
    "ext4 and swap on one disk, data on another": Server(
        layout="ext4",
        expect=(
            r"/etc/fstab: / is mounted by UUID=\S+, no longer by /dev/sda1; swap space is found by UUID=\S+, no longer by /dev/sda2;"
            r" /srv/data is mounted by UUID=\S+, no longer by /dev/sdb1",
        ),
        shown=(r"/ +/dev/vda1", r"/srv/data +/dev/vdb1", r"/dev/vda2"),
        small=True,
        data=True,
    ),
    "btrfs with subvolumes, a guest agent installed of packages": Server(
        layout="btrfs",
        expect=(
            r"/etc/fstab: / is mounted by (UUID=\S+), no longer by /dev/sda1; /home is mounted by \1, no longer by",
            r"/boot/grub/grub.cfg: root=UUID=\S+, no longer root=/dev/sda1",
            r"the guest agent is installed: .*qemu-guest-agent_\S+\.deb",
        ),
        shown=(r"/ +/dev/vda1\[/@rootfs\]", r"/home +/dev/vda1\[/@home\]"),
        agent=True,
        small=True,
    ),
    "RAID 1 of two disks, dracut with an initramfs for that server only": Server(
        Image(packages=("dracut", "mdadm")),
        "raid1",
        expect=(
            r"/etc/mdadm/mdadm.conf: members of arrays are looked for on all disks",
            r"/etc/dracut.conf.d/90-kvmops-virtio.conf: virtio_pci, virtio_blk",
            r"/boot/initrd.img-\S+: made anew, it lacked virtio_pci, virtio_blk",
        ),
        shown=(r"/ +/dev/md0",),
    ),
}


@pytest.fixture(name="folder")
def fixture_folder(tmp_path: Path) -> Iterator[Path]:
    """Not kept for later: images are large."""
    yield tmp_path
    for path in [*tmp_path.iterdir()]:
        path.unlink()


@pytest.mark.parametrize("kind", SERVERS)
def test_a_copied_server_boots_as_a_guest(kind: str, folder: Path, record_property: Any) -> None:
    server, seconds = SERVERS[kind], []
    images = copied(server, folder)
    before = [(image.stat().st_mtime_ns, image.stat().st_size) for image in images]
    would = fix_up(folder, server, check=True)
    overlays = [image.with_suffix(".vm.qcow2") for image in images]
    assert would["steps"] == ["fix up the system on %s" % ", ".join(map(str, overlays))] and would["fixup"] is None
    assert sorted(folder.iterdir()) == sorted(images)

    began = time.monotonic()
    told = fix_up(folder, server)
    seconds.append(round(time.monotonic() - began))
    changes = told["fixup"]["changes"]
    print("\n" + "\n".join(changes), told["fixup"]["concerns"])
    for pattern in server.expect:
        assert any(re.search(pattern, words) for words in changes), (pattern, changes)
    assert told["fixup"]["disk_bus"] == "virtio" and told["fixup"]["serial_console"]
    assert told["fixup"]["guest_agent"] == server.agent
    # The copy is as it was, and nothing unfinished is left.
    assert [(image.stat().st_mtime_ns, image.stat().st_size) for image in images] == before
    assert sorted(folder.iterdir()) == sorted([*images, *overlays, folder / "old1.vm.json"])

    # Nothing is left to do: for the module, and for a look that knows nothing of the first one.
    files = [FSTAB, *("/" + path for path in OTHERS)]
    began = time.monotonic()
    again = fix_up(folder, server, look_again=True, files=files)
    seconds.append(round(time.monotonic() - began))
    assert again["steps"] == [] and again["fixup"] == told["fixup"]
    assert again["again"]["words"] == []
    read = again["again"]["files"]
    assert not re.search(r"^/dev/(sda|disk)", read[FSTAB], re.M), read[FSTAB]
    if server.layout == "lvm":
        assert "/dev/sdb1 /srv/data ext4 defaults,nofail 0 2" in read[FSTAB]
    for path, text in OTHERS.items():
        assert read["/" + path] == text
    assert all({"virtio_pci", "virtio_blk"} <= set(loaded) for loaded in again["again"]["loaded"].values())

    began = time.monotonic()
    said = boot(overlays, server.image.firmware, server.agent)
    seconds.append(round(time.monotonic() - began))
    shown = proof(said)
    print("seconds: fix-up, look, boot", seconds, "\n" + "\n".join(shown))
    record_property("seconds", seconds)
    assert re.search(r"^old1 login: ", said, re.M), said[-3000:]
    assert any(re.match(r"%s +UP +%s" % (CARD, re.escape(ADDRESS)), line) for line in shown), shown
    assert "masked" in shown
    for pattern in server.shown:
        assert any(re.match(pattern, line) for line in shown), (pattern, shown)


def test_a_guest_agent_without_what_it_depends_on_is_refused_in_the_words_of_the_system(folder: Path) -> None:
    server = Server(layout="ext4", agent=True, small=True)
    images = copied(server, folder)
    packages = [path for path in agent_packages(server) if "/qemu-guest-agent_" in path]
    options = {"guest_agent": True, "guest_agent_packages": packages}
    with pytest.raises(AssertionError, match="(?s)depends on liburing2.*Give the packages that it names"):
        fix_up(folder, server, options=options)
    with pytest.raises(AssertionError, match="p2v-fixup-no-agent"):
        fix_up(folder, server, options={"guest_agent": True})
    assert [*folder.iterdir()] == images


def test_images_without_a_system_are_refused_and_nothing_is_left(folder: Path) -> None:
    subprocess.run(["truncate", "--size=64M", str(folder / "old1-sda.raw")], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(folder / "old1-sda.raw")], check=True)
    with pytest.raises(AssertionError, match="p2v-fixup-no-system"):
        fix_up(folder, Server())
    assert [path.name for path in folder.iterdir()] == ["old1-sda.raw"]


def test_an_overlay_that_a_guest_has_written_to_is_not_thrown_away(folder: Path) -> None:
    shutil.copy(os.devnull, folder / "old1-sda.raw")
    (folder / "old1-sda.vm.qcow2").write_bytes(b"a guest's")
    with pytest.raises(AssertionError, match="p2v-vm-written"):
        fix_up(folder, Server())
    assert (folder / "old1-sda.vm.qcow2").read_bytes() == b"a guest's"
