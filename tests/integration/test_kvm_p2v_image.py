# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hot P2V by the module and ssh, with all that can be wrong on the way: a lab host's disk is imaged on another host.

The disk is a small one of its own, and the host is a container: it is frozen and thawed, but never left. Whole computers
are in test_kvm_p2v_image_machine.py.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from typing import Any, Dict, Iterator, List

import pytest

from .fleet import IMAGES, Lab, Task, until
from .p2v import Writer, differing, nothing_left, records_in, serving
from .wire import client

HOST, SOURCE, OTHER = "kvm1", "kvm2", "kvm3"
FOLDER = "/srv/p2v-disk"
RECORDS = FOLDER + "/records"
DISK_MIB = 192
# So much of it is a file that nobody touches.
AT_REST_MIB = 32


@pytest.fixture(name="disk", scope="module")
def fixture_disk(lab: Lab) -> str:
    """The kernel's name of the disk. Its device file is where the agent looks for it."""
    lab.lab("volume", SOURCE, FOLDER, "--mib", str(DISK_MIB))
    minor = lab.sh(SOURCE, "findmnt", "--noheadings", "--output", "MAJ:MIN", FOLDER).strip().partition(":")[2]
    name = "loop" + minor
    lab.sh(SOURCE, "sh", "-ec", "[ -e /dev/%s ] || mknod /dev/%s b 7 %s" % (name, name, minor))
    lab.sh(SOURCE, "dd", "if=/dev/urandom", "of=%s/at-rest" % FOLDER, "bs=1M", "count=%d" % AT_REST_MIB, "conv=fsync")
    return name


@pytest.fixture(name="writer", scope="module")
def fixture_writer(lab: Lab, disk: str) -> Iterator[Writer]:
    writer = Writer(lab, SOURCE, RECORDS)
    yield writer
    writer.end()


@pytest.fixture(name="pool", autouse=True)
def fixture_pool(lab: Lab) -> Iterator[None]:
    """No image, before and after."""
    for dummy in range(2):
        lab.sh(HOST, "sh", "-c", "rm -f %s/old1-* %s/.old1-*; virsh -q pool-refresh default" % (IMAGES, IMAGES))
        if not dummy:
            yield


def task(disk: str, check: bool = False, may_fail: bool = False, **options: Any) -> Task:
    return Task("kvm_p2v_image", {"name": "old1", "source": SOURCE, "disks": [disk], **options}, check, may_fail)


def p2v(lab: Lab, disk: str, *more: str, **options: Any) -> Dict[str, Any]:
    return lab.play(HOST, [task(disk, **options)], more)[0]


def refused(lab: Lab, disk: str, *more: str, **options: Any) -> List[str]:
    """The concerns of a run that must be refused, and after which nothing is there."""
    told = p2v(lab, disk, *more, may_fail=True, **options)
    assert told.get("failed"), told
    assert "old1" not in lab.sh(HOST, "ls", "-a", IMAGES)
    nothing_left(lab, SOURCE, HOST)
    print("\n" + told["msg"])
    return [concern["id"] for concern in told.get("concerns", ())] + [told["msg"]]


def image(disk: str) -> str:
    return "old1-%s.qcow2" % disk


def test_a_disk_at_work_becomes_an_image_and_is_brought_up_to_date(lab: Lab, disk: str, writer: Writer) -> None:
    looked, checked = lab.play(HOST, [task(disk, mode="gather"), task(disk, check=True)])
    assert not looked["changed"] and looked["disks"][0]["areas"][0]["what"].startswith("ext4")
    assert checked["changed"] and checked["steps"][0].startswith("copy the ")
    assert "old1" not in lab.sh(HOST, "ls", "-a", IMAGES)
    before = writer.last
    first = p2v(lab, disk)
    assert len(records_in(lab, HOST, image(disk), 0, "/records")) >= before
    assert differing(lab, HOST, image(disk), first) == 0
    writer.goes_on()
    before = writer.last
    second = p2v(lab, disk)
    assert len(records_in(lab, HOST, image(disk), 0, "/records")) >= before
    assert differing(lab, HOST, image(disk), second) == 0
    assert second["passes"][0]["bytes"] < first["passes"][0]["bytes"] - AT_REST_MIB * 1024**2 / 2
    for told in (first, second):
        print("\n" + json.dumps({key: told[key] for key in ("passes", "prediction", "pause_s", "metrics", "summary")}))
        assert told["power"] == "on" and told["pause_s"] < 10
    writer.goes_on()
    nothing_left(lab, SOURCE, HOST)


