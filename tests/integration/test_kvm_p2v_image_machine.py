# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hot P2V as a user does it: a computer with its root on LVM, at work, becomes an image on a KVM host, and is left.

The tests go on from one another: the computer is closed out by the host's firewall at first, and off at the end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import Any, Dict, Iterator, List

import pytest

from .doors import probe, reached
from .fleet import IMAGES, LAB, ROOT, Lab, Task, until
from .p2v import Writer, differing, nothing_left, records_in

pytestmark = pytest.mark.machine

NAME = os.environ.get("KVMOPS_LAB", "p2v")
SOURCE, HOST = "pm1", "kvm1"
RECORDS = "/root/records"
IMAGE = "old1-sda.qcow2"
MIB = 1024**2
SERVE = (
    "printf '[Service]\\nExecStart=/usr/bin/python3 -m http.server --directory /root 8080\\n'"
    " >/run/systemd/system/web.service; systemctl daemon-reload; systemctl start web"
)
# Asks for a page ten times a second, and prints the longest time without an answer at its end.
VISIT = """
import signal, sys, time, urllib.request
longest, last = 0.0, time.monotonic()
def end(*dummy):
    print(longest, flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, end)
while True:
    try:
        urllib.request.urlopen(sys.argv[1], timeout=2).read(100)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    except OSError:
        pass
    time.sleep(0.1)
"""


VISIT_ONCE = ("python3", "-c", "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=5).status)")


@pytest.fixture(name="lab", scope="module")
def fixture_lab() -> Iterator[Lab]:
    up = "KVMOPS_LAB" in os.environ
    if not up:
        words = ["up", "--name", NAME, "--hosts", "1", "--os", "bookworm"]
        subprocess.run([str(LAB), *words], check=True, stdin=subprocess.DEVNULL)
    lab = Lab(name=NAME, inventory=ROOT / ".lab" / NAME / "inventory.yml")
    try:
        lab.lab("machine", "start", SOURCE, timeout_s=1200)
        yield lab
    finally:
        if not up:
            subprocess.run([str(LAB), "down", "--name", NAME], check=True, stdin=subprocess.DEVNULL)


@pytest.fixture(name="address", scope="module")
def fixture_address(lab: Lab) -> str:
    """Of the source."""
    return address_of(lab, SOURCE)


def address_of(lab: Lab, host: str) -> str:
    words = [str(ROOT / ".venv/bin/ansible-inventory"), "-i", str(lab.inventory), "--host", host]
    return str(json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)["ansible_host"])


class Visitor:
    """Somebody at the computer's web server."""

    def __init__(self, lab: Lab, page: str) -> None:
        words = [str(LAB), "ns", "--name", lab.name, "--", "python3", "-c", VISIT, page]
        self._process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True, text=True
        )

    def longest_gap_s(self) -> float:
        os.killpg(self._process.pid, signal.SIGTERM)
        return float(self._process.communicate(timeout=30)[0].splitlines()[0])


def task(check: bool = False, may_fail: bool = False, **options: Any) -> Task:
    return Task("kvm_p2v_image", {"name": "old1", "source": SOURCE, **options}, check, may_fail)


def p2v(lab: Lab, check: bool = False, may_fail: bool = False, **options: Any) -> Dict[str, Any]:
    return lab.play(HOST, [task(check, may_fail, **options)])[0]


def figures(told: Dict[str, Any]) -> str:
    return json.dumps({key: told[key] for key in ("passes", "prediction", "pause_s", "metrics", "summary")})


def records(lab: Lab, told: Dict[str, Any]) -> List[int]:
    """Of the root filesystem in the image, all of which is what its manifest says."""
    assert differing(lab, HOST, IMAGE, told) == 0
    root = next(device for device in told["discovery"]["devices"] if device["mapping"] == "vg0-root")
    (piece,) = root["pieces"]
    return records_in(lab, HOST, IMAGE, piece["at"], RECORDS)


def progress(lab: Lab, name: str) -> Dict[str, Any]:
    said = lab.sh(HOST, "cat", "/run/kvmops/kvm_p2v_image-%s.json" % name, check=False)
    return json.loads(said) if said.strip() else {}


def begun(lab: Lab, name: str, **options: Any) -> subprocess.Popen[bytes]:
    """A run in the background that copies slowly; it has copied something."""
    run = lab.start(HOST, [Task("kvm_p2v_image", {"name": name, "source": SOURCE, **options})])
    until(
        lambda: (
            run.poll() is None and progress(lab, name).get("phase") == "copy" and progress(lab, name)["done_mib"] > 4
        ),
        120,
        "it copies",
    )
    return run


def test_the_host_s_firewall_is_named_with_the_rule_that_lets_the_source_in(lab: Lab, address: str) -> None:
    told = p2v(lab, may_fail=True, mode="gather")
    print("\n" + told["msg"])
    assert [concern["id"] for concern in told["concerns"]] == ["p2v-receiver-closed"]
    allow = "host_base_firewall_allow: [{port: 22, proto: tcp, from: %s}]" % address
    assert allow in told["msg"]
    more = lab.inventory.parent / "p2v-hosts.yml"
    more.write_text("all:\n  hosts:\n    %s:\n      %s\n" % (HOST, allow), encoding="utf-8")
    # As the remedy says, and only for this source.
    lab.playbook("kvmops.fleet.site", "-i", str(more), "--limit", HOST, "--tags", "firewall")
    door = address_of(lab, HOST)
    ask = probe((22,), door, timeout_s=2)
    assert reached(lab.sh(SOURCE, *ask)) == {door: [22]}
    assert reached(lab.lab("outsider", "--address", "10.77.0.250/24", "--", *ask)) == {door: []}
    told = p2v(lab, mode="gather", serials={"sda": "LAB-PM1"})
    assert not told["changed"] and told["discovery"]["boot"]["firmware"] == "bios"
    assert [disk["name"] for disk in told["disks"]] == ["sda"]
    assert 0 < told["disks"][0]["used_bytes"] < told["disks"][0]["bytes"] / 2
    told = p2v(lab, may_fail=True, serials={"sda": "LAB-PM2"})
    assert "sda has serial LAB-PM1, not LAB-PM2" in told["msg"]
    assert "old1" not in lab.sh(HOST, "ls", "-a", IMAGES)
    nothing_left(lab, SOURCE, HOST)


