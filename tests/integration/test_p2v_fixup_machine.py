# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copied disks of servers of several kinds are fixed up by libguestfs and boot as a guest: other disk, other card, other slot.

The disks are those that the lab's machines begin with, made to look like an old server's. They are booted by a plain QEMU,
which has nothing of the collection.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from .fleet import ROOT

sys.path.insert(0, str(ROOT / "tests/lab"))

from kvmlab import machine_image
from kvmlab.machine_qemu import firmware_options, processor_options
from kvmlab.machine_shape import Image

pytestmark = pytest.mark.machine

MIB = 1024**2
MAC = "02:4b:56:00:00:33"
# As the physical machine calls its card. The guest's is in another slot.
CARD = "enp0s16"
ADDRESS = "10.77.0.51/24"
BOOT_S = 600
FSTAB = "/etc/fstab"

# Before the login, which hangs up whoever else has the line open.
PROOF = """\
[Unit]
Before=serial-getty@ttyS0.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'for n in $(seq 120); do ip -4 -br address show {card} 2>/dev/null | grep -q {address} && break; sleep 1; done; \
{{ ip -br address; findmnt --noheadings --output TARGET,SOURCE /; findmnt --noheadings --output TARGET --mountpoint /boot/efi; \
systemctl is-enabled smartd; echo PROOF-END; }} >/dev/ttyS0 2>&1'
"""
INTERFACES = "auto lo\niface lo inet loopback\nauto {card}\niface {card} inet static\n\taddress {address}\n"
NETWORKD = "[Match]\nName={card}\n[Network]\nAddress={address}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
NETPLAN = "network:\n  version: 2\n  ethernets:\n    eno2:\n      addresses: [192.0.2.9/24]\n"
KEYFILE = "[connection]\nid=eno3\ntype=ethernet\ninterface-name=eno3\n[ipv4]\nmethod=manual\naddress1=192.0.2.10/24\n"
IFCFG = "DEVICE=eno4\nBOOTPROTO=static\nIPADDR=192.0.2.11\nPREFIX=24\nONBOOT=yes\n"
# Settings of systems that cannot be had here: nothing may touch them.
OTHERS = {
    "etc/netplan/01-lan.yaml": NETPLAN,
    "etc/NetworkManager/system-connections/eno3.nmconnection": KEYFILE,
    "etc/sysconfig/network-scripts/ifcfg-eno4": IFCFG,
}


@dataclass(frozen=True)
class Server:
    """image: of the lab's; None is the plain disk with xfs. expect: words of the changes, as patterns."""

    image: Any
    firmware: str = "bios"
    expect: Tuple[str, ...] = ()
    files: Dict[str, str] = field(default_factory=dict)


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
        "uefi",
        expect=(
            r"/boot/efi/EFI/BOOT/BOOTX64.EFI: /boot/efi/EFI/debian/\S+, for an NVRAM without entries",
            r"/boot/efi is mounted by UUID=\S+, no longer by /dev/disk/by-id/ata-QEMU_OLD1-part1",
            r"%s is %s as before" % (MAC, CARD),
        ),
        files={"etc/systemd/network/10-lan.network": NETWORKD},
    ),
    "plain partition, xfs, an initramfs for that server only": Server(
        None,
        expect=(
            r"/etc/fstab: / is mounted by UUID=\S+, no longer by /dev/sda1",
            r"/boot/grub/grub.cfg: root=UUID=\S+, no longer root=/dev/sda1; kernels have a serial console",
            r"/boot/grub/device.map: removed",
            r"/etc/initramfs-tools/modules: virtio_pci, virtio_blk",
            r"/boot/initrd.img-\S+: made anew, it lacked virtio_pci, virtio_blk",
        ),
        files={"etc/systemd/network/10-lan.network": NETWORKD},
    ),
}


@pytest.fixture(name="folder")
def fixture_folder(tmp_path: Path) -> Iterator[Path]:
    """Not kept for later: images are large."""
    yield tmp_path
    for path in [*tmp_path.iterdir()]:
        path.unlink()