def test_the_source_serves_again_when_the_takeover_fails(lab: Lab, disk: str, writer: Writer) -> None:
    seen = "/run/p2v-takeover"
    script = "cat %s/%s >/dev/null && touch %s; exit 3" % (IMAGES, image(disk), seen)
    told = p2v(
        lab, disk, may_fail=True, cutover="freeze", takeover={"command": ["/bin/sh", "-c", script], "timeout_s": 30.0}
    )
    assert "exit 3" in told["msg"] and "thawed and serves again" in told["msg"]
    lab.sh(HOST, "rm", seen)
    writer.goes_on()
    assert records_in(lab, HOST, image(disk), 0, "/records")
    nothing_left(lab, SOURCE, HOST)


PORT = 49200
URL = "http://10.77.0.12:%d/" % PORT
# Two processors for the hosts, the copy and both observers: an answer may be noted that much late.
SCHEDULING_MS = 150


def longest_gap(moments: List[float]) -> float:
    return max(later - earlier for earlier, later in itertools.pairwise(moments))


def test_a_probe_tells_what_another_client_feels_of_the_freeze(lab: Lab, disk: str, writer: Writer) -> None:
    with serving(lab, SOURCE, FOLDER + "/hits", PORT), client(lab, URL, HOST) as elsewhere:
        told = p2v(lab, disk, probe={"type": "http", "url": URL, "interval_ms": 50})
    metrics = told["metrics"]
    print("\n" + json.dumps({"metrics": metrics, "pause_s": told["pause_s"], "summary": told["summary"]}))
    assert not [each for each in told["concerns"] if each["id"].startswith("p2v-probe")], told["concerns"]
    assert metrics["downtime_ms"] is None
    impact, gap = metrics["impact"], longest_gap(elsewhere)
    if impact["gaps"] and impact["pause"]["longest_gap_ms"] >= impact["during"]["longest_gap_ms"]:
        assert metrics["downtime_seen_ms"] == pytest.approx(gap - 20, abs=50 + 20 + SCHEDULING_MS)
    assert metrics["downtime_seen_ms"] <= gap + SCHEDULING_MS
    assert impact["before"]["received"] >= 20 and impact["pause"]["sent"] >= 1 and impact["after"]["received"] >= 20
    writer.goes_on()
    nothing_left(lab, SOURCE, HOST)


def test_a_takeover_that_fails_tells_what_clients_felt_of_it(lab: Lab, disk: str, writer: Writer) -> None:
    """While it stands still the page cannot be written: the two seconds of the takeover are felt in full."""
    takeover = {"command": ["/bin/sh", "-c", "sleep 2; exit 3"], "timeout_s": 30.0}
    with serving(lab, SOURCE, FOLDER + "/hits", PORT), client(lab, URL, HOST) as elsewhere:
        probe = {"type": "http", "url": URL, "interval_ms": 50, "timeout_ms": 10000}
        told = p2v(lab, disk, may_fail=True, cutover="freeze", takeover=takeover, probe=probe)
    print("\n" + json.dumps({"msg": told["msg"], "metrics": told["metrics"], "summary": told["summary"]}))
    assert "exit 3" in told["msg"] and "serves again" in told["msg"]
    assert told["metrics"]["downtime_ms"] is None
    # The other client gives each request up after two seconds, so it may have waited a little longer.
    assert 2000 <= told["metrics"]["downtime_seen_ms"] <= longest_gap(elsewhere) + SCHEDULING_MS
    assert told["metrics"]["impact"]["pause"]["max_ms"] >= 2000 and told["metrics"]["impact"]["after"]["received"] >= 20
    writer.goes_on()
    nothing_left(lab, SOURCE, HOST)


def test_a_probe_that_nobody_answers_holds_nothing_up(lab: Lab, disk: str) -> None:
    told = p2v(lab, disk, probe={"type": "tcp", "address": "10.77.0.12", "port": PORT, "before_s": 1, "after_s": 1})
    assert [each["id"] for each in told["concerns"] if "probe" in each["id"]] == ["p2v-probe-silent"]
    assert told["changed"] and told["metrics"]["impact"] is None and told["warnings"]
    nothing_left(lab, SOURCE, HOST)


