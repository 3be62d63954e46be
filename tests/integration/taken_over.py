# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A machine at work whose guest takes over: what clients saw, whether a record is missing, and what differs, file by file."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from .fleet import LAB, ROOT, Lab, until
from .records_server import RECORDS_SERVER

sys.path.insert(0, str(ROOT / "tests/lab"))

from kvmlab import machine_disk, machine_image, state
from kvmlab.paths import LabPaths

PORT = 8080
TOOLS = ("python3-guestfs", "libguestfs-tools", "libguestfs-xfs", "linux-image-amd64")
SCRIPT = "/usr/local/bin/records-server"
UNIT = """\
[Unit]
RequiresMountsFor={folder}
[Service]
ExecStart={python} -B {script} {path} {port}
[Install]
WantedBy=multi-user.target
"""
# Asks ten times a second, each time anew. A line for each answer: when, and what.
VISIT = """
import sys, time, urllib.request
while True:
    try:
        print(time.monotonic(), urllib.request.urlopen(sys.argv[1], timeout=2).read().decode().strip(), flush=True)
    except OSError:
        pass
    time.sleep(0.1)
"""
GET = "import sys,urllib.request as r;sys.stdout.write(r.urlopen(sys.argv[1],timeout=60).read().decode())"
# Arguments: where the tree is mounted, then its mount points. {path: [mode, uid, gid, what]}; names as latin-1, so that nothing
# depends on a locale.
FILES = """
import hashlib, json, os, stat, sys
def what(path, told):
    if stat.S_ISLNK(told.st_mode):
        return os.readlink(path).decode("latin-1")
    if not stat.S_ISREG(told.st_mode):
        return ""
    digest = hashlib.sha1()
    with open(path, "rb") as content:
        for piece in iter(lambda: content.read(1 << 20), b""):
            digest.update(piece)
    return digest.hexdigest()
base, found = sys.argv[1].rstrip("/"), {}
for point in sys.argv[2:]:
    top = (base + point).encode("ascii")
    device = os.lstat(top).st_dev
    for folder, names, files in os.walk(top):
        names[:] = [name for name in names if os.lstat(os.path.join(folder, name)).st_dev == device]
        for path in [folder] + [os.path.join(folder, name) for name in files]:
            told = os.lstat(path)
            name = path.decode("latin-1")[len(base):] or "/"
            found[name] = [stat.S_IMODE(told.st_mode), told.st_uid, told.st_gid, what(path, told)]
print(json.dumps(found))
"""
# What a system that boots and serves changes by itself.
OF_A_RUNNING_SYSTEM = (
    r"/(run|tmp|proc|sys|dev|var/tmp|var/log|var/lib/systemd|var/lib/private|root/\.ssh|lost\+found|boot/lost\+found|boot/efi)(/|$)",
    r"/etc/(mtab|resolv\.conf|\.updated|\.pwd\.lock)$",
    r"/var/(\.updated|lib/dbus/machine-id)$",
)


@dataclass(frozen=True)
class Site:
    """A machine of a lab. path: of its records."""

    lab: Lab
    machine: str
    path: str = "/var/lib/records"

    @property
    def record(self) -> Any:
        found = state.require(self.lab.name)
        return found.machine(self.machine)

    @property
    def address(self) -> str:
        return str(self.record.machine.address)

    @property
    def page(self) -> str:
        return "http://%s:%d/" % (self.address, PORT)

    def serve(self, python: str = "/usr/bin/python3") -> None:
        """From now on, and after every boot."""
        folder = os.path.dirname(self.path)
        unit = UNIT.format(folder=folder, python=python, script=SCRIPT, path=self.path, port=PORT)
        self.write(SCRIPT, RECORDS_SERVER)
        self.write("/etc/systemd/system/records.service", unit)
        self.lab.sh(self.machine, "systemctl", "enable", "--now", "records.service")

    def write(self, path: str, text: str) -> None:
        words = [str(LAB), "exec", "--name", self.lab.name, self.machine, "--", "dd", "status=none", "of=" + path]
        subprocess.run(words, input=text.encode("utf-8"), check=True)

    def ssh(self, *argv: str, timeout_s: int = 600) -> str:
        """A command on whoever has the machine's address, and its host key."""
        paths = LabPaths(self.lab.name)
        options = ["UserKnownHostsFile=%s" % paths.known_hosts, "GlobalKnownHostsFile=/dev/null", "BatchMode=yes"]
        options += ["StrictHostKeyChecking=yes", "ConnectTimeout=20", "LogLevel=ERROR", "ControlPath=none"]
        words = ["ssh", "-i", str(paths.key), *(word for option in options for word in ("-o", option))]
        line = " ".join("'" + word.replace("'", "'\\''") + "'" for word in argv)
        return self.lab.lab("ns", "--", *words, "root@" + self.address, line, timeout_s=timeout_s)

    def records(self) -> List[str]:
        return self.lab.lab("ns", "--", "python3", "-c", GET, self.page + "records").splitlines()


