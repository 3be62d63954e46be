# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hot P2V as a user does it: a computer with its root on LVM, at work, becomes an image on a KVM host."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import threading
from typing import Any, Dict, Iterator, List

import pytest

from .fleet import IMAGES, LAB, ROOT, Lab, until

pytestmark = pytest.mark.machine

NAME = os.environ.get("KVMOPS_LAB", "p2v")
SOURCE, HOST = "pm1", "kvm1"
IMAGE = "%s/old1-sda.qcow2" % IMAGES
MIB = 1024**2

# Numbered records, each on the disk before its number is printed.
WRITER = """
import hashlib, os, time
kept = os.open("/root/records", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
n = 0
while True:
    n += 1
    os.write(kept, b"%d %s\\n" % (n, hashlib.sha256(b"%d" % n).hexdigest().encode()))
    os.fsync(kept)
    print(n, flush=True)
    time.sleep(0.02)
"""


@pytest.fixture(name="lab", scope="module")
def fixture_lab() -> Iterator[Lab]:
    up = "KVMOPS_LAB" in os.environ
    if not up:
        words = ["up", "--name", NAME, "--hosts", "1", "--os", "bookworm"]
        subprocess.run([str(LAB), *words], check=True, stdin=subprocess.DEVNULL)
    lab = Lab(name=NAME, inventory=ROOT / ".lab" / NAME / "inventory.yml")
    try:
        lab.lab("machine", "start", SOURCE)
        yield lab
    finally:
        if not up:
            subprocess.run([str(LAB), "down", "--name", NAME], check=True, stdin=subprocess.DEVNULL)


class Writer:
    """The machine at work. last: the newest record of which it said that it was on the disk."""

    def __init__(self, lab: Lab) -> None:
        inventory = [str(ROOT / ".venv/bin/ansible-inventory"), "-i", str(lab.inventory), "--host", SOURCE]
        told = json.loads(subprocess.run(inventory, check=True, capture_output=True, text=True).stdout)
        words = ["ssh", "-i", told["ansible_ssh_private_key_file"], *shlex.split(told["ansible_ssh_common_args"])]
        words += ["root@" + told["ansible_host"], "exec python3 -c " + shlex.quote(WRITER)]
        self._process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.last = 0
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        until(lambda: self.last, 60, "the first record")

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            self.last = int(line)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._listener.join(10)


@pytest.fixture(name="writer", scope="module")
def fixture_writer(lab: Lab) -> Iterator[Writer]:
    writer = Writer(lab)
    yield writer
    writer.end()


def p2v(lab: Lab, check: bool = False, may_fail: bool = False, **options: Any) -> Dict[str, Any]:
    return lab.one(HOST, "kvm_p2v_image", check, may_fail, name="old1", source=SOURCE, **options)


def records_in_the_image(lab: Lab, discovery: Dict[str, Any]) -> List[int]:
    """Each checked; the root filesystem is checked as well, and must need no repair."""
    root = next(device for device in discovery["devices"] if device["mapping"] == "vg0-root")
    (piece,) = root["pieces"]
    raw = "/var/tmp/old1.raw"
    lab.sh(HOST, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", IMAGE, raw)
    try:
        place = "%s?offset=%d" % (raw, piece["at"])
        lab.sh(HOST, "e2fsck", "-fn", place)
        lines = lab.sh(HOST, "debugfs", "-R", "cat /root/records", place).splitlines()
    finally:
        lab.sh(HOST, "rm", "-f", raw)
    numbers = []
    for line in lines:
        number, digest = line.split()
        assert hashlib.sha256(number.encode()).hexdigest() == digest
        numbers.append(int(number))
    return numbers


def left_behind(lab: Lab) -> str:
    """What a run could leave on either side."""
    there = lab.sh(
        SOURCE,
        "sh",
        "-c",
        "ls /sys/kernel/tracing/instances /dev/shm 2>/dev/null | grep kvmops; pgrep -f kvmops-p2[v]; true",
    )
    here = lab.sh(
        HOST,
        "sh",
        "-c",
        "grep kvmops-p2v /root/.ssh/authorized_keys; pgrep -a qemu-nbd; ls %s | grep part; true" % IMAGES,
    )
    return there + here


def test_a_look_and_a_check_say_what_would_be_done(lab: Lab, writer: Writer) -> None:
    told = p2v(lab, mode="gather")
    assert not told["changed"]
    assert told["discovery"]["boot"]["firmware"] == "bios"
    assert [disk["name"] for disk in told["disks"]] == ["sda"]
    assert 0 < told["disks"][0]["used_bytes"] < told["disks"][0]["bytes"] / 2
    told = p2v(lab, check=True)
    assert told["changed"] and told["steps"][0].startswith("copy the ")
    assert "old1" not in lab.sh(HOST, "ls", "-a", IMAGES)
    assert left_behind(lab) == ""


def test_a_rehearsal_and_a_second_image(lab: Lab, writer: Writer, record_property: Any) -> None:
    before = writer.last
    told = p2v(lab)
    print("\nfirst", json.dumps({key: told[key] for key in ("passes", "prediction", "pause_s", "metrics", "summary")}))
    numbers = records_in_the_image(lab, told["discovery"])
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= before
    first = told["metrics"]["bytes"]
    assert told["pause_s"] < 10
    until(lambda: writer.last > len(numbers) + 20, 20, "it serves on")
    told = p2v(lab)
    print("second", json.dumps({key: told[key] for key in ("passes", "prediction", "pause_s", "metrics", "summary")}))
    assert told["metrics"]["bytes"] < first / 10
    assert len(records_in_the_image(lab, told["discovery"])) > len(numbers)
    assert left_behind(lab) == ""


def test_a_source_that_cannot_dial_is_named_and_nothing_is_left(lab: Lab, writer: Writer) -> None:
    told = p2v(lab, may_fail=True, receiver="10.77.0.250")
    assert told["failed"] and "10.77.0.250" in told["msg"]
    assert left_behind(lab) == ""


def test_the_source_serves_again_when_the_takeover_fails(lab: Lab, writer: Writer) -> None:
    told = p2v(lab, may_fail=True, cutover="freeze", takeover={"command": ["/bin/false"]})
    assert "serves again" in told["msg"]
    seen = writer.last
    until(lambda: writer.last > seen + 20, 20, "it serves again")


def test_no_record_is_lost_when_the_source_is_left(lab: Lab, writer: Writer) -> None:
    told = p2v(lab, cutover="poweroff")
    print("\nlast", json.dumps({key: told[key] for key in ("passes", "prediction", "pause_s", "metrics", "summary")}))
    writer.end()
    numbers = records_in_the_image(lab, told["discovery"])
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= writer.last
    again = p2v(lab, cutover="poweroff")
    assert not again["changed"] and again["left_already"]