def test_a_closed_door_is_told_with_what_opens_it(lab: Lab, disk: str) -> None:
    lab.lab("fault", "cut", HOST, SOURCE, "--ports", "control")
    try:
        name, said = refused(lab, disk)
    finally:
        lab.lab("fault", "heal")
    assert name == "p2v-receiver-closed"
    assert "host_base_firewall_allow: [{port: 22, proto: tcp, from: 10.77.0.12}]" in said


def test_an_address_that_leads_elsewhere_is_not_trusted(lab: Lab, disk: str) -> None:
    assert refused(lab, disk, receiver="10.77.0.13")[0] == "p2v-receiver-host-key"


def test_a_source_that_is_not_reached_or_is_another_is_told(lab: Lab, disk: str) -> None:
    more = lab.inventory.parent / "p2v-hosts.json"
    known = lab.inventory.parent / "p2v-known-hosts"
    key = lab.sh(OTHER, "cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()
    known.write_text("10.77.0.12 %s %s\n" % (key[0], key[1]), encoding="utf-8")
    way = "-o ProxyCommand='ip netns exec kvmlab-%s nc %%h %%p' -o StrictHostKeyChecking=yes" % lab.name
    hosts = {
        "nowhere": {"ansible_host": "10.77.0.240"},
        "another": {
            "ansible_host": "10.77.0.12",
            "ansible_ssh_common_args": "%s -o UserKnownHostsFile=%s -o GlobalKnownHostsFile=/dev/null" % (way, known),
            "ansible_control_path_dir": str(lab.inventory.parent / "other-control"),
        },
    }
    more.write_text(json.dumps({"all": {"hosts": hosts}}), encoding="utf-8")
    assert refused(lab, disk, "-i", str(more), source="nowhere")[0] == "p2v-source-unreachable"
    assert refused(lab, disk, "-i", str(more), source="another")[0] == "p2v-source-host-key"


def test_another_serial_number_is_refused(lab: Lab, disk: str) -> None:
    assert refused(lab, disk, serials={disk: "S3Z8NB0K"})[0] == "p2v-serial-differs"


def progress(lab: Lab) -> Dict[str, Any]:
    said = lab.sh(HOST, "cat", "/run/kvmops/kvm_p2v_image-old1.json", check=False)
    return json.loads(said) if said.strip() else {}


def begun(lab: Lab, disk: str) -> subprocess.Popen[bytes]:
    """A run in the background that copies slowly; it has copied something."""
    run = lab.start(HOST, [task(disk, bandwidth_mib_s=2.0)])

    def copies() -> bool:
        seen = progress(lab)
        assert run.poll() is None, "it ended with %s; its last progress: %s" % (run.returncode, seen)
        return seen.get("phase") == "copy" and seen["done_mib"] > 4

    until(copies, 180, "it copies")
    return run


def test_a_second_run_is_refused_and_one_whose_ssh_is_cut_is_gone_on_with(lab: Lab, disk: str, writer: Writer) -> None:
    run = begun(lab, disk)
    told = p2v(lab, disk, may_fail=True)
    assert "another run does that at this moment" in told["msg"]
    lab.sh(SOURCE, "pkill", "-KILL", "-f", "^ssh .*kvmops-p2v")
    assert run.wait(60) != 0
    nothing_left(lab, SOURCE, HOST)
    there = lab.sh(HOST, "ls", "-a", IMAGES)
    assert ".%s.part" % image(disk) in there and "\n%s" % image(disk) not in there
    writer.goes_on()
    before = writer.last
    told = p2v(lab, disk)
    assert "go on with" in told["steps"][0]
    assert len(records_in(lab, HOST, image(disk), 0, "/records")) >= before
    nothing_left(lab, SOURCE, HOST)


def test_a_receiver_that_is_killed_leaves_a_source_that_serves(lab: Lab, disk: str, writer: Writer) -> None:
    run = begun(lab, disk)
    lab.sh(HOST, "kill", "-KILL", str(progress(lab)["pid"]))
    assert run.wait(60) != 0
    writer.goes_on()
    told = p2v(lab, disk)
    assert "go on with" in told["steps"][0]
    nothing_left(lab, SOURCE, HOST)
