"""Small filesystems of their own inside a host, and filling them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from kvmlab import breakable
from kvmlab.errors import LabError
from kvmlab.inside import inside
from kvmlab.paths import HostPaths
from kvmlab.run import run, say
from kvmlab.state import LabRecord, Volume

FILLER = ".kvmlab-filler"
# Nobody means to fill the disk of the outer machine, on which every host's root filesystem lies.
LARGEST_MIB = 16 * 1024
SLACK_MIB = 4


def add(lab: LabRecord, host: str, mountpoint: str, mib: int, *, can_break: bool = False) -> None:
    """Mount a new ext4 of that size inside a running host; it comes back after a power-off.

    can_break: its disk fails when told to (see `break_disk`).
    """
    lab.running(host)
    if not mountpoint.startswith("/") or ".." in mountpoint.split("/") or mountpoint == "/":
        raise LabError(f"volume {mountpoint!r}: an absolute path inside the host, not / itself")
    if not 8 <= mib <= LARGEST_MIB:
        raise LabError(f"--mib {mib}: between 8 and {LARGEST_MIB}")
    there = [volume for volume in lab.hosts[host].volumes if volume.mountpoint == mountpoint]
    if there and there[0].can_break != can_break:
        raise LabError(f"{mountpoint} on {host} is a volume of the other kind already", "choose another mountpoint")
    if there:
        say(f"{mountpoint} on {host} is a volume already; nothing to do")
        return
    base = lab.paths.host(host).volumes
    base.mkdir(exist_ok=True)
    image = base / (re.sub(r"[^A-Za-z0-9]+", "-", mountpoint).strip("-") + ".ext4")
    run(["truncate", f"--size={mib}M", image])
    run(["mkfs.ext4", "-q", "-F", "-m", "0", *(breakable.FORMAT_OPTIONS if can_break else ()), image])
    device = breakable.loop_over(breakable.serve(image) if can_break else image, direct=can_break)
    volume = Volume(mountpoint, str(image), device, can_break)
    # The device is opened outside and passed by number: the host's /dev has no loop devices.
    number = run(["lsblk", "--noheadings", "--nodeps", "--output", "MAJ:MIN", volume.device]).stdout.strip()
    major, _, minor = number.partition(":")
    node = f"/dev/kvmlab-{minor}"
    run(inside(lab, host, ["mkdir", "-p", mountpoint]))
    run(inside(lab, host, ["mknod", node, "b", major, minor]))
    run(inside(lab, host, ["mount", "-t", "ext4", node, mountpoint]))
    lab.hosts[host].volumes.append(volume)
    lab.save()
    say(f"{host} has {mib} MiB of its own at {mountpoint}{', on a disk that can be broken' if can_break else ''}")


def attach(paths: HostPaths, volume: Volume) -> None:
    """Mount a volume below a host's root filesystem before the host boots."""
    target = paths.root / volume.mountpoint.lstrip("/")
    target.mkdir(parents=True, exist_ok=True)
    run(["mount", "-t", "ext4", volume.device, target])


def detach(paths: HostPaths, volume: Volume) -> None:
    """Undo `attach`, if that is how the volume was mounted."""
    target = paths.root / volume.mountpoint.lstrip("/")
    if os.path.ismount(target):
        run(["umount", target])


def fill(lab: LabRecord, host: str, path: str, leave_mib: int) -> int:
    """Take the free space of the filesystem of `path` but for `leave_mib`; returns what is left, in MiB."""
    size_mib, free_kib = _space(lab, host, path)
    if size_mib > LARGEST_MIB:
        raise LabError(
            f"{path} on {host} lies on a filesystem of {size_mib} MiB, which is the outer machine's own",
            f"make a small one first: tests/lab/lab volume {host} {path} --mib 200{lab.flag}",
        )
    if leave_mib * 1024 > free_kib:
        raise LabError(f"{path} on {host} has only {free_kib // 1024} MiB left, fewer than --leave-mib {leave_mib}")
    filler = f"{path.rstrip('/')}/{FILLER}"
    quick_mib = free_kib // 1024 - leave_mib - SLACK_MIB
    if quick_mib > 0:
        run(inside(lab, host, ["fallocate", "--length", f"{quick_mib}MiB", filler]))
    # The last bit in blocks, as the filesystem needs some for itself; with nothing to leave, until nothing more fits.
    rest_kib = _space(lab, host, path)[1] - leave_mib * 1024
    count = [f"count={max(rest_kib, 0) // 4}"] if leave_mib else []
    run(
        inside(lab, host, ["dd", "if=/dev/zero", f"of={filler}", "bs=4k", "oflag=append", "conv=notrunc", *count]),
        check=False,
    )
    return _space(lab, host, path)[1] // 1024


def unfill(lab: LabRecord, host: str, path: str) -> None:
    """Give the space back."""
    run(inside(lab, host, ["rm", "-f", f"{path.rstrip('/')}/{FILLER}"]))


def break_disk(lab: LabRecord, host: str, mountpoint: str, how: str, kib_s: int = 0) -> None:
    """Let the disk below a volume fail; see breakable.HOWS. An empty `how` mends it."""
    found = [volume for volume in lab.hosts[lab.host(host).name].volumes if volume.mountpoint == mountpoint]
    if not found or not found[0].can_break:
        raise LabError(
            f"{mountpoint} on {host} is no volume that can be broken",
            f"make one first: tests/lab/lab volume {host} {mountpoint} --breakable{lab.flag}",
        )
    breakable.set_fault(Path(found[0].image), how, kib_s)


def _space(lab: LabRecord, host: str, path: str) -> tuple[int, int]:
    """Size in MiB and free room in KiB of the filesystem of a path."""
    size, free = run(inside(lab, host, ["df", "--block-size=1K", "--output=size,avail", path])).stdout.split()[-2:]
    return int(size) // 1024, int(free)
