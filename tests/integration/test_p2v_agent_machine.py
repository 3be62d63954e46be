# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The source agent on a computer as it is: its root, a logical volume on a SATA disk, is copied while it is in use."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shlex
import subprocess
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Deque, Dict, Iterator, List

import pytest

from ansible_collections.kvmops.fleet.plugins.plugin_utils import p2v_bundle

from .fleet import LAB, ROOT, Lab, until

pytestmark = pytest.mark.machine

HELPER = ROOT / "tests/unit/plugins/module_utils/p2v_agent/receiving.py"
spec = importlib.util.spec_from_file_location("receiving", HELPER)
receiving: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(receiving)

NAME = os.environ.get("KVMOPS_LAB", "p2vagent")
MIB = 1024**2

# Numbered records, each on the disk before the next; the number is printed when it is.
WRITER = """
import hashlib, os, time
kept = os.open("/root/records", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
n = 0
while True:
    n += 1
    line = b"%d %s\\n" % (n, hashlib.sha256(b"%d" % n).hexdigest().encode())
    os.write(kept, line); os.fsync(kept)
    print(n, flush=True)
    time.sleep(0.05)
"""
# Files that come and go, so that blocks change their owners during the copy.
CHURN = """
while :; do
    for n in 1 2 3 4 5; do head -c 3000000 /dev/urandom >/root/churn$n; done
    rm -f /root/churn2 /root/churn4; sync; sleep 1
done
"""


@pytest.fixture(name="lab", scope="module")
def fixture_lab() -> Iterator[Lab]:
    up = "KVMOPS_LAB" in os.environ
    if not up:
        subprocess.run([str(LAB), "up", "--name", NAME, "--hosts", "0"], check=True, stdin=subprocess.DEVNULL)
    lab = Lab(name=NAME, inventory=ROOT / ".lab" / NAME / "inventory.yml")
    try:
        lab.lab("machine", "start", "pm1")
        yield lab
    finally:
        if not up:
            subprocess.run([str(LAB), "down", "--name", NAME], check=True, stdin=subprocess.DEVNULL)


