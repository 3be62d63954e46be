# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kvm_migrate on real hosts: live and offline, storage copied and shared, both releases, and what it refuses."""

from __future__ import annotations

import re
import subprocess
from typing import Any, Dict

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_xml import read_domain

from .disks import exists, make_disk, records_of, sha256
from .fleet import IMAGES, LAB, Lab, Task, answers, guest, until

WEB = f"{IMAGES}/web1.qcow2"
DISK: Dict[str, Any] = {"pool": "default", "name": "web1.qcow2", "format": "qcow2"}


def start_web1(lab: Lab, host: str = "kvm1", **more: Any) -> None:
    lab.one(host, "kvm_domain", **guest("web1", 101, **more))
    until(lambda: answers(lab, 101), 60, "web1 answers")


def job_info(lab: Lab, host: str) -> Dict[str, float]:
    """virsh domjobinfo --completed, raw: sizes in bytes, times in ms."""
    said = lab.sh(host, "virsh", "domjobinfo", "web1", "--completed", "--rawstats")
    return {key: float(value) for key, value in re.findall(r"^\s*([a-z_]+): (-?\d+)$", said, re.MULTILINE)}


@pytest.mark.parametrize("dest", ["kvm2", "kvm3"])
def test_live_with_its_disk_to_each_release_and_back(clean: Lab, dest: str) -> None:
    """kvm1 is bookworm, kvm2 too, kvm3 is trixie."""
    make_disk(clean, "kvm1", "web1.qcow2")
    start_web1(clean, disks=[DISK], autostart=True)
    check, real, again, again_check = clean.quartet("kvm1", "kvm_migrate", name="web1", host=dest)

    assert check["changed"] and real["changed"] and not again["changed"] and not again_check["changed"]
    assert check["steps"] == real["steps"] and check["diff"] == real["diff"]
    assert again["steps"] == again_check["steps"] == []
    assert [disk["storage"] for disk in real["disks"]] == ["copy"]
    assert clean.owners("web1", ("kvm1", "kvm2", "kvm3")) == [dest]
    assert clean.state("kvm1", "web1") is None and not exists(clean, "kvm1", WEB)
    assert "Autostart:      enable" in clean.virsh(dest, "dominfo", "web1")
    assert answers(clean, 101)
    check_metrics(clean, dest, real["metrics"])

    back = clean.one(dest, "kvm_migrate", name="web1", host="kvm1")
    assert back["changed"] and clean.owners("web1", ("kvm1", "kvm2", "kvm3")) == ["kvm1"]
    assert not exists(clean, dest, WEB)
    clean.virsh("kvm1", "destroy", "web1")
    numbers = records_of(clean, "kvm1", WEB)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) and len(numbers) > 3, numbers


def told(xml: str) -> Domain:
    """What the XML says; each libvirt writes it down a little differently."""
    return read_domain(xml)


def check_metrics(lab: Lab, host: str, metrics: Dict[str, Any]) -> None:
    """The result's numbers are libvirt's own."""
    told = job_info(lab, host)
    assert metrics["total_ms"] == told["time_elapsed"]
    assert metrics["downtime_ms"] == told["downtime"] > 0
    assert metrics["setup_ms"] == told["setup_time"]
    assert metrics["memory_bytes"] == told["memory_processed"] > 0
    # The disk numbers exist only on the source, until the move ends: libvirt counts the whole size of the image.
    # What the guest writes to its disk meanwhile goes again.
    assert 256 * 1024**2 <= metrics["disk_bytes"] < 260 * 1024**2
    assert 20_000_000 < metrics["disk_data_bytes"] < 60_000_000
    assert metrics["iterations"] == told["memory_iteration"]


def test_a_second_run_is_quick(clean: Lab) -> None:
    start_web1(clean)
    tasks = [Task("kvm_migrate", {"name": "web1", "host": "kvm2"})] * 2
    clean.play("kvm1", tasks)
    told = clean.playbook(str(clean._book("kvm1", tasks)))
    spans = [task["task"]["duration"] for task in told["plays"][0]["tasks"]]
    seconds = [_seconds(span["end"]) - _seconds(span["start"]) for span in spans]
    assert min(seconds) < 2.0, seconds


