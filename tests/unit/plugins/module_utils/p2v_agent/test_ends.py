# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""However a run ends, the source is as it was: thawed in time, nothing traced, no file, no process."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from . import disks, receiving

# In a mount namespace of its own: where a kernel traces, tracefs need not be mounted.
INSTANCES = "mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null; ls /sys/kernel/tracing/instances"


class Writer:
    """Writes to a filesystem again and again; `count` stands still while it is frozen."""

    def __init__(self, point: Path) -> None:
        self.count = 0
        self._point, self._over = point, threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        while not self._over.wait(0.01):
            with open(self._point / "records", "ab") as kept:
                kept.write(b"record\n")
                os.fsync(kept.fileno())
            self.count += 1

    def stands_still(self, seconds: float = 0.5) -> bool:
        before = self.count
        time.sleep(seconds)
        return self.count == before

    def end(self) -> None:
        """Ends also when a test failed and left the filesystem frozen; thawing what is not frozen fails, and may."""
        self._over.set()
        subprocess.run(["fsfreeze", "--unfreeze", str(self._point)], check=False, stderr=subprocess.DEVNULL)
        self._thread.join()


def within(seconds: float, question: Callable[[], Any], what: str) -> float:
    """Seconds until the answer is true."""
    began = time.monotonic()
    while not question():
        assert time.monotonic() - began < seconds, "not so after %s s: %s" % (seconds, what)
        time.sleep(0.05)
    return time.monotonic() - began


def instances() -> list[str]:
    """What the kernel still traces for our runs."""
    told = disks.run("unshare", "--mount", "sh", "-c", INSTANCES)
    return [name for name in told.split() if name.startswith("kvmops-p2v-test-%d-" % os.getpid())]


def lives(pid: int) -> bool:
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii") as told:
            return told.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def folders() -> list[str]:
    return [name for name in os.listdir("/dev/shm") if name.startswith("kvmops-p2v-test-%d-" % os.getpid())]


@pytest.fixture(name="point")
def fixture_point(disk: disks.Disk, tmp_path: Path) -> Path:
    node = disk.partition(1, 1, 300)
    disks.run("mkfs.ext4", "-q", node)
    return disk.mount(node, tmp_path / "here")


@pytest.fixture(name="writer")
def fixture_writer(point: Path) -> Iterator[Writer]:
    made = Writer(point)
    yield made
    made.end()