class Visitor:
    """answers: (when, number of a record that is on the disk, boot of who answered)."""

    def __init__(self, site: Site) -> None:
        words = [str(LAB), "ns", "--name", site.lab.name, "--", "python3", "-c", VISIT, site.page]
        self._process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True, text=True
        )
        self.answers: List[Tuple[float, int, str]] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            at, number, boot = line.split()
            self.answers.append((float(at), int(number), boot))

    def is_answered(self, seconds: float, since: int = 0) -> None:
        until(lambda: len(self.answers) > since + 10, seconds, "the web server answers")

    def end(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._listener.join(10)

    def handed_over(self, old: str) -> Tuple[float, int]:
        """(seconds from the last answer of that boot to the first of another one, the last number that it told).

        Two that answer at the same time would be two owners of one guest.
        """
        before = [answer for answer in self.answers if answer[2] == old]
        after = [answer for answer in self.answers if answer[2] != old]
        assert before and after and len({answer[2] for answer in after}) == 1, self.answers[-3:]
        assert before[-1][0] < after[0][0] and self.answers == before + after
        numbers = [answer[1] for answer in self.answers]
        assert numbers == sorted(numbers)
        return after[0][0] - before[-1][0], before[-1][1]


@contextlib.contextmanager
def visiting(site: Site) -> Iterator[Visitor]:
    visitor = Visitor(site)
    try:
        visitor.is_answered(120)
        yield visitor
    finally:
        visitor.end()


def checked(lines: Sequence[str]) -> List[Tuple[int, str]]:
    """(number, boot) of each record; each has its hash, and none may be missing."""
    found = []
    for line in lines:
        head, dummy, digest = line.rpartition(" ")
        assert hashlib.sha256(head.encode("ascii")).hexdigest() == digest, line
        number, boot = head.split()
        found.append((int(number), boot))
    assert [number for number, dummy in found] == list(range(1, len(found) + 1))
    return found


@contextlib.contextmanager
def left_disk(site: Site, folder: Path) -> Iterator[Path]:
    """The filesystems of the machine that was left, from a copy of its disks, mounted as it had them."""
    record = site.record
    assert not record.running
    paths = LabPaths(site.lab.name).machine(site.machine)
    disks = [paths.disk, *paths.more_disks(record.machine.disks)]
    raws = [folder / ("left%d.raw" % number) for number, dummy in enumerate(disks)]
    top = folder / "left"
    top.mkdir()
    with contextlib.ExitStack() as stack:
        stack.callback(top.rmdir)
        for disk, raw in zip(disks, raws, strict=True):
            stack.callback(raw.unlink, missing_ok=True)
            subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(disk), str(raw)], check=True)
        # Writable: a frozen XFS has a log to be replayed even by those who only read.
        for point, raw, at, size, kind in _filesystems(site, raws):
            where = str(top) + point.rstrip("/")
            begin = ["losetup", "--find", "--show", "--offset", str(at), "--sizelimit"]
            begin += [str(size), str(raw)]
            device = subprocess.run(begin, check=True, capture_output=True, text=True).stdout.strip()
            stack.callback(subprocess.run, ["losetup", "--detach", device], check=True)
            options = "ro,subvol=@rootfs" if kind == "btrfs" else "ro"
            subprocess.run(["mount", "-t", kind, "-o", options, device, where], check=True)
            stack.callback(subprocess.run, ["umount", where], check=True)
            if kind == "btrfs":
                # Of the same device: two devices with one filesystem are refused.
                subprocess.run(["mount", "-o", "ro,subvol=@home", device, where + "/home"], check=True)
                stack.callback(subprocess.run, ["umount", where + "/home"], check=True)
        yield top


