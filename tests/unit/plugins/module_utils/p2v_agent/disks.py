# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks for tests: files as loop devices, with partitions and filesystems. Needs root and loop devices."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Iterator

MIB = 1024**2
SECTOR = 512
IN_MEMORY = "kvmops-test-"
# <sched.h>, <sys/mount.h>
CLONE_NEWNS, MS_REC, MS_SLAVE = 0x20000, 0x4000, 0x80000


def possible() -> bool:
    return sys.platform == "linux" and os.geteuid() == 0 and os.path.exists("/dev/loop-control")


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """No other test of this machine has a disk meanwhile: `sync` waits for what another has frozen, the kernel traces and
    numbers loop devices for all together. Its mounts are seen by nobody else, who would hold them beyond their end."""
    with open(os.path.join(tempfile.gettempdir(), "kvmops-test-disks.lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _leave_the_mounts_of_others()
        yield


@functools.cache
def _leave_the_mounts_of_others() -> None:
    """A mount namespace of our own, once: this thread stays in it, and so does all that it starts."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC | MS_SLAVE, None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextlib.contextmanager
def in_memory() -> Iterator[Path | None]:
    """A folder there, gone at the end. None where it has less than 3 GiB."""
    memory = Path("/dev/shm")
    for left in memory.glob(IN_MEMORY + "*-*"):
        if not os.path.exists("/proc/" + left.name.split("-")[2]):
            shutil.rmtree(left, ignore_errors=True)
    room = os.statvfs(memory) if memory.is_dir() else None
    if room is None or room.f_bavail * room.f_frsize < 3072 * MIB:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="%s%d-" % (IN_MEMORY, os.getpid()), dir=memory) as folder:
        yield Path(folder)


@contextlib.contextmanager
def tracefs() -> Iterator[None]:
    """It is mounted where one looks for it; by us, when nobody did, and for us alone."""
    if os.path.isdir("/sys/kernel/tracing/instances"):
        yield
        return
    run("mount", "-t", "tracefs", "tracefs", "/sys/kernel/tracing")
    try:
        yield
    finally:
        run("umount", "/sys/kernel/tracing")


def tool(name: str) -> bool:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is not None


def known(filesystem: str) -> bool:
    """Whether the kernel can mount it; one that is not loaded is, where there are modules."""
    if not possible():
        return False
    if tool("modprobe"):
        subprocess.run(["modprobe", filesystem], check=False, stderr=subprocess.DEVNULL)
    with open("/proc/filesystems", encoding="ascii") as table:
        return filesystem in table.read().split()


def run(*argv: str) -> str:
    done = subprocess.run(argv, check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise AssertionError("%s: %s" % (" ".join(argv), done.stderr))
    return done.stdout


class Disk:
    """A loop device over a file. `partition` adds one without writing a table: kernels need not read tables for it."""

    def __init__(self, path: Path, mib: int) -> None:
        self.path = path
        self.size = mib * MIB
        if not path.exists():
            with open(path, "wb") as image:
                image.truncate(self.size)
        self.node = run("losetup", "--partscan", "--find", "--show", str(path)).strip()
        self.name = os.path.basename(self.node)
        self.mounted: list[Path] = []

    def partition(self, number: int, start_mib: int, mib: int) -> str:
        run("addpart", self.node, str(number), str(start_mib * MIB // SECTOR), str(mib * MIB // SECTOR))
        return "%sp%d" % (self.node, number)

    def mount(self, node: str, point: Path, options: str = "rw") -> Path:
        point.mkdir(exist_ok=True)
        run("mount", "-o", options, node, str(point))
        self.mounted.append(point)
        return point

    def umount(self) -> None:
        while self.mounted:
            run("umount", str(self.mounted.pop()))

    def close(self) -> None:
        self.umount()
        run("losetup", "--detach", self.node)


def fill(point: Path, mib: int = 24) -> None:
    """Files of all sizes, and holes where files were: free space that holds old data."""
    for number in range(mib):
        (point / ("file%d" % number)).write_bytes(os.urandom(MIB // 2 + number * 1000))
        (point / ("small%d" % number)).write_bytes(os.urandom(100 * number))
    os.sync()
    for number in range(0, mib, 3):
        (point / ("file%d" % number)).unlink()
    os.sync()


def contents(point: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in point.iterdir() if path.is_file()}