ENDS = {
    "agent killed": lambda agent: os.kill(agent.status["pid"], signal.SIGKILL),
    "agent asked to end": lambda agent: os.kill(agent.status["pid"], signal.SIGTERM),
    "agent stopped": lambda agent: os.kill(agent.status["pid"], signal.SIGSTOP),
    "control connection gone": lambda agent: agent.control.close(),
    "nothing heard": lambda agent: None,
    "bye": lambda agent: agent.control.ask("bye"),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_frozen_filesystem_is_thawed(
    disk: disks.Disk, agent: Callable[..., Any], point: Path, writer: Writer, end: str
) -> None:
    running = agent(disk)
    running.control.ask("track", disks=[disk.name])
    assert len(instances()) == 1
    running.control.ask("freeze", mounts=[str(point)], limit_s=3)
    assert writer.stands_still()
    before = writer.count
    ENDS[end](running)
    assert within(10, lambda: writer.count > before, "the thaw") <= 10
    if end == "agent stopped":
        os.kill(running.status["pid"], signal.SIGCONT)
    running.end()
    pids = (running.status["pid"], running.status["watchdog"])
    within(20, lambda: not any(lives(pid) for pid in pids), "the end of both processes")
    assert instances() == []
    assert folders() == []


def test_the_agent_thaws_when_its_watchdog_is_killed(
    disk: disks.Disk, agent: Callable[..., Any], point: Path, writer: Writer
) -> None:
    running = agent(disk)
    running.control.ask("track", disks=[disk.name])
    running.control.ask("freeze", mounts=[str(point)], limit_s=30)
    assert writer.stands_still()
    before = writer.count
    os.kill(running.status["watchdog"], signal.SIGKILL)
    within(5, lambda: writer.count > before, "the thaw, although nothing is asked")
    within(5, lambda: not lives(running.status["pid"]), "the end of the agent")
    assert (instances(), folders()) == ([], [])


def test_the_agent_thaws_when_its_watchdog_does_not_answer(
    disk: disks.Disk, agent: Callable[..., Any], point: Path, writer: Writer
) -> None:
    running = agent(disk)
    running.control.ask("freeze", mounts=[str(point)], limit_s=2)
    os.kill(running.status["watchdog"], signal.SIGSTOP)
    assert writer.stands_still()
    before = writer.count
    # It ends in either case, perhaps before it has answered.
    with pytest.raises((receiving.Refused, EOFError)):
        running.control.ask("alive")
    within(5, lambda: writer.count > before, "the thaw")
    within(5, lambda: not lives(running.status["pid"]), "the end of the agent")
    assert folders() == []


def test_alive_keeps_it_frozen(disk: disks.Disk, agent: Callable[..., Any], point: Path, writer: Writer) -> None:
    running = agent(disk)
    running.control.ask("freeze", mounts=[str(point)], limit_s=1.5)
    for dummy in range(5):
        assert writer.stands_still(0.6)
        assert running.control.ask("alive") == {"frozen": True}
    running.control.ask("thaw")
    assert not writer.stands_still()
    assert running.control.ask("alive") == {"frozen": False}


def test_all_or_nothing_is_frozen(
    disk: disks.Disk, agent: Callable[..., Any], point: Path, writer: Writer, tmp_path: Path
) -> None:
    running = agent(disk)
    other = disk.partition(2, 310, 64)
    disks.run("mkfs.ext4", "-q", other)
    there = disk.mount(other, tmp_path / "there")
    disks.run("fsfreeze", "--freeze", str(there))
    try:
        with pytest.raises(receiving.Refused, match="freezing .*there"):
            running.control.ask("freeze", mounts=[str(point), str(there)], limit_s=10)
        assert not writer.stands_still()
        with pytest.raises(receiving.Refused, match="freezing .*there.*something else has frozen it"):
            running.control.ask("freeze", mounts=[str(there)], limit_s=10)
    finally:
        # What somebody else froze is still frozen: this fails when it is not.
        disks.run("fsfreeze", "--unfreeze", str(there))
    assert running.control.ask("freeze", mounts=None, limit_s=10)["frozen"] == [str(there), str(point)]
    running.control.ask("thaw")


def test_a_second_agent_clears_what_a_killed_one_left(disk: disks.Disk, agent: Callable[..., Any]) -> None:
    first = agent(disk)
    first.control.ask("track", disks=[disk.name])
    os.kill(first.status["watchdog"], signal.SIGKILL)
    os.kill(first.status["pid"], signal.SIGKILL)
    first.end()
    os.unlink(first.listener_path)
    within(5, lambda: not lives(first.status["pid"]), "the death of the first")
    second = agent(disk)
    assert len(folders()) == 1
    assert second.control.ask("track", disks=[disk.name])["boot_id"]
    assert second.control.ask("written")["lost"] == 0
    assert len(instances()) == 1


def test_two_agents_see_the_same_writes(disk: disks.Disk, agent: Callable[..., Any], point: Path) -> None:
    first = agent(disk)
    first.control.ask("track", disks=[disk.name])
    os.unlink(first.listener_path)
    second = agent(disk)
    second.control.ask("track", disks=[disk.name])
    (point / "file").write_bytes(bytes(1000000))
    os.sync()
    for running in (second, first):
        found = running.control.ask("written")
        assert found["lost"] == 0
        assert sum(length for dummy, length in found["disks"][disk.name]) >= 1000000


def test_services_that_were_stopped_are_named_when_they_are_unknown(
    disk: disks.Disk, agent: Callable[..., Any]
) -> None:
    with pytest.raises(receiving.Refused, match="no-such-service"):
        agent(disk).control.ask("services", stop=["no-such-service"])


def test_the_agent_goes_on_without_whoever_started_it(disk: disks.Disk, agent: Callable[..., Any]) -> None:
    running = agent(disk, detach=True)
    assert running.process.wait(10) == 0
    assert running.control.ask("describe")["disks"][0]["name"] == disk.name
    pid = running.status["pid"]
    assert lives(pid)
    running.end()
    within(10, lambda: not lives(pid), "the end of the agent")
    assert folders() == []


def test_memory_is_bounded(disk: disks.Disk, agent: Callable[..., Any], point: Path) -> None:
    """Ranges without end do not make it grow: a hundred thousand of them, asked for and read."""
    running = agent(disk)
    wanted = [[number * 4096, 512] for number in range(80000)]
    assert sum(1 for chunk in running.data[0].chunks("digest", disk=disk.name, ranges=wanted)) == len(wanted)
    with open("/proc/%d/status" % running.status["pid"], encoding="ascii") as told:
        peak = next(int(line.split()[1]) for line in told if line.startswith("VmHWM"))
    assert peak < 120 * 1024