def _filesystems(site: Site, raws: Sequence[Path]) -> Iterator[Tuple[str, Path, int, int, str]]:
    """(mount point, image, begin, bytes, kind)."""
    record = site.record
    layout = record.machine.image.layout
    begin, length = (Path(record.base) / machine_image.ROOT).read_text().split()
    yield "/", raws[0], int(begin), int(length), machine_disk.FILESYSTEMS[layout][0]
    if layout == "lvm":
        told = json.loads(subprocess.run(["sfdisk", "--json", str(raws[0])], check=True, capture_output=True).stdout)
        boot = told["partitiontable"]["partitions"][1]
        yield "/boot", raws[0], boot["start"] * 512, boot["size"] * 512, "ext4"
    for raw in raws[1:]:
        yield "/srv/data", raw, 1024**2, raw.stat().st_size - 1024**2, "ext4"


def points_of(site: Site) -> List[str]:
    machine = site.record.machine
    more = {"lvm": ["/boot"], "btrfs": ["/home"]}.get(machine.image.layout, [])
    return ["/", *more, *(["/srv/data"] if machine.disks > 1 else [])]


def differing(left: Path, site: Site, python: str, changes: Sequence[str]) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """(what the fix-up and a running system explain, what nothing explains), of all files: {path: (of the machine, of its guest)}."""
    points = points_of(site)
    words = [sys.executable, "-c", FILES, str(left), *points]
    old = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    new = json.loads(site.ssh(python, "-B", "-c", FILES, "/", *points))
    assert len(old) > 3000, len(old)
    explained: Dict[str, Any] = {}
    others: Dict[str, Any] = {}
    for path in sorted({*old, *new}):
        pair: Tuple[Optional[Any], Optional[Any]] = (old.get(path), new.get(path))
        if pair[0] != pair[1]:
            (explained if is_explained(path, site, changes) else others)[path] = pair
    return explained, others


def is_explained(path: str, site: Site, changes: Sequence[str]) -> bool:
    if path == site.path or any(re.match(pattern, path) for pattern in OF_A_RUNNING_SYSTEM):
        return True
    named = [change.partition(": ")[0] for change in changes]
    masked = ["/etc/systemd/system/" + change.partition(" ")[0] for change in changes if " is off" in change]
    return path in named or path in masked or bool(re.match(r"/etc/systemd/network/\S+\.link$", path))


def with_old_python(site: Site, version: Path) -> str:
    """That build of pyenv becomes the only Python of the machine; its program."""
    short = ".".join(version.name.split(".")[:2])
    name = "python%s" % short
    program = (version / "bin" / name).resolve()
    tree = ["bin/" + program.name, *(path.name and "lib/" + path.name for path in (version / "lib").glob("libpython*"))]
    tree.append("lib/" + name)
    pack = ["tar", "-C", str(version), "--exclude=test", "--exclude=tests", "--exclude=site-packages", "-c", *tree]
    unpack = [
        str(LAB),
        "exec",
        "--name",
        site.lab.name,
        site.machine,
        "--",
        "tar",
        "--no-same-owner",
        "-x",
        "-C",
        str(version),
    ]
    site.lab.sh(site.machine, "mkdir", "-p", str(version))
    with subprocess.Popen(pack, stdout=subprocess.PIPE) as packing:
        subprocess.run(unpack, stdin=packing.stdout, check=True)
    assert packing.returncode == 0
    target = "/usr/bin/%s" % ("python3" if short.startswith("3") else name)
    script = "mkdir /opt/hidden; mv /usr/bin/python* /opt/hidden/; ln -s %s %s; %s --version" % (
        program,
        target,
        target,
    )
    told = site.lab.sh(site.machine, "sh", "-ec", script + " 2>&1")
    assert version.name in told, told
    return target


def until_off(lab: Lab, seconds: float = 30) -> None:
    until(lambda: " off " in lab.lab("machine", "list"), seconds, "the machine is off")


def prepare_host(lab: Lab, host: str, source: str) -> None:
    """It has libguestfs, and its firewall lets the machine of that address in."""
    lab.sh(host, "apt-get", "-q", "update")
    # Nobody boots that kernel but libguestfs, which makes an initramfs of its own.
    settings = ("env", "DEBIAN_FRONTEND=noninteractive", "INITRD=No")
    lab.sh(host, *settings, "apt-get", "-q", "-y", "--no-install-recommends", "install", *TOOLS)
    allow = "host_base_firewall_allow: [{port: 22, proto: tcp, from: %s}]" % source
    more = lab.inventory.parent / "p2v-hosts.yml"
    more.write_text("all:\n  hosts:\n    %s:\n      %s\n" % (host, allow), encoding="utf-8")
    lab.playbook("kvmops.fleet.site", "-i", str(more), "--limit", host, "--tags", "firewall")
