"""What the machine must offer, asked all at once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from kvmlab.cache import read_list
from kvmlab.errors import LabError
from kvmlab.paths import LAB_DIR, STATE
from kvmlab.run import run, say

INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_NEEDED = 1024


def missing_packages() -> list[str]:
    """Names from packages.txt that are not installed."""
    names = read_list(LAB_DIR / "packages.txt")
    told = run(
        ["dpkg-query", "--show", "--showformat", "${db:Status-Abbrev} ${Package}\\n", *names], check=False
    ).stdout
    there = {line.split()[1] for line in told.splitlines() if line.startswith("ii")}
    return [name for name in names if name not in there]


def require_root() -> None:
    """LabError unless this is root."""
    if os.geteuid() != 0:
        raise LabError("the lab needs root: it makes namespaces, mounts and containers", "run it as root or with sudo")


def check() -> None:
    """LabError that lists everything the lab lacks on this machine."""
    lacks = []
    missing = missing_packages()
    if missing:
        lacks.append(f"packages: {' '.join(missing)} (tests/lab/setup installs them)")
    if "overlay" not in Path("/proc/filesystems").read_text().split():
        if shutil.which("modprobe"):
            run(["modprobe", "overlay"], check=False)
        if "overlay" not in Path("/proc/filesystems").read_text().split():
            lacks.append("overlayfs in the kernel (CONFIG_OVERLAY_FS)")
    if not Path("/dev/net/tun").exists():
        lacks.append("/dev/net/tun (CONFIG_TUN; modprobe tun)")
    if not Path("/proc/self/ns/net").exists():
        lacks.append("network namespaces in the kernel (CONFIG_NET_NS)")
    if lacks:
        raise LabError("this machine lacks what the lab needs:\n  - " + "\n  - ".join(lacks))
    STATE.mkdir(parents=True, exist_ok=True)
    _raise_inotify()


def _raise_inotify() -> None:
    """Every systemd in every host takes some of root's inotify instances, and Debian allows 128."""
    if int(INOTIFY.read_text()) < INOTIFY_NEEDED:
        say(f"raising fs.inotify.max_user_instances to {INOTIFY_NEEDED} until the next reboot")
        INOTIFY.write_text(str(INOTIFY_NEEDED))