def copied(server: Server, folder: Path) -> Path:
    """The image of the copy, as kvm_p2v_image leaves it: raw, of a server with a name for everything."""
    target = folder / "old1-sda.raw"
    if server.image is None:
        tree = machine_image._tree(Image())
        words = ["unshare", "--mount", "--propagation=private", str(ROOT / "tests/lab/machine/plain")]
        subprocess.run([*words, str(tree), str(target), "3"], check=True, capture_output=True)
        begin, length = MIB, 0
    else:
        base = machine_image.build(server.image)
        subprocess.run(["cp", "--sparse=always", str(base / machine_image.DISK), str(target)], check=True)
        begin, length = (int(word) for word in (base / machine_image.ROOT).read_text().split())
    with mounted(target, begin, length, folder) as root:
        aged(server, root)
    if server.firmware == "uefi":
        # No FAT in this machine's kernel.
        subprocess.run(["mdeltree", "-i", "%s@@2M" % target, "::EFI/BOOT"], check=True, stdin=subprocess.DEVNULL)
    return target


@contextmanager
def mounted(image: Path, begin: int, length: int, folder: Path) -> Iterator[Path]:
    limit = ",sizelimit=%d" % length if length else ""
    root = folder / "root"
    root.mkdir()
    subprocess.run(["mount", "-o", "loop,offset=%d%s" % (begin, limit), str(image), str(root)], check=True)
    try:
        yield root
    finally:
        subprocess.run(["umount", str(root)], check=True)
        root.rmdir()


def aged(server: Server, root: Path) -> None:
    """What an old server has that a new disk of the lab's has not."""
    values = {"card": CARD, "address": ADDRESS}
    for path, text in {**OTHERS, **server.files}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text.format(**values))
    fstab = (root / "etc/fstab").read_text()
    lines = [line for line in fstab.splitlines() if "9p" not in line.split()]
    names = {"/boot": "/dev/sda2", "/boot/efi": "/dev/disk/by-id/ata-QEMU_OLD1-part1"}
    if server.image is not None:
        by_name = [
            re.sub(r"^UUID=\S+", names.get(line.split()[1], line.split()[0]), line) if line.split() else line
            for line in lines
        ]
        (root / "etc/fstab").write_text("\n".join(by_name) + "\n/dev/sdb1 /srv/data ext4 defaults 0 2\n")
    units = root / "etc/systemd/system"
    wants = units / "multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (root / "usr/lib/systemd/system/smartd.service").write_text("[Service]\nExecStart=/bin/false\n[Install]\n")
    (wants / "smartd.service").symlink_to("/usr/lib/systemd/system/smartd.service")
    (units / "proof.service").write_text(PROOF.format(**values))
    (wants / "proof.service").symlink_to("/etc/systemd/system/proof.service")
    (root / "etc/hostname").write_text("old1\n")


def facts_of(server: Server) -> Dict[str, Any]:
    """What the agent told of it."""
    card = {"name": CARD, "mac": MAC, "permanent_mac": MAC, "kind": "card", "state": "up", "addresses": [ADDRESS]}
    disks = [{"name": "sda", "by_id": ["/dev/disk/by-id/ata-QEMU_OLD1"]}, {"name": "sdb", "by_id": []}]
    return {
        "memory_bytes": 1000 * MIB, "cpus": 2, "boot": {"firmware": server.firmware}, "disks": disks, "interfaces": [card],
    }  # fmt: skip


def fix_up(folder: Path, server: Server, **asked: Any) -> Dict[str, Any]:
    size = (folder / "old1-sda.raw").stat().st_size
    request = {
        "folder": str(folder), "name": "old1", "format": "raw", "disks": [["sda", size]], "facts": facts_of(server),
        "options": {"serial_console": True}, **asked,
    }  # fmt: skip
    # The machine that runs the tests may have no kernel of its own in /boot.
    tree = machine_image._tree(Image())
    kernel = sorted((tree / "boot").glob("vmlinuz-*"))[-1]
    version = kernel.name.partition("-")[2]
    kernels = {"SUPERMIN_KERNEL": str(kernel), "SUPERMIN_MODULES": str(tree / "lib/modules" / version)}
    done = subprocess.run(
        ["/usr/bin/python3", str(ROOT / "tests/integration/fixup_here.py")],
        input=json.dumps(request), capture_output=True, text=True, check=False, env=dict(os.environ, **kernels),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: Dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert "failed" not in told, told
    return told


def boot(image: Path, firmware: str) -> str:
    """What a guest says on its serial console until it asks for a login and has shown what it is."""
    top = image.with_suffix(".boot")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(image), str(top)], check=True)
    words = ["qemu-system-x86_64", *processor_options(2, 1024), *firmware_options(firmware, image.with_suffix(".vars"))]
    words += ["-display", "none", "-nodefaults", "-no-reboot", "-serial", "stdio"]
    words += ["-drive", "file=%s,if=none,id=disk,format=qcow2,cache=unsafe" % top, "-device", "virtio-blk,drive=disk"]
    words += ["-netdev", "user,id=lan,restrict=on", "-device", "virtio-net,netdev=lan,mac=%s,addr=0x9,romfile=" % MAC]
    said, latest = b"", time.monotonic() + BOOT_S
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as qemu:
        try:
            while time.monotonic() < latest and not (b"PROOF-END" in said and b"login: " in said):
                if select.select([qemu.stdout], [], [], 1)[0]:
                    more = os.read(qemu.stdout.fileno(), 65536)  # type: ignore[union-attr]
                    if not more:
                        break
                    said += more
        finally:
            qemu.kill()
    top.unlink()
    return said.decode("utf-8", "replace")


