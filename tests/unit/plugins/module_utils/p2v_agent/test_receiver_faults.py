# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can go wrong between the agent and the receiver, with real devices: the message, the source that serves on, the next run."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.progress import Progress

from . import chain, disks

MIB = disks.MIB
CUT = "connection ended|reset|Broken pipe"


@pytest.fixture(name="bare")
def fixture_bare(disk: disks.Disk, tmp_path: Path) -> Iterator[chain.Receiver]:
    """A receiver of a small disk without a filesystem, all of which is copied. `disk` is there for its lock."""
    small = disks.Disk(tmp_path / "bare.img", 24)
    with open(small.path, "r+b") as image:
        image.write(os.urandom(small.size))
    yield chain.Receiver(tmp_path, small)
    subprocess.run(["losetup", "--detach", small.node], check=False, stderr=subprocess.DEVNULL)


def unpublished(receiver: chain.Receiver) -> bool:
    return not [path for path in receiver.pool.iterdir() if not path.name.startswith(".") and path.is_file()]


def test_a_read_error_names_disk_and_byte_and_the_next_run_goes_on(bare: chain.Receiver) -> None:
    whole = bare.disk.path.read_bytes()

    def lose_the_end(job: Any) -> None:
        os.truncate(bare.disk.path, 20 * MIB)

    told = r"read %d bytes of %s at byte (\d+) on the source: Input/output error. The disk does not give" % (
        MIB, bare.disk.name,
    )  # fmt: skip
    with pytest.raises(HostError, match=told) as failure:
        bare.go(lose_the_end)
    # Each reader has its own part of the end.
    said = re.search(told, str(failure.value))
    assert said and int(said.group(1)) // MIB in (20, 21, 22, 23)
    assert unpublished(bare)
    bare.disk.path.write_bytes(whole)
    assert "go on with" in bare.go()["steps"][0]
    raw = bare.root / "raw"
    disks.run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(bare.image), str(raw))
    assert raw.read_bytes() == whole


def test_a_disk_that_grows_ends_the_run(bare: chain.Receiver) -> None:
    def grow(job: Any) -> None:
        os.truncate(bare.disk.path, 32 * MIB)
        disks.run("losetup", "--set-capacity", bare.disk.node)

    with pytest.raises(HostError, match="has %d bytes now and had %d.*from the beginning" % (32 * MIB, 24 * MIB)):
        bare.go(grow)
    assert unpublished(bare)


def test_a_disk_that_vanishes_ends_the_run(bare: chain.Receiver) -> None:
    with pytest.raises(HostError, match="%s.* on the source: the disk (is gone|ends at 0)" % bare.disk.name):
        bare.go(lambda job: disks.run("losetup", "--detach", bare.disk.node))
    assert unpublished(bare)


def test_an_agent_that_is_killed_ends_the_run_and_the_next_goes_on(
    receiver: chain.Receiver, writer: chain.Writer
) -> None:
    with pytest.raises(HostError, match=CUT):
        receiver.go(lambda job: os.kill(receiver.agent.pid, signal.SIGKILL))
    assert unpublished(receiver)
    expect_all_records(receiver, writer)


def test_an_agent_that_is_killed_while_frozen_leaves_a_source_that_serves(
    receiver: chain.Receiver, writer: chain.Writer
) -> None:
    stood: List[bool] = []

    def kill_once_frozen(job: Any) -> None:
        freeze = job.agent.freeze

        def and_kill(limit_s: float) -> Any:
            told = freeze(limit_s)
            seen = writer.last
            time.sleep(0.3)
            stood.append(writer.last <= seen + 1)
            os.kill(receiver.agent.pid, signal.SIGKILL)
            return told

        job.agent.freeze = and_kill

    with pytest.raises(HostError, match="(%s).*The source serves as before" % CUT):
        receiver.go(kill_once_frozen, max_downtime_s=5.0)
    assert stood == [True] and unpublished(receiver)
    writer.goes_on()
    expect_all_records(receiver, writer)


