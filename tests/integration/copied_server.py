# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks of old servers, as kvm_p2v_image copies them: made here, fixed up by the collection, booted by a plain QEMU.

Other disk, other card, other slot than the server had.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

from .fleet import ROOT

sys.path.insert(0, str(ROOT / "tests/lab"))

from kvmlab import machine_image
from kvmlab.apt import apt_for
from kvmlab.cache import build_log, build_once, key_of
from kvmlab.machine_qemu import firmware_options, processor_options
from kvmlab.machine_shape import Image

MIB = 1024**2
MAC = "02:4b:56:00:00:33"
# As the physical machine calls its card. The guest's is in another slot.
CARD = "enp0s16"
ADDRESS = "10.77.0.51/24"
BOOT_S = 600
AGENT_S = 60
AGENT = "org.qemu.guest_agent.0"

# Before the login, which hangs up whoever else has the line open.
PROOF = """\
[Unit]
Before=serial-getty@ttyS0.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'for n in $(seq 120); do ip -4 -br address show {card} 2>/dev/null | grep -q {address} && break; sleep 1; done; \
{{ ip -br address; findmnt --noheadings --output TARGET,SOURCE /; \
for p in /boot/efi /home /srv/data; do findmnt --noheadings --output TARGET,SOURCE --mountpoint $$p; done; \
swapon --noheadings --show=NAME; systemctl is-enabled smartd; echo PROOF-END; }} >/dev/ttyS0 2>&1'
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
ON_NETWORKD = {"etc/systemd/network/10-lan.network": NETWORKD}


@dataclass(frozen=True)
class Server:
    """layout: lvm is the lab's own disk of that image, the others are those of tests/lab/machine/plain. expect: words of the
    changes, as patterns. shown: lines of what the guest shows of itself. agent: the guest agent is installed. small: with as little
    as a server can have, and not with LVM. data: on a second disk."""

    image: Image = field(default_factory=Image)
    layout: str = "lvm"
    expect: Tuple[str, ...] = ()
    shown: Tuple[str, ...] = ()
    files: Dict[str, str] = field(default_factory=lambda: dict(ON_NETWORKD))
    agent: bool = False
    small: bool = False
    data: bool = False

    @property
    def tree(self) -> Path:
        return machine_image.small_tree(self.image.release) if self.small else machine_image.tree_of(self.image)

    @property
    def disks(self) -> List[str]:
        return ["sda", "sdb"] if self.data or self.layout == "raid1" else ["sda"]


def copied(server: Server, folder: Path) -> List[Path]:
    """The images of the copy, as kvm_p2v_image leaves them: raw, of a server with a name for everything."""
    images = [folder / ("old1-%s.raw" % name) for name in server.disks]
    where = images[0].with_suffix(".raw.root")
    if server.layout == "lvm":
        base = machine_image.build(server.image)
        subprocess.run(["cp", "--sparse=always", str(base / machine_image.DISK), str(images[0])], check=True)
        where.write_text((base / machine_image.ROOT).read_text())
    else:
        plain(server, images)
    begin, length = (int(word) for word in where.read_text().split())
    where.unlink()
    with mounted(images[0], begin, length, folder, server.layout) as root:
        aged(server, root)
    for other in images[1:] if server.layout == "raid1" else ():
        words = ["dd", "if=%s" % images[0], "of=%s" % other, "bs=1M", "skip=%d" % begin, "seek=%d" % begin]
        words += ["iflag=skip_bytes", "oflag=seek_bytes", "conv=notrunc,sparse", "status=none"]
        subprocess.run(words, check=True)
    if server.image.firmware == "uefi":
        # No FAT in this machine's kernel.
        subprocess.run(["mdeltree", "-i", "%s@@2M" % images[0], "::EFI/BOOT"], check=True, stdin=subprocess.DEVNULL)
    return images


def plain(server: Server, images: Sequence[Path]) -> None:
    words = ["unshare", "--mount", "--propagation=private", str(ROOT / "tests/lab/machine/plain")]
    words += [str(server.tree), str(images[0]), "3", server.layout, *(str(image) for image in images[1:])]
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=appliance(server)
    )
    assert done.returncode == 0, done.stdout + done.stderr


def appliance(server: Server) -> Dict[str, str]:
    """For libguestfs: the machine that runs the tests may have no kernel of its own in /boot."""
    tree = server.tree if server.small else machine_image.tree_of(Image())
    # supermin looks at that folder in any case, and a machine without a kernel package has none.
    Path("/lib/modules").mkdir(exist_ok=True)
    kernel = sorted((tree / "boot").glob("vmlinuz-*"))[-1]
    modules = tree / "lib/modules" / kernel.name.partition("-")[2]
    return dict(os.environ, SUPERMIN_KERNEL=str(kernel), SUPERMIN_MODULES=str(modules))


@contextmanager
def mounted(image: Path, begin: int, length: int, folder: Path, layout: str) -> Iterator[Path]:
    options = "loop,offset=%d,sizelimit=%d%s" % (begin, length, ",subvol=@rootfs" if layout == "btrfs" else "")
    root = folder / "root"
    root.mkdir()
    subprocess.run(["mount", "-o", options, str(image), str(root)], check=True)
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
    if server.layout == "lvm":
        names = {"/boot": "/dev/sda2", "/boot/efi": "/dev/disk/by-id/ata-QEMU_OLD1-part1"}
        lines = [line for line in (root / "etc/fstab").read_text().splitlines() if "9p" not in line.split()]
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


def agent_packages(server: Server) -> List[str]:
    """The guest agent and what that server lacks of its dependencies, as a user puts them on a host."""
    release, status = server.image.release, server.tree / "var/lib/dpkg/status"

    def fetch(target: Path) -> None:
        with apt_for(release, target, status, build_log("agent-" + release)) as apt:
            apt.install(["qemu-guest-agent"])

    folder = build_once("agent-" + release, key_of([server.tree.name]), fetch)
    return sorted(str(path) for path in folder.glob("*.deb"))


def facts_of(server: Server) -> Dict[str, Any]:
    """What the agent told of it."""
    card = {"name": CARD, "mac": MAC, "permanent_mac": MAC, "kind": "card", "state": "up", "addresses": [ADDRESS]}
    disks = [{"name": "sda", "by_id": ["/dev/disk/by-id/ata-QEMU_OLD1"]}, {"name": "sdb", "by_id": []}]
    return {
        "memory_bytes": 1000 * MIB, "cpus": 2, "boot": {"firmware": server.image.firmware}, "disks": disks,
        "interfaces": [card],
    }  # fmt: skip


def fix_up(folder: Path, server: Server, **asked: Any) -> Dict[str, Any]:
    options = {"serial_console": True}
    if server.agent:
        options.update(guest_agent=True, guest_agent_packages=agent_packages(server))
    disks = [[name, (folder / ("old1-%s.raw" % name)).stat().st_size] for name in server.disks]
    request = {
        "folder": str(folder), "name": "old1", "format": "raw", "disks": disks, "facts": facts_of(server),
        "options": options, **asked,
    }  # fmt: skip
    done = subprocess.run(
        ["/usr/bin/python3", str(ROOT / "tests/integration/fixup_here.py")],
        input=json.dumps(request), capture_output=True, text=True, check=False, env=appliance(server),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: Dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert "failed" not in told, told
    return told


def boot(overlays: Sequence[Path], firmware: str, agent: bool = False) -> str:
    """What a guest says on its serial console until it asks for a login and has shown what it is; then its agent is asked."""
    first = overlays[0]
    words = ["qemu-system-x86_64", *processor_options(2, 1024), *firmware_options(firmware, first.with_suffix(".vars"))]
    words += ["-display", "none", "-nodefaults", "-no-reboot", "-serial", "stdio"]
    tops = [path.with_suffix(".boot") for path in overlays]
    for number, (top, path) in enumerate(zip(tops, overlays, strict=True)):
        create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(path), str(top)]
        subprocess.run(create, check=True)
        words += ["-drive", "file=%s,if=none,id=disk%d,format=qcow2,cache=unsafe" % (top, number)]
        words += ["-device", "virtio-blk,drive=disk%d" % number]
    words += ["-netdev", "user,id=lan,restrict=on", "-device", "virtio-net,netdev=lan,mac=%s,addr=0x9,romfile=" % MAC]
    line = first.with_suffix(".agent")
    words += ["-chardev", "socket,id=agent,path=%s,server=on,wait=off" % line]
    words += ["-device", "virtio-serial", "-device", "virtserialport,chardev=agent,name=%s" % AGENT]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as qemu:
        try:
            said = _heard(qemu)
            if agent:
                assert answer_of(line) == {"return": {}}, said[-3000:]
        finally:
            qemu.kill()
    for top in tops:
        top.unlink()
    return said


def _heard(qemu: subprocess.Popen[bytes]) -> str:
    said, latest = b"", time.monotonic() + BOOT_S
    assert qemu.stdout is not None
    while time.monotonic() < latest and not (b"PROOF-END" in said and b"login: " in said):
        if select.select([qemu.stdout], [], [], 1)[0]:
            more = os.read(qemu.stdout.fileno(), 65536)
            if not more:
                break
            said += more
    return said.decode("utf-8", "replace")


def answer_of(path: Path) -> Dict[str, Any]:
    """Of the guest agent to a ping. It may start a little later than the login."""
    told, latest = b"", time.monotonic() + AGENT_S
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(1)
        line.connect(str(path))
        line.sendall(b'{"execute": "guest-ping"}\n')
        while b"\n" not in told:
            try:
                more = line.recv(4096)
            except TimeoutError:
                assert time.monotonic() < latest, "the guest agent does not answer"
                continue
            assert more, "QEMU has closed the line of the guest agent"
            told += more
    return dict(json.loads(told.splitlines()[0]))


def proof(said: str) -> List[str]:
    return [line.strip() for line in said.split("PROOF-END", maxsplit=1)[0].splitlines()[-12:]]