def _seconds(stamp: str) -> float:
    hours, minutes, seconds = stamp.rstrip("Z").split("T")[1].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def test_shared_storage_moves_nothing_but_memory(clean: Lab) -> None:
    image = "/srv/images/web1.qcow2"
    clean.sh("nas", "sh", "-c", "rm -f %s; truncate -s 64M %s; chmod 666 %s" % (image, image, image))
    source = {"source": "nfs://10.77.0.10%s" % image, "format": "raw", "bus": "virtio", "target": "vda"}
    start_web1(clean, disks=[source])
    real = clean.one("kvm1", "kvm_migrate", name="web1", host="kvm3", storage="shared")
    assert [disk["storage"] for disk in real["disks"]] == ["shared"]
    assert real["metrics"]["disk_bytes"] == 0
    assert clean.owners("web1", ("kvm1", "kvm2", "kvm3")) == ["kvm3"]
    assert answers(clean, 101)
    refused = clean.one("kvm3", "kvm_migrate", name="web1", host="kvm2", storage="copy", may_fail=True)
    assert [concern["id"] for concern in refused["concerns"]] == ["disk-shared"]
    assert clean.owners("web1", ("kvm1", "kvm2", "kvm3")) == ["kvm3"]


def test_offline_carries_disk_and_definition(clean: Lab) -> None:
    make_disk(clean, "kvm1", "web1.qcow2")
    clean.one("kvm1", "kvm_domain", **dict(guest("web1", 101, disks=[DISK], autostart=True), state="present"))
    before, xml = sha256(clean, "kvm1", WEB), clean.virsh("kvm1", "dumpxml", "--inactive", "web1")
    check, real, again, again_check = clean.quartet("kvm1", "kvm_migrate", name="web1", host="kvm3")
    assert check["changed"] and real["changed"] and not again["changed"] and not again_check["changed"]
    assert check["steps"] == real["steps"] and real["mode"] == "offline"
    assert real["hashes"] == {WEB: before} and sha256(clean, "kvm3", WEB) == before
    assert told(clean.virsh("kvm3", "dumpxml", "--inactive", "web1")) == told(xml)
    assert clean.state("kvm1", "web1") is None and not exists(clean, "kvm1", WEB)
    assert clean.state("kvm3", "web1") == "shut off"
    assert "Autostart:      enable" in clean.virsh("kvm3", "dominfo", "web1")
    assert 0 < real["metrics"]["disk_bytes"] < 60 * 1024**2, "holes were sent"
    clean.virsh("kvm3", "start", "web1")
    until(lambda: answers(clean, 101), 60, "web1 answers on kvm3")


def test_offline_carries_uefi_variables(clean: Lab) -> None:
    efi = {key: value for key, value in guest("web1", 101).items() if key != "boot"}
    clean.one("kvm1", "kvm_domain", **dict(efi, state="present", firmware="efi", disks=[]))
    clean.virsh("kvm1", "start", "--paused", "web1")
    nvram = re.findall(r"<nvram[^>]*>([^<]+)</nvram>", clean.virsh("kvm1", "dumpxml", "web1"))[0]
    clean.virsh("kvm1", "destroy", "web1")
    clean.sh("kvm1", "sh", "-c", "printf mark | dd of=%s bs=1 seek=300000 conv=notrunc status=none" % nvram)
    before = sha256(clean, "kvm1", nvram)
    real = clean.one("kvm1", "kvm_migrate", name="web1", host="kvm2")
    assert real["changed"] and sha256(clean, "kvm2", nvram) == before and not exists(clean, "kvm1", nvram)
    clean.virsh("kvm2", "start", "--paused", "web1")


