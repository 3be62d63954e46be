# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults in the middle of a move that the campaign (test_kvm_migrate_campaign.py) does not do."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any, Dict, List

from .conftest import NEWER
from .disks import exists, make_disk
from .fleet import IMAGES, Lab, Task, answers, guest, until
from .test_kvm_migrate import DISK, WEB, start_web1

RELEASES = NEWER
HOSTS = ("kvm1", "kvm2", "kvm3")
# Slow enough that a fault hits the middle of the copy.
SLOW_MIB_S = 4


class Running:
    """kvm_migrate in the background. result() waits for its end."""

    def __init__(self, lab: Lab, on: str = "kvm1", **args: Any) -> None:
        self._results: List[Dict[str, Any]] = []
        self._thread = threading.Thread(
            target=lambda: self._results.append(lab.one(on, "kvm_migrate", may_fail=True, **args))
        )
        self._thread.start()

    def result(self) -> Dict[str, Any]:
        self._thread.join(300)
        assert self._results, "kvm_migrate did not end"
        return self._results[0]


def copying(lab: Lab) -> bool:
    """Whether kvm1's migration job has begun to send."""
    said = lab.virsh("kvm1", "domjobinfo", "web1", check=False)
    return "Unbounded" in said and "processed" in said.lower()


def test_destination_full(clean: Lab) -> None:
    """Refused when it is known before; taken back when it happens on the way."""
    folder = f"{IMAGES}-small"
    for host, mib in (("kvm1", 400), ("kvm2", 120)):
        clean.lab("volume", host, folder, "--mib", str(mib))
        clean.virsh(host, "pool-create-as", "images-small", "dir", "--target", folder)
    try:
        path = make_disk(clean, "kvm1", "web1.qcow2", folder=folder)
        start_web1(clean, disks=[dict(DISK, pool="images-small")])
        clean.lab("fault", "fill", "kvm2", folder, "--leave-mib", "5")
        refused = clean.one("kvm1", "kvm_migrate", name="web1", host="kvm2", may_fail=True)
        assert [concern["id"] for concern in refused["concerns"]] == ["target-space-short"]

        clean.lab("fault", "unfill", "kvm2", folder)
        move = Running(clean, name="web1", host="kvm2", bandwidth_mib_s=SLOW_MIB_S)
        until(lambda: copying(clean), 30, "the copy began")
        clean.lab("fault", "fill", "kvm2", folder)
        failed = move.result()
        assert failed["failed"] and "the guest is running on kvm1" in failed["msg"], failed["msg"]
        assert clean.owners("web1", HOSTS) == ["kvm1"] and not exists(clean, "kvm2", path)

        clean.lab("fault", "unfill", "kvm2", folder)
        assert clean.one("kvm1", "kvm_migrate", name="web1", host="kvm2")["changed"]
        assert clean.owners("web1", HOSTS) == ["kvm2"] and answers(clean, 101)
    finally:
        for host in ("kvm1", "kvm2"):
            clean.virsh(host, "destroy", "web1", check=False)
            clean.virsh(host, "undefine", "web1", check=False)
            clean.virsh(host, "pool-destroy", "images-small", check=False)


def test_a_move_that_takes_too_long_is_given_up(clean: Lab) -> None:
    start_web1(clean, cmdline="kvmops.dirty_mib_s=20 kvmops.dirty_set_mib=40")
    failed = clean.one("kvm1", "kvm_migrate", name="web1", host="kvm2", bandwidth_mib_s=2, timeout_s=3, may_fail=True)
    assert failed["failed"] and "timeout_s (3) passed" in failed["msg"], failed["msg"]
    assert clean.owners("web1", HOSTS) == ["kvm1"] and answers(clean, 101)


def test_or_is_finished_with_a_pause(clean: Lab) -> None:
    start_web1(clean, cmdline="kvmops.dirty_mib_s=20 kvmops.dirty_set_mib=40")
    args = dict(name="web1", host="kvm2", bandwidth_mib_s=8, timeout_s=5, on_timeout="pause")
    moved = clean.one("kvm1", "kvm_migrate", **args)
    assert moved["changed"] and moved["ended_by"] == "pause"
    assert clean.state("kvm2", "web1") == "running" and clean.owners("web1", HOSTS) == ["kvm2"]
    until(lambda: answers(clean, 101), 20, "web1 answers again")


def test_an_offline_copy_cut_short_leaves_the_source_the_owner(clean: Lab) -> None:
    path = make_disk(clean, "kvm1", "web1.qcow2")
    clean.one("kvm1", "kvm_domain", **dict(guest("web1", 101, disks=[DISK]), state="present"))
    clean.lab("fault", "rate", "kvm1", "20mbit")
    try:
        move = Running(clean, name="web1", host="kvm2")
        part = f"{IMAGES}/.web1.qcow2.kvmops-part"
        until(lambda: exists(clean, "kvm2", part), 30, "the copy began")
        clean.sh("kvm2", "pkill", "-f", "kvmops/ssh-gate")
        failed = move.result()
    finally:
        clean.lab("fault", "rate", "kvm1", "none")
    assert failed["failed"] and "copy %s" % path in failed["msg"], failed["msg"]
    assert clean.state("kvm1", "web1") == "shut off" and clean.state("kvm2", "web1") is None
    assert not exists(clean, "kvm2", path)
    assert clean.one("kvm1", "kvm_migrate", name="web1", host="kvm2")["changed"]
    assert clean.state("kvm1", "web1") is None and clean.state("kvm2", "web1") == "shut off"
    assert not exists(clean, "kvm2", part)


def test_a_longer_downtime_lets_a_busy_guest_move(clean: Lab) -> None:
    """QEMU switches over when it expects to stay below the downtime allowed: little at first, then what the option allows."""
    start_web1(clean, cmdline="kvmops.dirty_mib_s=20 kvmops.dirty_set_mib=40")
    move = Running(clean, name="web1", host="kvm2", bandwidth_mib_s=8, max_downtime_ms=8000, timeout_s=120)
    until(lambda: copying(clean), 30, "the copy began")
    assert clean.virsh("kvm1", "migrate-getmaxdowntime", "web1") == "50"
    moved = move.result()
    assert moved["changed"] and moved["ended_by"] is None
    assert max(act["value"] or 0 for act in moved["acts"]) > 2000 and moved["metrics"]["downtime_ms"] <= 8000
    assert clean.owners("web1", HOSTS) == ["kvm2"] and answers(clean, 101)


def test_the_loss_of_the_controller_ends_nothing_half_way(clean: Lab) -> None:
    """Ansible is killed while the guest moves: the module on the host goes on, closing steps included."""
    make_disk(clean, "kvm1", "web1.qcow2")
    start_web1(clean, disks=[DISK], autostart=True)
    args = {"name": "web1", "host": "kvm2", "bandwidth_mib_s": SLOW_MIB_S}
    controller = clean.start("kvm1", [Task("kvm_migrate", args)])
    until(lambda: copying(clean), 60, "the copy began")
    os.killpg(controller.pid, signal.SIGKILL)
    controller.wait(10)
    until(lambda: not exists(clean, "kvm1", WEB), 120, "the module took its last step")
    assert clean.owners("web1", HOSTS) == ["kvm2"] and answers(clean, 101)
    assert "Autostart:      enable" in clean.virsh("kvm2", "dominfo", "web1")
    assert not clean.one("kvm1", "kvm_migrate", name="web1", host="kvm2")["changed"]