class Machine:
    """The machine, reached by an ssh that is as plain as a user's."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        told = subprocess.run(
            [str(ROOT / ".venv/bin/ansible-inventory"), "-i", str(lab.inventory), "--host", "pm1"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        self.vars = json.loads(told.stdout)
        common = shlex.split(self.vars["ansible_ssh_common_args"])
        self.ssh = ["ssh", "-i", self.vars["ansible_ssh_private_key_file"], *common, "-o", "LogLevel=ERROR"]
        self.at = "root@" + self.vars["ansible_host"]

    def sh(self, script: str) -> str:
        return self.lab.sh("pm1", "sh", "-ec", script).strip()

    def start(self, command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self.ssh, self.at, command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def agent(self, folder: Path, connections: int = 2) -> Any:
        """An agent on the machine, whose receiver is here: ssh carries the socket there."""
        there = "/run/receiver.sock"
        self.sh("rm -f " + there)
        forward = [*self.ssh, "-R", "%s:%s" % (there, folder / "receiver"), self.at, p2v_bundle.command()]
        return receiving.Agent(folder, ["sda"], forward, connections, there)


class Writer:
    """The machine at work. `last` is the newest record that was on its disk, `at` when we heard of it."""

    def __init__(self, machine: Machine) -> None:
        self._process = machine.start("exec python3 -c '%s'" % WRITER)
        self.last, self.at = 0, 0.0
        self.gaps: Deque[float] = deque(maxlen=100000)
        threading.Thread(target=self._listen, daemon=True).start()
        until(lambda: self.last, 30, "the first record")

    def _listen(self) -> None:
        for line in self._process.stdout:
            now = time.monotonic()
            if self.at:
                self.gaps.append(now - self.at)
            self.last, self.at = int(line), now

    def stands_still(self) -> bool:
        return time.monotonic() - self.at > 1

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(name="machine", scope="module")
def fixture_machine(lab: Lab) -> Machine:
    return Machine(lab)


@pytest.fixture(name="writer")
def fixture_writer(machine: Machine) -> Iterator[Writer]:
    writer = Writer(machine)
    yield writer
    writer.end()
    machine.sh("pkill -f 'kep[t] = os.open' || true")


def left_behind(machine: Machine) -> str:
    """What an agent could leave: tracing instances, files in memory, processes."""
    return machine.sh(
        "ls /sys/kernel/tracing/instances /dev/shm 2>/dev/null | grep kvmops || true;"
        " pgrep -f 'exec.compile.i.rea[d]' || true"
    )


def written_to(image: Any, agent: Any, wanted: Any, codings: List[int]) -> int:
    """Read ranges of the disk by all data connections, write them to the image; bytes."""
    parts = [wanted[number :: len(agent.data)] for number in range(len(agent.data))]
    lock, total = threading.Lock(), []

    def work(channel: Any, part: Any) -> None:
        for offset, data in channel.read("sda", part, codings):
            with lock:
                os.pwrite(image.fileno(), data, offset)
                total.append(len(data))

    threads = [threading.Thread(target=work, args=pair) for pair in zip(agent.data, parts, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(total)


def pieces_of(wanted: Any) -> List[List[int]]:
    """Cut so that connections can share them."""
    return [[offset + at, min(16 * MIB, length - at)] for offset, length in wanted for at in range(0, length, 16 * MIB)]


class KeptAlive:
    """Says `alive` every second, on a control connection that nothing else uses meanwhile."""

    def __init__(self, control: Any) -> None:
        self._control, self._over = control, threading.Event()
        self.answers: List[Any] = []
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        while not self._over.wait(1):
            self.answers.append(self._control.ask("alive"))

    def end(self) -> None:
        self._over.set()
        self._thread.join()


def test_a_root_in_use_is_copied_and_the_frozen_copy_is_the_disk(
    machine: Machine, writer: Writer, tmp_path: Path, record_property: Any
) -> None:
    agent = machine.agent(tmp_path)
    control = agent.control
    found = control.ask("describe")
    assert [disk["name"] for disk in found["disks"]] == ["sda"]
    root = next(device for device in found["devices"] if device["mapping"] == "vg0-root")
    assert root["signature"]["type"] == "ext4"
    codings = [coding for coding in found["codings"] if coding in (0, 1, 2)]

    boot_id = control.ask("track", disks=["sda"])["boot_id"]
    control.ask("sync")
    told = control.ask("map", disk="sda")
    hows = {area["what"].split()[0]: area["how"] for area in told["areas"]}
    assert hows["swap"] == "skipped: swap"
    churn = machine.start(CHURN)
    seconds: Dict[str, float] = {}
    with open(tmp_path / "sda.img", "w+b") as image:
        image.truncate(found["disks"][0]["size"])
        began = time.monotonic()
        first = written_to(image, agent, pieces_of(told["used"]), codings)
        seconds["copy"] = time.monotonic() - began
        passes = [first]
        for dummy in range(2):
            said = control.ask("written")
            assert said["lost"] == 0
            assert said["boot_id"] == boot_id
            passes.append(written_to(image, agent, pieces_of(said["disks"]["sda"]), codings))
        memory = machine.sh("grep -E 'VmHWM' /proc/%d/status" % agent.status["pid"])
        began = time.monotonic()
        frozen = control.ask("freeze", mounts=None, limit_s=8)
        acknowledged = writer.last
        assert "/" in frozen["frozen"]
        said = control.ask("written")
        assert said["lost"] == 0
        passes.append(written_to(image, agent, pieces_of(said["disks"]["sda"]), codings))
        seconds["last pass"] = time.monotonic() - began
        alive = KeptAlive(control)
        differing = []
        try:
            for offset, length, coding, digest, dummy_coded in agent.data[0].chunks(
                "digest", disk="sda", ranges=told["used"]
            ):
                assert coding == receiving.HASH_ONLY
                if hashlib.sha256(os.pread(image.fileno(), length, offset)).digest() != digest:
                    differing.append(offset)
        finally:
            alive.end()
        seconds["frozen"] = time.monotonic() - began
        assert all(answer["frozen"] for answer in alive.answers)
        assert writer.stands_still()
        control.ask("thaw")
    assert differing == []
    until(lambda: writer.last > acknowledged + 5, 10, "records after the thaw")
    churn.kill()
    assert "ended" in agent.end()
    until(lambda: not left_behind(machine), 10, "nothing left")

    record_property("seconds", seconds)
    record_property("passes", passes)
    print("\nused %d MiB, passes %s bytes, seconds %s, memory %s, frozen %s, areas %s" % (
        first // MIB, passes, seconds, memory, frozen, [(a["what"], a["how"], a["used_bytes"]) for a in told["areas"]]
    ))  # fmt: skip
    numbers = records_in(tmp_path, root["pieces"])
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= acknowledged


def records_in(tmp_path: Path, pieces: Any) -> List[int]:
    """The records in the copy, each checked; the filesystem is checked as well."""
    (piece,) = pieces
    place = ["--offset", str(piece["at"]), "--sizelimit", str(piece["length"])]
    loop = subprocess.run(
        ["losetup", "--find", "--show", *place, str(tmp_path / "sda.img")], check=True, capture_output=True, text=True
    ).stdout.strip()
    root = tmp_path / "root"
    root.mkdir()
    try:
        # The copy was taken frozen: there is nothing to put right but files that were deleted while they were open.
        checked = subprocess.run(["e2fsck", "-fp", loop], stdout=subprocess.PIPE, text=True, check=False)
        assert checked.returncode in (0, 1), checked.stdout
        subprocess.run(["mount", "-o", "ro", loop, str(root)], check=True)
        try:
            lines = (root / "root/records").read_text().splitlines()
        finally:
            subprocess.run(["umount", str(root)], check=True)
    finally:
        subprocess.run(["losetup", "-d", loop], check=True)
    numbers = []
    for line in lines:
        number, told = line.split()
        assert hashlib.sha256(number.encode()).hexdigest() == told
        numbers.append(int(number))
    return numbers


# How a run can end while the filesystems are frozen. The commands are for a shell that was there before the freeze.
ENDS = {
    "agent killed": "kill -9 {agent}",
    "agent stopped": "kill -STOP {agent}",
    "watchdog killed": "kill -9 {watchdog}",
    "connection cut": "",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_frozen_machine_is_thawed_whatever_becomes_of_the_run(
    machine: Machine, writer: Writer, tmp_path: Path, end: str
) -> None:
    agent = machine.agent(tmp_path, connections=1)
    agent.control.ask("track", disks=["sda"])
    # A frozen machine lets nobody in, so the blow is prepared: it falls when its standard input ends.
    blow = "read word; " + ENDS[end].format(agent=agent.status["pid"], watchdog=agent.status["watchdog"])
    ready = subprocess.Popen(
        [*machine.ssh, machine.at, "echo ready; " + blow], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert ready.stdout.readline() == b"ready\n"
    agent.control.ask("freeze", mounts=None, limit_s=8)
    until(writer.stands_still, 5, "the freeze")
    before, began = writer.last, time.monotonic()
    if end == "connection cut":
        agent.process.kill()
    ready.stdin.close()
    until(lambda: writer.last > before, 11, "records again")
    thawed_after = time.monotonic() - began
    print("\n%s: thawed after %.1f s" % (end, thawed_after))
    assert thawed_after <= 10
    if end == "agent stopped":
        machine.sh("kill -CONT %d" % agent.status["pid"])
    agent.end()
    until(lambda: not left_behind(machine), 15, "nothing left")
    ready.wait()


@pytest.mark.parametrize("keep", [False, True])
def test_services_start_again_unless_another_machine_has_taken_over(
    machine: Machine, tmp_path: Path, keep: bool
) -> None:
    def state() -> str:
        return machine.sh("systemctl is-active web.service || true")

    unit = "[Service]\\nExecStart=/bin/sleep 10000\\n"
    machine.sh(
        "printf '%s' >/run/systemd/system/web.service; systemctl daemon-reload; systemctl start web.service" % unit
    )
    agent = machine.agent(tmp_path, connections=1)
    agent.control.ask("services", stop=["web.service"])
    assert state() == "inactive"
    agent.control.ask("bye", keep_stopped=keep)
    agent.end()
    until(lambda: not left_behind(machine), 10, "nothing left")
    assert state() == ("inactive" if keep else "active")


def test_events_that_the_kernel_drops_are_noticed(machine: Machine, tmp_path: Path) -> None:
    agent = machine.agent(tmp_path, connections=1)
    agent.control.ask("track", disks=["sda"])
    machine.sh(
        "cd /sys/kernel/tracing/instances/kvmops-p2v-*; echo 4 >buffer_size_kb; kill -STOP {0};"
        " for n in $(seq 300); do echo $n >/root/small$n; sync /root/small$n; done; rm /root/small*;"
        " kill -CONT {0}".format(agent.status["pid"])
    )
    assert agent.control.ask("written")["lost"] > 0
    assert agent.control.ask("written")["lost"] == 0
    agent.end()
    until(lambda: not left_behind(machine), 10, "nothing left")


def test_a_frozen_machine_goes_off_when_it_is_told_to(lab: Lab, machine: Machine, tmp_path: Path) -> None:
    """The last case: the machine is off behind it."""
    agent = machine.agent(tmp_path, connections=1)
    agent.control.ask("freeze", mounts=None, limit_s=10)
    began = time.monotonic()
    agent.control.ask("poweroff")
    until(lambda: " off " in lab.lab("machine", "list"), 9, "the machine is off before anything thaws")
    print("\noff after %.1f s" % (time.monotonic() - began))
    # Nobody is left there who could end the connection.
    agent.process.kill()
    agent.end()
