# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent and the receiver together: a filesystem at work becomes an image, by real writes, a real freeze, real qemu-nbd.

Never a cutover that ends well: the agent would power off the machine that runs the test.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import p2v_agent
from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_folder import holding
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import P2vWish
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v import P2vJob
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_world import World
from ansible_collections.kvmops.fleet.plugins.plugin_utils import p2v_bundle

from . import disks

AT_REST = 64 * disks.MIB


class Writer:
    """Numbered records, each on the disk before `last` says so; and files that come and go beside them."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._over, self.last = folder, threading.Event(), 0
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        kept = os.open(str(self._folder / "records"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        while not self._over.wait(0.005):
            number = self.last + 1
            os.write(kept, b"%d %s\n" % (number, hashlib.sha256(b"%d" % number).hexdigest().encode()))
            os.fsync(kept)
            self.last = number
            if number % 20 == 0:
                (self._folder / ("churn%d" % (number // 20 % 5))).write_bytes(os.urandom(700_000))
            if number % 50 == 0:
                (self._folder / "churn2").unlink(missing_ok=True)
        os.close(kept)

    def end(self) -> None:
        self._over.set()
        self._thread.join()


class Receiver:
    """Runs on one disk, as the module does them; the agent is a process of its own."""

    def __init__(self, root: Path, disk: disks.Disk) -> None:
        self.root, self.disk, self.pool = root, disk, root / "pool"
        self.pool.mkdir()
        self.agent: Any = None
        self.image = self.pool / ("old1-%s.qcow2" % disk.name)

    def go(self, during: Callable[[P2vJob], None] = lambda job: None, **options: Any) -> Dict[str, Any]:
        wish = P2vWish("old1", "p", disks=(self.disk.name,), **options)
        with holding("old1", str(self.root / "run")) as folder, p2v_agent.listening(folder.socket) as server:
            dial = [sys.executable, "-I", folder.join, folder.socket]
            settings = {"run": wish.run, "dial": dial, "connections": 2, "disks": [self.disk.name]}
            words = [sys.executable, "-c", p2v_bundle.START]
            self.agent = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            self.agent.stdin.write(p2v_bundle.bundle(settings))
            self.agent.stdin.close()
            agent = p2v_agent.awaited(server, wish.run, 2, 30)
            try:
                world = World("old1", "qcow2", str(self.pool), folder.nbd, lambda progress: None)
                job = P2vJob(wish, world, agent)
                found = job.observe()
                plan = job.plan(found)
                during(job)
                outcome = job.apply(plan, found) if plan.changes else None
                return {"steps": plan.words, **job.report(plan, found, outcome)}
            finally:
                agent.bye()
                self.agent.wait(30)

    def looked_into(self, look: Callable[[Path], None]) -> None:
        """The image as a disk of its own, its filesystem checked and mounted without a change."""
        raw = self.root / "raw"
        disks.run("qemu-img", "convert", "-O", "raw", str(self.image), str(raw))
        disks.run("e2fsck", "-fn", str(raw))
        other = disks.Disk(raw, self.disk.size // disks.MIB)
        try:
            look(other.mount(other.node, self.root / "other", "ro"))
        finally:
            other.close()


@pytest.fixture(name="receiver")
def fixture_receiver(tmp_path: Path, disk: disks.Disk) -> Iterator[Receiver]:
    disks.run("mkfs.ext4", "-q", disk.node)
    disk.mount(disk.node, tmp_path / "here")
    disks.fill(tmp_path / "here")
    yield Receiver(tmp_path, disk)


@pytest.fixture(name="writer")
def fixture_writer(receiver: Receiver) -> Iterator[Writer]:
    writer = Writer(receiver.disk.mounted[0])
    yield writer
    writer.end()


def records(folder: Path) -> int:
    """How many there are; each is checked, and none may be missing."""
    lines = (folder / "records").read_bytes().splitlines()
    for number, line in enumerate(lines, 1):
        assert line == b"%d %s" % (number, hashlib.sha256(b"%d" % number).hexdigest().encode())
    return len(lines)


def test_a_filesystem_at_work_becomes_an_image_and_then_another(receiver: Receiver, writer: Writer) -> None:
    here = receiver.disk.mounted[0]
    (here / "file-at-rest").write_bytes(os.urandom(AT_REST))
    fixed = {path.name: path.read_bytes() for path in here.glob("file*")}
    acknowledged = writer.last

    def look(there: Path) -> None:
        assert {path.name: path.read_bytes() for path in there.glob("file*")} == fixed
        assert records(there) >= acknowledged

    told = receiver.go(max_downtime_s=5.0)
    receiver.looked_into(look)
    assert told["passes"][-1]["what"] == "last" and 0 < told["pause_s"] < 5
    assert AT_REST < told["passes"][0]["bytes"] < receiver.disk.size / 2
    acknowledged = writer.last
    again = receiver.go(max_downtime_s=5.0)
    receiver.looked_into(look)
    # However much the writer wrote meanwhile, what was at rest is not read again.
    assert again["passes"][0]["bytes"] < told["passes"][0]["bytes"] - AT_REST / 2
    seen = writer.last
    deadline = time.monotonic() + 10
    while writer.last < seen + 5:
        assert time.monotonic() < deadline, "the source does not serve any more"
        time.sleep(0.05)


def test_a_disk_that_nobody_wrote_to_is_no_change(receiver: Receiver) -> None:
    # A mounted ext4 marks its superblock at every freeze: there is always something new.
    receiver.disk.umount()
    receiver.go()
    before = receiver.image.stat()
    told = receiver.go()
    assert told["steps"] == ()
    assert receiver.image.stat().st_mtime_ns == before.st_mtime_ns


def test_an_agent_that_is_killed_ends_the_run_and_the_next_goes_on(receiver: Receiver, writer: Writer) -> None:
    with pytest.raises(HostError, match="connection ended|reset|Broken pipe"):
        receiver.go(lambda job: os.kill(receiver.agent.pid, signal.SIGKILL))
    assert not receiver.image.exists()
    acknowledged = writer.last
    receiver.go(max_downtime_s=5.0)
    receiver.looked_into(lambda there: assert_at_least(records(there), acknowledged))


def assert_at_least(found: int, wanted: int) -> None:
    assert found >= wanted
