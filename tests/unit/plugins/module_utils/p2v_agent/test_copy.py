# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the agent says of a disk is all that is needed to make another of it: for each filesystem, on real devices."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.p2v_agent import freezer, ranges, space

from . import disks, receiving

MIB = disks.MIB
START = 1
LENGTH = 320

MAKE = {
    "ext4": ("mkfs.ext4", "-q"),
    "ext3": ("mkfs.ext3", "-q"),
    "xfs": ("mkfs.xfs", "-q"),
    "btrfs": ("mkfs.btrfs", "-q"),
    "vfat": ("mkfs.vfat",),
}
HOW = {"ext4": "getfsmap", "ext3": "getfsmap", "xfs": "getfsmap", "btrfs": "btrfs", "vfat": "all"}
# What this machine's kernel can mount; any can ext4.
MOUNTABLE = [kind for kind in MAKE if kind == "ext4" or disks.known(kind)]


def made(disk: disks.Disk, kind: str, *more: str) -> str:
    if not disks.tool(MAKE[kind][0]):
        pytest.skip("%s is not on this machine" % MAKE[kind][0])
    node = disk.partition(1, START, LENGTH)
    disks.run(*MAKE[kind], *more, node)
    return node


def copied(agent: receiving.Agent, disk: disks.Disk, path: Path, wanted: Any, codings: list[int]) -> int:
    """Read what is wanted into an image, whose rest is 0xAA: what was wrongly left out is no zero by luck."""
    if not path.exists():
        with open(path, "wb") as image:
            for dummy in range(disk.size // MIB):
                image.write(b"\xaa" * MIB)
    total = 0
    with open(path, "r+b") as image:
        for offset, data in agent.data[0].read(disk.name, wanted, codings):
            os.pwrite(image.fileno(), data, offset)
            total += len(data)
    return total


def compared(disk: disks.Disk, image: Path, tmp_path: Path, kind: str) -> None:
    """The partition of the image has the files of the disk, and its filesystem is whole."""
    here = disks.contents(disk.mounted[0])
    disk.umount()
    other = disks.Disk(image, disk.size // MIB)
    try:
        node = other.partition(1, START, LENGTH)
        # xfs knows the original, as long as a mount namespace that somebody else made meanwhile still holds it.
        options = "ro,nouuid" if kind == "xfs" else "ro"
        there = disks.contents(other.mount(node, tmp_path / "there", options))
    finally:
        other.close()
    assert sorted(there) == sorted(here)
    assert there == here


@pytest.mark.parametrize("kind", MOUNTABLE)
def test_the_copy_of_a_filesystem_in_use_has_its_files(
    disk: disks.Disk, agent: Callable[..., Any], tmp_path: Path, kind: str
) -> None:
    point = disk.mount(made(disk, kind), tmp_path / "here")
    disks.fill(point)
    running = agent(disk)
    running.control.ask("track", disks=[disk.name])
    running.control.ask("sync")
    told = running.control.ask("map", disk=disk.name)
    (area,) = [area for area in told["areas"] if area["what"].startswith(kind)]
    assert area["how"] == HOW[kind]
    assert (area["offset"], area["length"]) == (START * MIB, LENGTH * MIB)
    if kind != "vfat":
        assert area["used_bytes"] < LENGTH * MIB / 2
    image = tmp_path / "copy.img"
    copied(running, disk, image, told["used"], [0, 1, 2])
    # Meanwhile it was written to; what was freed is taken by others.
    for name in ("file1", "file4"):
        (point / name).unlink()
    (point / "file2").write_bytes(os.urandom(MIB))
    (point / "new").write_bytes(os.urandom(8 * MIB))
    frozen = running.control.ask("freeze", mounts=[str(point)], limit_s=20)
    assert frozen["frozen"] == ([] if kind == "vfat" else [str(point)])
    if kind == "vfat":
        running.control.ask("sync")
    written = running.control.ask("written")
    assert written["lost"] == 0
    assert sum(length for dummy, length in written["disks"][disk.name]) >= 8 * MIB
    copied(running, disk, image, written["disks"][disk.name], [0, 1, 2])
    running.control.ask("thaw")
    assert "ended" in running.end()
    compared(disk, image, tmp_path, kind)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_the_copy_of_a_filesystem_at_rest_has_its_files(
    disk: disks.Disk, agent: Callable[..., Any], tmp_path: Path, kind: str
) -> None:
    node = made(disk, kind)
    disks.fill(disk.mount(node, tmp_path / "here"))
    disk.umount()
    running = agent(disk)
    told = running.control.ask("map", disk=disk.name)
    (area,) = [area for area in told["areas"] if area["what"].startswith(kind)]
    assert area["how"] == {"ext4": "dumpe2fs", "xfs": "xfs_db"}[kind]
    assert area["used_bytes"] < LENGTH * MIB / 2
    copied(running, disk, tmp_path / "copy.img", told["used"], [0])
    disk.mount(node, tmp_path / "here")
    compared(disk, tmp_path / "copy.img", tmp_path, kind)


def test_an_old_kernel_s_xfs_is_asked_only_after_it_has_written_all(disk: disks.Disk, tmp_path: Path) -> None:
    """Without the settling, xfs_db calls free what is in use."""
    node = made(disk, "xfs")
    point = disk.mount(node, tmp_path / "here")
    disks.fill(point)
    true = space.getfsmap(str(point), os.stat(node).st_rdev)
    early = space.xfs_db(node)
    assert ranges.total(ranges.subtracted(early, true)) > 4 * MIB
    freezes = freezer.Freezer()
    try:
        freezes.settle(str(point))
    finally:
        freezes.end()
    space.drop_cache(node)
    late = space.xfs_db(node)
    # What was deleted is freed behind its back: ask again.
    true = space.getfsmap(str(point), os.stat(node).st_rdev)
    # A few blocks are kept for the trees of free space, by both told in their own way.
    assert ranges.total(ranges.subtracted(late, true)) < MIB
    assert ranges.total(late) == pytest.approx(ranges.total(true), abs=MIB)


def test_a_filesystem_that_was_not_closed_is_copied_whole(
    disk: disks.Disk, agent: Callable[..., Any], tmp_path: Path
) -> None:
    node = made(disk, "ext4")
    disks.fill(disk.mount(node, tmp_path / "here"))
    lost_power = disks.Disk(tmp_path / "crashed.img", 400)
    try:
        with open(disk.path, "rb") as source, open(lost_power.path, "r+b") as target:
            target.write(source.read())
        lost_power.partition(1, START, LENGTH)
        told = agent(lost_power).control.ask("map", disk=lost_power.name)
    finally:
        lost_power.close()
    (area,) = [area for area in told["areas"] if area["what"].startswith("ext4")]
    assert area["how"] == "all"


def test_a_filesystem_whose_free_space_nobody_tells_is_copied_whole(
    disk: disks.Disk, agent: Callable[..., Any], tmp_path: Path
) -> None:
    if not disks.tool("mkfs.vfat"):
        pytest.skip("mkfs.vfat is not on this machine")
    node = disk.partition(1, START, 40)
    disks.run("mkfs.vfat", node)
    running = agent(disk)
    told = running.control.ask("map", disk=disk.name)
    (area,) = [area for area in told["areas"] if area["what"].startswith("vfat")]
    assert area["how"] == "all"
    read = [data for dummy, data in running.data[0].read(disk.name, [[area["offset"], area["length"]]], [0, 1, 2])]
    assert b"".join(read) == Path(node).read_bytes()


def test_swap_space_and_large_gaps_are_left_out(disk: disks.Disk, agent: Callable[..., Any], tmp_path: Path) -> None:
    disks.run("mkswap", disk.partition(1, 1, 64))
    disk.partition(2, 300, 10)
    told = agent(disk).control.ask("map", disk=disk.name)
    hows = {area["what"]: (area["how"], area["used_bytes"]) for area in told["areas"]}
    assert hows["swap %sp1" % disk.name] == ("skipped: swap", 65536)
    assert hows["unknown %sp2" % disk.name] == ("all", 10 * MIB)
    # Behind the swap space 235 MiB, at the end 90 MiB; of each gap the first 16 and the last 2 MiB are copied.
    assert sum(length for dummy, length in told["used"]) == MIB + 65536 + (10 + 2 * 18) * MIB


def test_a_swap_file_is_left_out_and_what_is_written_to_it_is_nobodys(
    disk: disks.Disk, agent: Callable[..., Any], tmp_path: Path
) -> None:
    point = disk.mount(made(disk, "ext4"), tmp_path / "here")
    swap = point / "swap"
    swap.write_bytes(bytes(64 * MIB))
    swap.chmod(0o600)
    os.sync()
    disks.run("mkswap", str(swap))
    disks.run("swapon", str(swap))
    try:
        running = agent(disk)
        with_swap = running.control.ask("map", disk=disk.name)
    finally:
        disks.run("swapoff", str(swap))
    without = running.control.ask("map", disk=disk.name)
    used = [sum(length for dummy, length in told["used"]) for told in (with_swap, without)]
    assert used[1] - used[0] == pytest.approx(64 * MIB, abs=MIB)


@pytest.mark.parametrize("coding", [receiving.RAW, receiving.ZLIB, receiving.ZERO, receiving.ZSTD])
def test_each_coding_gives_the_bytes_of_the_disk(
    disk: disks.Disk, agent: Callable[..., Any], tmp_path: Path, coding: int
) -> None:
    with open(disk.path, "r+b") as image:
        image.seek(MIB)
        image.write(b"words of a log, again and again\n" * 40000 + os.urandom(3 * MIB))
        image.seek(0)
        before = image.read(8 * MIB)
    running = agent(disk)
    if coding not in running.control.hello["codings"]:
        pytest.skip("no libzstd here")
    asked = [[512, 3 * MIB], [5 * MIB - 512, 3 * MIB]]
    got = list(running.data[0].chunks("read", disk=disk.name, ranges=asked, codings=[receiving.RAW, coding]))
    assert coding in {found for dummy, dummy, found, dummy, dummy in got}
    for offset, length, found, dummy, coded in got:
        assert receiving.decoded(found, coded, length) == before[offset : offset + length]
        assert offset // MIB == (offset + length - 1) // MIB


def test_a_read_sees_what_went_past_the_cache(disk: disks.Disk, agent: Callable[..., Any]) -> None:
    running = agent(disk)
    (first,) = running.data[0].read(disk.name, [[0, 4096]], [0])
    with open(disk.node, "rb") as cached:
        cached.read(4096)
        with open(disk.path, "r+b", buffering=0) as image:
            os.pwrite(image.fileno(), b"new" + bytes(4093), 0)
        (second,) = running.data[0].read(disk.name, [[0, 4096]], [0])
    assert first[1][:3] == bytes(3)
    assert second[1][:3] == b"new"


def test_what_cannot_be_read_is_told_with_its_place(disk: disks.Disk, agent: Callable[..., Any]) -> None:
    running = agent(disk)
    os.truncate(disk.path, 4 * MIB)
    got = list(running.data[0].chunks("read", disk=disk.name, ranges=[[3 * MIB, 2 * MIB]], codings=[0]))
    assert [(offset, coding) for offset, dummy, coding, dummy, dummy in got] == [
        (3 * MIB, receiving.RAW),
        (4 * MIB, receiving.READ_ERROR),
    ]
    assert got[1][3] == bytes(32)
    assert b'"errno": 5' in got[1][4]


def test_only_hashes_are_sent_for_a_digest(disk: disks.Disk, agent: Callable[..., Any]) -> None:
    got = list(agent(disk).data[0].chunks("digest", disk=disk.name, ranges=[[0, 2 * MIB], [3 * MIB + 512, 1024]]))
    assert [chunk[:3] for chunk in got] == [(0, MIB, 4), (MIB, MIB, 4), (3 * MIB + 512, 1024, 4)]
    assert {chunk[4] for chunk in got} == {b""}


def test_a_digest_tells_the_hashes_of_parts_on_demand(disk: disks.Disk, agent: Callable[..., Any]) -> None:
    with open(disk.path, "r+b") as image:
        image.write(os.urandom(2 * MIB))
        image.seek(0)
        whole = image.read(2 * MIB)
    running, asked = agent(disk), [[512, 3 * 16384 + 512], [MIB, MIB]]
    got = list(running.data[0].chunks("digest", disk=disk.name, ranges=asked, unit=16384))
    for (offset, length, coding, digest, coded), (start, size) in zip(got, asked, strict=True):
        assert (offset, length, coding) == (start, size, receiving.HASH_ONLY)
        data = whole[start : start + size]
        parts = [data[at : at + 16384] for at in range(0, size, 16384)]
        assert digest == hashlib.sha256(data).digest()
        assert coded == b"".join(hashlib.sha256(part).digest() for part in parts)
    with pytest.raises(AssertionError, match="parts of 512 bytes"):
        list(running.data[0].chunks("digest", disk=disk.name, ranges=[[0, 4096]], unit=512))


def test_the_bandwidth_is_kept(disk: disks.Disk, agent: Callable[..., Any]) -> None:
    import time

    with open(disk.path, "r+b") as image:
        image.write(os.urandom(6 * MIB))
    running = agent(disk)
    running.control.ask("limit", bandwidth_mib_s=1)
    began = time.monotonic()
    list(running.data[0].read(disk.name, [[0, 4 * MIB]], [0]))
    # It may go ahead by a quarter of a second's worth.
    assert time.monotonic() - began >= 3.5
    running.control.ask("limit", bandwidth_mib_s=None)
    began = time.monotonic()
    list(running.data[0].read(disk.name, [[0, 4 * MIB]], [0]))
    assert time.monotonic() - began < 3.5


@pytest.mark.parametrize(
    ("do", "more", "said"),
    [
        ("fly", {}, "does not know"),
        ("map", {"disk": "sdz"}, "no such disk"),
        ("track", {"disks": ["sdz"]}, "no such disk"),
        ("written", {}, "nothing is tracked"),
        ("map", {}, "KeyError"),
        ("freeze", {"mounts": ["/no/such/place"], "limit_s": 5}, "nothing on these disks"),
        ("freeze", {"mounts": ["/"], "limit_s": 5}, "nothing on these disks"),
    ],
)
def test_a_request_that_cannot_be_met_says_why(
    disk: disks.Disk, agent: Callable[..., Any], do: str, more: dict[str, Any], said: str
) -> None:
    with pytest.raises(receiving.Refused, match=said):
        agent(disk).control.ask(do, **more)


def test_what_is_no_frame_ends_the_agent(disk: disks.Disk, agent: Callable[..., Any]) -> None:
    running = agent(disk)
    running.control.connection.sendall(struct.pack(">cI", b"x", 3) + b"abc")
    assert running.process.wait(20) == 0
    assert b"no frame" in running.process.stdout.read()
