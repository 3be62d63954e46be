# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent and the receiver together, as the module has them: real writes, real freezes, real qemu-nbd.

Never a cutover that ends well: the agent would power off the machine that runs the test.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict

from ansible_collections.kvmops.fleet.plugins.module_utils.host import p2v_agent
from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_folder import holding
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import P2vWish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.progress import Progress
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v import P2vJob
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_world import World
from ansible_collections.kvmops.fleet.plugins.plugin_utils import p2v_bundle

from . import disks


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

    def goes_on(self) -> None:
        """Five more records within ten seconds."""
        seen, deadline = self.last, time.monotonic() + 10
        while self.last < seen + 5:
            assert time.monotonic() < deadline, "the source does not serve any more"
            time.sleep(0.05)

    def end(self) -> None:
        """Ends also when a test failed and left the filesystem frozen; thawing what is not frozen fails, and may."""
        self._over.set()
        subprocess.run(["fsfreeze", "--unfreeze", str(self._folder)], check=False, stderr=subprocess.DEVNULL)
        self._thread.join()


class Receiver:
    """Runs on one disk, as the module does them; the agent is a process of its own."""

    def __init__(self, root: Path, disk: disks.Disk) -> None:
        self.root, self.disk, self.pool = root, disk, root / "pool"
        self.pool.mkdir()
        self.agent: Any = None
        # Called with each progress that the user would see.
        self.tell: Callable[[Progress], None] = lambda progress: None
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
                world = World("old1", "qcow2", str(self.pool), folder.nbd, self.tell)
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


def records(folder: Path) -> int:
    """How many there are; each is checked, and none may be missing."""
    lines = (folder / "records").read_bytes().splitlines()
    for number, line in enumerate(lines, 1):
        assert line == b"%d %s" % (number, hashlib.sha256(b"%d" % number).hexdigest().encode())
    return len(lines)
