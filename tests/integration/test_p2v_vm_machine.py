# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a computer to a guest, as a user does it: rehearsed while it serves, then left, and its guest answers at its address.

The tests go on from one another; the computer is off at the end.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from .fleet import IMAGES, LAB, MACHINE, ROOT, Lab, Task
from .taken_over import Site, checked, differing, left_disk, prepare_host, until_off, visiting

pytestmark = pytest.mark.machine

NAME = os.environ.get("KVMOPS_LAB", "p2vvm")
SOURCE, HOST, CARD = "pm1", "kvm1", "enp0s16"
IMAGE, OVERLAY, RECORD = "old1-sda.qcow2", "old1-sda.vm.qcow2", "old1.vm.json"
# Emulated, on a machine that others use as well.
PATIENCE_S = 900.0
# A play that is ended here goes on over there, to its cutover.
PLAY_S = 3000
OPTIONS: Dict[str, Any] = {
    "fixup": True,
    "fixup_options": {"serial_console": True, "services_off": ["legacy.service"], "timeout_s": PATIENCE_S},
}
DOMAIN = {"machine": MACHINE, "memory_mib": 768, "networks": [{"interface": CARD, "bridge": "br0"}]}


@pytest.fixture(name="lab", scope="module")
def fixture_lab() -> Iterator[Lab]:
    up = "KVMOPS_LAB" in os.environ
    if not up:
        words = ["up", "--name", NAME, "--hosts", "1", "--os", "bookworm"]
        subprocess.run([str(LAB), *words], check=True, stdin=subprocess.DEVNULL)
    lab = Lab(name=NAME, inventory=ROOT / ".lab" / NAME / "inventory.yml")
    try:
        lab.lab("machine", "start", SOURCE, timeout_s=1200)
        prepare(lab)
        yield lab
    finally:
        if not up:
            subprocess.run([str(LAB), "down", "--name", NAME], check=True, stdin=subprocess.DEVNULL)


def prepare(lab: Lab) -> None:
    """The source is a little older than new, and at work."""
    site = Site(lab, SOURCE)
    prepare_host(lab, HOST, site.address)
    script = (
        "sed -i '/9p/d; s|^UUID=[^ ]* /boot |/dev/sda2 /boot |' /etc/fstab;"
        " printf '[Service]\\nExecStart=/bin/sleep 10000\\n[Install]\\nWantedBy=multi-user.target\\n'"
        " >/etc/systemd/system/legacy.service; systemctl enable legacy.service"
    )
    lab.sh(SOURCE, "sh", "-ec", script)
    site.serve()


def task(check: bool = False, may_fail: bool = False, **options: Any) -> Task:
    return Task("kvm_p2v_image", {"name": "old1", "source": SOURCE, **options}, check, may_fail)


def pool(lab: Lab) -> List[str]:
    return sorted(name for name in lab.sh(HOST, "ls", "-A", IMAGES).split() if "old1" in name)


def boot_id(lab: Lab) -> str:
    return lab.sh(SOURCE, "cat", "/proc/sys/kernel/random/boot_id").strip()


def test_a_request_that_cannot_be_met_is_refused_before_a_byte_is_copied(lab: Lab) -> None:
    wrong = dict(DOMAIN, networks=[{"interface": "eth9", "bridge": "br0"}, {"bridge": "br7"}])
    (told,) = lab.play(HOST, [task(may_fail=True, **OPTIONS, domain=wrong)])
    assert "p2v-vm-no-such-card" in told["msg"] and CARD in told["msg"]
    (told,) = lab.play(HOST, [task(may_fail=True, **OPTIONS, domain=dict(DOMAIN, state="running"))])
    assert "both would have the same addresses" in told["msg"]
    assert pool(lab) == []