def test_a_paused_guest_arrives_paused(clean: Lab) -> None:
    start_web1(clean)
    clean.virsh("kvm1", "suspend", "web1")
    real = clean.one("kvm1", "kvm_migrate", name="web1", host="kvm2")
    assert real["changed"] and real["state"] == "paused"
    assert clean.state("kvm2", "web1") == "paused" and clean.state("kvm1", "web1") is None
    clean.virsh("kvm2", "resume", "web1")
    until(lambda: answers(clean, 101), 20, "web1 answers again")


def test_check_mode_touches_nothing(clean: Lab) -> None:
    """libvirt's own event log stays empty on both ends, and so does the destination's pool."""
    make_disk(clean, "kvm1", "web1.qcow2")
    start_web1(clean, disks=[DISK])
    words = ["virsh", "-q", "event", "--loop", "--all", "--timeout", "25"]
    logs = {
        host: subprocess.Popen(
            [str(LAB), "exec", "--name", clean.name, host, "--", *words], stdout=subprocess.PIPE, text=True
        )
        for host in ("kvm1", "kvm2")
    }
    check = clean.one("kvm1", "kvm_migrate", name="web1", host="kvm2", check=True)
    assert check["changed"] and any("move web1 live" in step for step in check["steps"])
    assert "metrics" not in check
    assert not exists(clean, "kvm2", WEB) and clean.owners("web1", ("kvm1", "kvm2")) == ["kvm1"]
    # That the log is alive is shown by an event of our own.
    clean.virsh("kvm1", "autostart", "web1")
    clean.virsh("kvm1", "suspend", "web1")
    clean.virsh("kvm1", "resume", "web1")
    seen = {host: log.communicate()[0] for host, log in logs.items()}
    lines = re.findall(r"^event '(?!rtc-change).*", seen["kvm1"], re.MULTILINE)
    assert any("Suspended" in line for line in lines), seen
    assert all(re.search("Suspended|Resumed|Defined|Updated", line) for line in lines), lines
    assert "web1" not in seen["kvm2"], seen


def test_a_taken_name_is_refused(clean: Lab) -> None:
    start_web1(clean)
    clean.one("kvm2", "kvm_domain", **dict(guest("web1", 102), state="present"))
    other = clean.virsh("kvm2", "dumpxml", "--inactive", "web1")
    refused = clean.one("kvm1", "kvm_migrate", name="web1", host="kvm2", may_fail=True)
    assert [concern["id"] for concern in refused["concerns"]] == ["name-taken"]
    assert clean.owners("web1", ("kvm1", "kvm2")) == ["kvm1"]
    assert clean.virsh("kvm2", "dumpxml", "--inactive", "web1") == other


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"host": "kvm9"}, "connect to qemu+ssh://root@kvm9/system on kvm9"),
        ({"host": "kvm2", "name": "a/b"}, "a name may not hold '/'"),
        ({"host": "kvm2", "name": "nobody"}, "neither kvm1 nor kvm2 has a domain of that name"),
    ],
)
def test_bad_requests_say_what_to_do(clean: Lab, args: Dict[str, Any], words: str) -> None:
    clean.one("kvm1", "kvm_domain", **dict(guest("web1", 101), state="present"))
    refused = clean.one("kvm1", "kvm_migrate", may_fail=True, **{"name": "web1", **args})
    assert refused["failed"] and words in refused["msg"], refused["msg"]
    assert clean.state("kvm1", "web1") == "shut off"


def test_everything_that_stands_against_a_move_is_told_at_once(clean: Lab) -> None:
    clean.sh("kvm1", "ip", "link", "add", "blue", "type", "bridge")
    try:
        big = dict(guest("web1", 101), state="present", memory_mib=1000, networks=[{"bridge": "blue"}])
        clean.one("kvm1", "kvm_domain", **big)
        clean.virsh("kvm1", "setmaxmem", "web1", "%dM" % (1024 * 1024), "--config")
        refused = clean.one("kvm1", "kvm_migrate", name="web1", host="kvm2", may_fail=True)
        assert sorted(concern["id"] for concern in refused["concerns"]) == ["bridge-missing", "memory-short"]
        assert all(concern["remedy"] for concern in refused["concerns"])
    finally:
        clean.sh("kvm1", "ip", "link", "del", "blue")