DEBUG_DISK = (
    "modprobe scsi_debug dev_size_mb=32 opts=0; udevadm settle;"
    " basename $(ls -d /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*/block/*)"
)
SCSI_DEBUG = "/sys/bus/pseudo/drivers/scsi_debug"


def test_a_disk_with_a_bad_sector_and_one_that_is_pulled_out(lab: Lab) -> None:
    name = lab.sh(SOURCE, "sh", "-ec", DEBUG_DISK).strip()
    lab.sh(SOURCE, "dd", "if=/dev/urandom", "of=/dev/" + name, "bs=1M", "count=32", "oflag=direct")
    # The kernel's test driver has medium errors from sector 0x1234 on.
    lab.sh(SOURCE, "sh", "-ec", "echo 2 >%s/opts" % SCSI_DEBUG)
    words = {"name": "bad", "source": SOURCE, "disks": [name]}
    told = lab.play(HOST, [Task("kvm_p2v_image", words, False, True)])[0]
    print("\n" + told["msg"])
    assert "read 1048576 bytes of %s at byte %d on the source: Input/output error" % (name, 2 * MIB) in told["msg"]
    assert "\nbad-" not in lab.sh(HOST, "ls", IMAGES)
    lab.sh(SOURCE, "sh", "-ec", "echo 0 >%s/opts" % SCSI_DEBUG)
    told = lab.play(HOST, [Task("kvm_p2v_image", words)])[0]
    assert "go on with" in told["steps"][0]
    assert differing(lab, HOST, "bad-%s.qcow2" % name, told) == 0
    lab.sh(HOST, "sh", "-c", "rm -f %s/bad-*" % IMAGES)

    run = begun(lab, "bad", disks=[name], bandwidth_mib_s=2.0)
    lab.sh(SOURCE, "sh", "-ec", "echo 1 >/sys/block/%s/device/delete" % name)
    assert run.wait(60) != 0
    assert "\nbad-" not in lab.sh(HOST, "ls", IMAGES)
    nothing_left(lab, SOURCE, HOST)
    told = lab.play(HOST, [Task("kvm_p2v_image", words, False, True)])[0]
    assert [concern["id"] for concern in told["concerns"]] == ["p2v-disk-missing"]
    lab.sh(HOST, "sh", "-c", "rm -f %s/.bad-*" % IMAGES)
    lab.sh(SOURCE, "rmmod", "scsi_debug")


def test_a_source_that_is_started_anew_between_is_gone_on_with(lab: Lab) -> None:
    run = begun(lab, "old1", bandwidth_mib_s=16.0)
    lab.lab("machine", "reboot", SOURCE)
    assert run.wait(120) != 0
    there = lab.sh(HOST, "ls", "-a", IMAGES)
    assert ".%s.part" % IMAGE in there and "\n%s" % IMAGE not in there
    nothing_left(lab, SOURCE, HOST)


@pytest.fixture(name="writer", scope="module")
def fixture_writer(lab: Lab) -> Iterator[Writer]:
    """For the tests from here on: a restart would end it."""
    writer = Writer(lab, SOURCE, RECORDS)
    yield writer
    writer.end()


def test_a_sync_a_second_one_and_a_rehearsal(lab: Lab, address: str, writer: Writer) -> None:
    lab.sh(SOURCE, "sh", "-ec", SERVE)
    until(lambda: "200" in lab.lab("ns", "--", *VISIT_ONCE, "http://%s:8080/records" % address, check=False), 60, "web")
    visitor = Visitor(lab, "http://%s:8080/records" % address)
    before = writer.last
    told = p2v(lab)
    print("\nfirst", figures(told))
    assert "go on with" in told["steps"][0]
    numbers = records(lab, told)
    assert len(numbers) >= before and told["pause_s"] < 10
    writer.goes_on()
    before, first = writer.last, told["metrics"]["bytes"]
    told = p2v(lab)
    print("second", figures(told))
    assert told["metrics"]["bytes"] < first / 3
    assert len(records(lab, told)) >= before
    writer.goes_on()
    gap = visitor.longest_gap_s()
    print("longest time without an answer of the web server: %.2f s" % gap)
    assert gap < 10
    nothing_left(lab, SOURCE, HOST)


def test_the_source_serves_again_when_the_takeover_fails(lab: Lab, writer: Writer) -> None:
    told = p2v(lab, may_fail=True, cutover="freeze", takeover={"command": ["/bin/false"]})
    assert "serves again" in told["msg"]
    writer.goes_on()
    nothing_left(lab, SOURCE, HOST)


def test_no_record_is_lost_when_the_source_is_left(lab: Lab, writer: Writer) -> None:
    told = p2v(lab, cutover="freeze", takeover={"command": ["/bin/true"]})
    print("\nlast", figures(told))
    until(lambda: " off " in lab.lab("machine", "list"), 20, "the machine is off")
    writer.end()
    assert len(records(lab, told)) >= writer.last
    again = p2v(lab, cutover="freeze", takeover={"command": ["/bin/true"]})
    assert not again["changed"] and again["left_already"]