def test_a_rehearsal_with_a_fix_up_and_a_domain(lab: Lab) -> None:
    before = boot_id(lab)
    # Its own ssh is seen at its own address, on a bridge that leads nowhere.
    asked = dict(OPTIONS, domain=DOMAIN, boot_test={"port": 22, "timeout_s": PATIENCE_S})
    would, told = lab.play(HOST, [task(True, **asked), task(**asked)], ["--diff"], PLAY_S)
    print("\n" + "\n".join(would["steps"]), "\n", json.dumps(told["fixup"], indent=1), told["metrics"])
    assert would["changed"] and would["fixup"] is None
    changes = told["fixup"]["changes"]
    for words in ("/boot is mounted by UUID=", "is %s as before" % CARD, "legacy.service is off", "go to /dev/vda"):
        assert any(words in change for change in changes), (words, changes)
    assert pool(lab) == sorted([IMAGE, IMAGE + ".manifest", OVERLAY, RECORD])
    domain = told["domain"]
    assert domain["state"] == "shutoff" and [disk["source"] for disk in domain["disks"]] == [
        "%s/%s" % (IMAGES, OVERLAY)
    ]
    card = next(each for each in told["discovery"]["interfaces"] if each["name"] == CARD)
    assert [(nic["mac"], nic["source"]) for nic in domain["networks"]] == [(card["mac"], "br0")]
    print(told["boot_test"])
    assert told["boot_test"]["sign"] == "port" and lab.state(HOST, "old1.boot-test") is None
    assert "kvt" not in lab.sh(HOST, "ip", "-o", "link") + lab.sh(HOST, "ip", "netns")
    # It served all the while, and still does.
    assert boot_id(lab) == before


def test_the_source_is_left_when_its_guest_has_booted_and_the_guest_takes_over(
    lab: Lab, tmp_path: Path, record_property: Any
) -> None:
    site, old = Site(lab, SOURCE), boot_id(lab)
    asked = dict(OPTIONS, cutover="poweroff", domain=dict(DOMAIN, state="running"), boot_test={"timeout_s": PATIENCE_S})
    # Each answer needs a write that has reached the disk: a machine that is frozen, or no guest yet, gives none.
    asked["probe"] = {"type": "http", "url": site.page, "answer_timeout_s": PATIENCE_S}
    with visiting(site) as visitor:
        (told,) = lab.play(HOST, [task(**asked)], timeout_s=PLAY_S)
        visitor.is_answered(PATIENCE_S, len(visitor.answers))
    print("\n" + "\n".join(told["steps"]), told["boot_test"], told["summary"])
    record_property("boot_test", told["boot_test"])
    assert told["boot_test"]["sign"] == "console" and told["power"] == "off"
    metrics = told["metrics"]
    print(metrics)
    assert 3000 < metrics["downtime_ms"] <= PATIENCE_S * 1000 and metrics["impact"]["after"]["received"] > 0
    assert abs(metrics["downtime_ms"] - metrics["downtime_seen_ms"] - 100) <= 1
    # As somebody else saw it who waits 2 s for an answer.
    gap, number = visitor.handed_over(old)
    assert abs(metrics["downtime_ms"] / 1000.0 - gap) < 3, (metrics["downtime_ms"], gap)
    until_off(lab)
    assert lab.state(HOST, "old1") == "running" and lab.state(HOST, "old1.boot-test") is None
    # One file for each disk.
    assert pool(lab) == sorted([IMAGE, IMAGE + ".manifest", RECORD])
    assert [disk["source"] for disk in told["domain"]["disks"]] == ["%s/%s" % (IMAGES, IMAGE)]
    # libvirt keeps its own log of every domain; what the console said is gone.
    left = lab.sh(HOST, "ls", "/var/log/libvirt/qemu", "/var/lib/libvirt/qemu/nvram").replace("old1.boot-test.log", "")
    assert "boot-test" not in left
    records = checked(site.records())
    of_old = [each for each, boot in records if boot == old]
    assert len(of_old) >= number and len(records) > len(of_old)
    with left_disk(site, tmp_path) as disk:
        there = checked((disk / site.path.lstrip("/")).read_text().splitlines())
        assert [each for each, dummy in there] == of_old
        explained, others = differing(disk, site, "/usr/bin/python3", told["fixup"]["changes"])
    print("records", len(of_old), len(records), "explained", sorted(explained), "\nothers", others)
    assert others == {}

    again = lab.play(HOST, [task(**asked), task(True, **asked)], ["--diff"])
    assert [each["changed"] for each in again] == [False, False]
    assert all(each["left_already"] and each["fixup"] == told["fixup"] for each in again)
