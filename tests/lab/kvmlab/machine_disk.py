"""The disk of one machine, and what makes it this machine's: written from outside, before it first boots."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kvmlab import cgroups, identity, machine_image
from kvmlab.errors import LabError
from kvmlab.machine_shape import Machine
from kvmlab.paths import LAB_DIR, LabPaths
from kvmlab.run import run, wait_until
from kvmlab.shape import PREFIX

NETWORKD = """\
[Match]
Name={interface}

[Network]
Address={address}/{prefix}
LinkLocalAddressing=no
IPv6AcceptRA=no
"""
INTERFACES = """\
# The loopback network interface
auto lo
iface lo inet loopback

# The primary network interface
auto {interface}
iface {interface} inet static
\taddress {address}/{prefix}
"""
# Of each layout: the root's filesystem, and how it is mounted.
FILESYSTEMS = {
    "lvm": ("ext4", ""),
    "ext4": ("ext4", ""),
    "xfs": ("xfs", ""),
    "btrfs": ("btrfs", ",subvol=@rootfs"),
}
MORE_GIB = 2
HOSTS = """\
127.0.0.1\tlocalhost
127.0.1.1\t{name}

::1\tlocalhost ip6-localhost ip6-loopback
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def create(lab: str, machine: Machine, base: Path) -> str:
    """A disk over the image in `base`, with the machine's identity on it; returns its line in known_hosts."""
    paths = LabPaths(lab)
    disk = paths.machine(machine.name).disk
    disk.parent.mkdir(parents=True, exist_ok=True)
    unfinished = disk.with_suffix(".tmp")
    for more in paths.machine(machine.name).more_disks(machine.disks):
        run(["qemu-img", "create", "-q", "-f", "qcow2", more, f"{MORE_GIB}G"])
    backing = ["-b", base / machine_image.DISK, "-F", "raw"]
    run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, unfinished])
    begin, length = (base / machine_image.ROOT).read_text().split()
    with _as_file(lab, machine, unfinished) as image, _mounted(image, begin, length, machine.image.layout) as root:
        for name in ("machine-id", "hostname"):
            (root / "etc" / name).unlink(missing_ok=True)
        identity.write_identity(root, machine.host, paths, _network(machine))
        (root / "etc/hosts").write_text(HOSTS.format(name=machine.name))
        line = identity.known_hosts_line(root, machine.host)
    unfinished.rename(disk)
    return line


def _network(machine: Machine) -> dict[str, str]:
    values = {"interface": machine.interface(0), "address": machine.address, "prefix": PREFIX}
    if machine.image.network == "ifupdown":
        return {"etc/network/interfaces": INTERFACES.format(**values)}
    return {"etc/systemd/network/10-lan.network": NETWORKD.format(**values)}


@contextmanager
def _as_file(lab: str, machine: Machine, disk: Path) -> Iterator[Path]:
    """A qcow2 image as a file of its content, while it is needed."""
    image, log = disk.with_suffix(".raw"), disk.with_suffix(".log")
    image.touch()
    words = ["qemu-storage-daemon", "--blockdev", f"qcow2,node-name=disk,file.driver=file,file.filename={disk}"]
    words += ["--export", f"fuse,id=disk,node-name=disk,mountpoint={image},writable=on"]
    # In the machine's control group: `down` finds it there, should this command be killed.
    groups = [str(path) for path in cgroups.create(lab, machine.name)]
    with log.open("wb") as sink:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "kvmlab.launch", *groups, "--", *words],
            cwd=LAB_DIR,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    try:
        wait_until(lambda: daemon.poll() is not None or os.path.ismount(image), 20, f"opening {disk}")
        if daemon.poll() is not None:
            raise LabError(f"{disk} could not be opened: {log.read_text(errors='replace').strip()}")
        yield image
    finally:
        daemon.terminate()
        daemon.wait()
        if os.path.ismount(image):
            run(["umount", image])
        image.unlink(missing_ok=True)


@contextmanager
def _mounted(image: Path, begin: str, length: str, layout: str) -> Iterator[Path]:
    root = image.with_suffix(".root")
    root.mkdir(exist_ok=True)
    kind, more = FILESYSTEMS[layout]
    run(["mount", "-t", kind, "-o", f"loop,offset={begin},sizelimit={length}{more}", image, root])
    try:
        yield root
    finally:
        run(["umount", root])
        root.rmdir()