def test_a_connection_that_is_cut_in_the_middle_is_gone_on_with(receiver: chain.Receiver, writer: chain.Writer) -> None:
    (receiver.disk.mounted[0] / "file-at-rest").write_bytes(os.urandom(48 * MIB))
    os.sync()
    whole: List[int] = []
    ways: List[int] = []

    def note(job: Any) -> None:
        ways.extend(carriers(receiver))
        whole.append(sum(length for dummy, length in job._look.found.differing[receiver.disk.name]))

    def cut(progress: Progress) -> None:
        if progress.phase == "copy" and progress.done_mib and progress.remaining_mib < 16:
            while ways:
                os.kill(ways.pop(), signal.SIGKILL)

    receiver.tell = cut
    with pytest.raises(HostError, match="(%s).*what came is kept" % CUT):
        receiver.go(note, max_downtime_s=5.0, bandwidth_mib_s=40.0)
    assert unpublished(receiver) and whole and not ways
    writer.goes_on()
    receiver.tell = lambda progress: None
    told = expect_all_records(receiver, writer)
    assert "go on with" in told["steps"][0]
    # What the writer changed meanwhile is read again, of what was at rest at most the last 16 MiB.
    assert told["passes"][0]["bytes"] < whole[0] - 24 * MIB


def carriers(receiver: chain.Receiver) -> List[int]:
    """What the agent dialled with, in the place of ssh: its control connection and two for data."""
    found = []
    for pid in Path("/proc/%d/task/%d/children" % (receiver.agent.pid, receiver.agent.pid)).read_text().split():
        with contextlib.suppress(FileNotFoundError):
            if b"join.py" in Path("/proc/%s/cmdline" % pid).read_bytes():
                found.append(int(pid))
    return found


def test_a_pool_that_fills_up_is_told_and_gone_on_with(
    receiver: chain.Receiver, writer: chain.Writer, tmp_path: Path
) -> None:
    (receiver.disk.mounted[0] / "file-at-rest").write_bytes(os.urandom(48 * MIB))
    os.sync()
    store = disks.Disk(tmp_path / "store.img", 320)
    try:
        disks.run("mkfs.ext4", "-q", "-m", "0", store.node)
        store.mount(store.node, receiver.pool)

        def fill(job: Any) -> None:
            room = os.statvfs(receiver.pool)
            disks.run("fallocate", "-l", str(room.f_bavail * room.f_frsize - 16 * MIB), str(receiver.pool / ".filler"))

        with pytest.raises(
            HostError, match="this host: No space left on device. Make room in the pool.*what came is kept"
        ):
            receiver.go(fill, max_downtime_s=5.0)
        assert unpublished(receiver)
        writer.goes_on()
        (receiver.pool / ".filler").unlink()
        told = expect_all_records(receiver, writer)
        assert "go on with" in told["steps"][0]
    finally:
        store.close()


def test_events_that_the_kernel_dropped_are_made_good_by_hashes(receiver: chain.Receiver, writer: chain.Writer) -> None:
    lost: List[int] = []

    def drop(job: Any) -> None:
        written = job.agent.written

        def and_note() -> Any:
            told = written()
            lost.append(told.lost)
            return told

        job.agent.written = and_note
        instance = next(Path("/sys/kernel/tracing/instances").glob("kvmops-p2v-*-%d" % receiver.agent.pid))
        (instance / "buffer_size_kb").write_text("4")
        os.kill(receiver.agent.pid, signal.SIGSTOP)
        try:
            deadline = time.monotonic() + 20
            while not overrun(instance):
                assert time.monotonic() < deadline, "the kernel keeps all events in 4 KiB"
                time.sleep(0.05)
        finally:
            os.kill(receiver.agent.pid, signal.SIGCONT)

    with disks.tracefs():
        receiver.go(drop, max_downtime_s=5.0)
    assert lost[0] > 0
    receiver.looked_into(lambda there: expect_at_least(chain.records(there), 1))


def overrun(instance: Path) -> bool:
    stats = "".join(path.read_text() for path in instance.glob("per_cpu/cpu*/stats"))
    return any(line.startswith("overrun: ") and line != "overrun: 0" for line in stats.splitlines())


def expect_all_records(receiver: chain.Receiver, writer: chain.Writer) -> Any:
    """The next run: every record that was acknowledged before it is in its image."""
    acknowledged = writer.last
    told = receiver.go(max_downtime_s=5.0)
    receiver.looked_into(lambda there: expect_at_least(chain.records(there), acknowledged))
    return told


def expect_at_least(found: int, wanted: int) -> None:
    assert found >= wanted