@pytest.mark.parametrize("kind", SERVERS)
def test_a_copied_server_boots_as_a_guest(kind: str, folder: Path, record_property: Any) -> None:
    server, seconds = SERVERS[kind], []
    image = copied(server, folder)
    before = image.stat()
    would = fix_up(folder, server, check=True)
    overlay = folder / "old1-sda.vm.qcow2"
    assert would["steps"] == ["fix up the system on %s" % overlay] and would["fixup"] is None
    assert sorted(path.name for path in folder.iterdir()) == ["old1-sda.raw"]

    began = time.monotonic()
    told = fix_up(folder, server)
    seconds.append(round(time.monotonic() - began))
    changes = told["fixup"]["changes"]
    print("\n" + "\n".join(changes), told["fixup"]["concerns"])
    for pattern in server.expect:
        assert any(re.search(pattern, words) for words in changes), (pattern, changes)
    assert told["fixup"]["disk_bus"] == "virtio" and told["fixup"]["serial_console"]
    # The copy is as it was, and nothing unfinished is left.
    after = image.stat()
    assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size)
    assert sorted(path.name for path in folder.iterdir()) == ["old1-sda.raw", overlay.name, "old1.vm.json"]

    # Nothing is left to do: for the module, and for a look that knows nothing of the first one.
    files = [FSTAB, *("/" + path for path in OTHERS)]
    began = time.monotonic()
    again = fix_up(folder, server, look_again=True, files=files)
    seconds.append(round(time.monotonic() - began))
    assert again["steps"] == [] and again["fixup"] == told["fixup"]
    assert again["again"]["words"] == []
    read = again["again"]["files"]
    assert not re.search(r"^/dev/(sda|disk)", read[FSTAB], re.M), read[FSTAB]
    if server.image is not None:
        assert "/dev/sdb1 /srv/data ext4 defaults,nofail 0 2" in read[FSTAB]
    for path, text in OTHERS.items():
        assert read["/" + path] == text
    assert all({"virtio_pci", "virtio_blk"} <= set(loaded) for loaded in again["again"]["loaded"].values())

    began = time.monotonic()
    said = boot(overlay, server.firmware)
    seconds.append(round(time.monotonic() - began))
    shown = proof(said)
    print("seconds: fix-up, look, boot", seconds, "\n" + "\n".join(shown))
    record_property("seconds", seconds)
    assert re.search(r"^old1 login: ", said, re.M), said[-3000:]
    assert any(re.match(r"%s +UP +%s" % (CARD, re.escape(ADDRESS)), line) for line in shown), shown
    assert "masked" in shown
    if server.firmware == "uefi":
        assert "/boot/efi" in shown
    if server.image is None:
        assert any(re.match(r"/ +/dev/vda1", line) for line in shown), shown


def proof(said: str) -> List[str]:
    return [line.strip() for line in said.split("PROOF-END", maxsplit=1)[0].splitlines()[-12:]]


def test_images_without_a_system_are_refused_and_nothing_is_left(folder: Path) -> None:
    subprocess.run(["truncate", "--size=64M", str(folder / "old1-sda.raw")], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(folder / "old1-sda.raw")], check=True)
    with pytest.raises(AssertionError, match="p2v-fixup-no-system"):
        fix_up(folder, SERVERS["LVM, BIOS, ifupdown"])
    assert [path.name for path in folder.iterdir()] == ["old1-sda.raw"]


def test_an_overlay_that_a_guest_has_written_to_is_not_thrown_away(folder: Path) -> None:
    shutil.copy(os.devnull, folder / "old1-sda.raw")
    (folder / "old1-sda.vm.qcow2").write_bytes(b"a guest's")
    with pytest.raises(AssertionError, match="p2v-vm-written"):
        fix_up(folder, SERVERS["LVM, BIOS, ifupdown"])
    assert (folder / "old1-sda.vm.qcow2").read_bytes() == b"a guest's"
