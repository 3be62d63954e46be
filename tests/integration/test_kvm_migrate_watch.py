# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A second run of kvm_migrate while the move of a dead or living run goes on, and runs that are killed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from typing import Any, Dict, Iterator, List, Optional

import pytest

from .conftest import NEWER
from .disks import exists, make_disk
from .fleet import LAB, Lab, Task, answers, until
from .test_kvm_migrate import DISK, WEB, job_info, start_web1
from .test_kvm_migrate_faults import copying

RELEASES = NEWER
HOSTS = ("kvm1", "kvm2", "kvm3")
RECORD = "/run/kvmops/kvm_migrate-web1.run"
# Half a minute for a copy of 256 MiB: time enough to kill a run and to begin another.
MOVE = {"name": "web1", "host": "kvm2", "bandwidth_mib_s": 10}


@pytest.fixture(name="web1")
def fixture_web1(clean: Lab) -> Lab:
    """A guest with a disk on kvm1, to start with its host."""
    make_disk(clean, "kvm1", "web1.qcow2")
    start_web1(clean, disks=[DISK], autostart=True)
    return clean


def module_of(lab: Lab) -> Optional[int]:
    """The process that moves web1, by what it wrote down itself; None when there is none."""
    told = lab.sh("kvm1", "sh", "-c", "cat %s || true" % RECORD)
    pid = json.loads(told)["pid"] if told else None
    alive = pid and lab.sh("kvm1", "sh", "-c", "test -d /proc/%d && echo alive || true" % pid)
    return pid if alive else None


@contextlib.contextmanager
def moving(lab: Lab, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A first run, in the middle of its copy. Its controller is ended with the block at the latest."""
    controller = lab.start("kvm1", [Task("kvm_migrate", {**MOVE, **more})])
    try:
        until(lambda: copying(lab), 90, "the copy began")
        yield controller
    finally:
        kill_controller(controller)


def kill_controller(controller: subprocess.Popen[bytes]) -> None:
    """Ansible and its workers, which have sessions of their own."""
    if controller.poll() is not None:
        return
    family = [controller.pid]
    for pid in family:
        told = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
        family += [int(child) for child in told.stdout.split()]
    for pid in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    controller.wait(10)


def kill_module(lab: Lab) -> None:
    pid = module_of(lab)
    assert pid is not None
    lab.sh("kvm1", "kill", "-9", str(pid))


def check_moved(lab: Lab) -> None:
    """All that a run that was left alone would have done is done, and nothing is left of it."""
    assert lab.owners("web1", HOSTS) == ["kvm2"]
    until(lambda: answers(lab, 101), 20, "web1 answers on kvm2")
    assert lab.state("kvm1", "web1") is None and not exists(lab, "kvm1", WEB)
    assert "Autostart:      enable" in lab.virsh("kvm2", "dominfo", "web1")
    assert lab.sh("kvm1", "sh", "-c", "ls /run/kvmops || true").split() == []
    again = lab.one("kvm1", "kvm_migrate", name="web1", host="kvm2")
    assert not again["changed"] and not again["watched"]


def test_a_second_run_takes_over_when_the_module_was_killed(web1: Lab) -> None:
    with moving(web1):
        kill_module(web1)
        check = web1.one("kvm1", "kvm_migrate", check=True, **MOVE)
        assert "whose run is dead" in check["steps"][0] and any("remove %s" % WEB in step for step in check["steps"])
        told = web1.one("kvm1", "kvm_migrate", **MOVE)
    assert told["changed"] and told["watched"] and told["steps"] == check["steps"]
    libvirt = job_info(web1, "kvm2")
    assert told["metrics"]["total_ms"] == libvirt["time_elapsed"]
    assert told["metrics"]["downtime_ms"] == libvirt["downtime"]
    # The image's whole size, and what the guest wrote while it was copied.
    assert told["metrics"]["disk_bytes"] >= 256 * 1024**2 and told["samples"]
    assert "moved from kvm1 to kvm2" in told["summary"][0]
    check_moved(web1)


def test_a_second_run_watches_when_the_controller_was_killed(web1: Lab) -> None:
    with moving(web1) as controller:
        kill_controller(controller)
        told = web1.one("kvm1", "kvm_migrate", **MOVE)
    assert told["changed"] and told["watched"]
    assert "by the run with process" in told["steps"][0] and len(told["steps"]) == 1
    check_moved(web1)


def test_two_runs_at_once(web1: Lab) -> None:
    results: List[Dict[str, Any]] = []
    runs = [
        threading.Thread(target=lambda: results.append(web1.one("kvm1", "kvm_migrate", may_fail=True, **MOVE)))
        for dummy in range(2)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join(200)
    assert len(results) == 2 and not any(told.get("failed") for told in results), results
    assert [told["watched"] for told in results].count(False) == 1 or not all(told["changed"] for told in results)
    check_moved(web1)


@pytest.mark.long
def test_a_run_that_died_after_the_move_is_finished(web1: Lab) -> None:
    """Killed while it waits for what the probe sees after the move."""
    with moving(web1, probe={"type": "icmp", "address": "10.77.0.101", "after_s": 60}):
        until(lambda: web1.owners("web1", HOSTS) == ["kvm2"], 90, "the guest is on kvm2")
        until(lambda: web1.state("kvm1", "web1") is None, 20, "kvm1 has let go")
        kill_module(web1)
        assert exists(web1, "kvm1", WEB)
    assert not web1.sh("kvm1", "sh", "-c", "pgrep -f [p]rober || true"), "the prober outlived its module"
    told = web1.one("kvm1", "kvm_migrate", **MOVE)
    assert told["changed"] and not told["watched"] and told["mode"] is None
    assert any("remove %s" % WEB in step for step in told["steps"])
    check_moved(web1)


MOVE_TIMEOUT_S = 5


def job_age_s(lab: Lab) -> float:
    """How long the move runs by now; 0 when it has ended."""
    said = re.search(r"Time elapsed: +(\d+) +ms", lab.virsh("kvm1", "domjobinfo", "web1", check=False))
    return int(said.group(1)) / 1000 if said else 0.0


@pytest.mark.long
def test_a_second_run_pauses_what_takes_too_long_and_lets_it_go_on(web1: Lab) -> None:
    """As the run that is dead would have: counted from the begin of the job."""
    with moving(web1, tls=False):
        kill_module(web1)
        told = web1.one("kvm1", "kvm_migrate", timeout_s=MOVE_TIMEOUT_S, on_timeout="pause", tls=False, **MOVE)
    assert told["watched"] and told["ended_by"] == "pause", told
    assert web1.state("kvm2", "web1") == "running"
    check_moved(web1)


@pytest.mark.long
@pytest.mark.parametrize("owner_paused_it", [False, True])
def test_only_what_a_dead_run_paused_goes_on(web1: Lab, owner_paused_it: bool) -> None:
    if owner_paused_it:
        web1.virsh("kvm1", "suspend", "web1")
    with moving(web1, tls=False, timeout_s=MOVE_TIMEOUT_S, on_timeout="pause"):
        until(lambda: web1.state("kvm1", "web1") == "paused", 60, "it is paused")
        note = "cat /var/lib/kvmops/journal/leaving/*.json"
        until(lambda: owner_paused_it or json.loads(web1.sh("kvm1", "sh", "-c", note))["paused"], 20, "it is noted")
        until(lambda: job_age_s(web1) > MOVE_TIMEOUT_S + 3, 60, "it takes longer than it may")
        kill_module(web1)
        until(lambda: web1.owners("web1", HOSTS) == ["kvm2"], 120, "libvirt ended the move by itself")
        until(lambda: web1.state("kvm1", "web1") is None, 20, "kvm1 let go")
        arrived = web1.state("kvm2", "web1")
    told = web1.one("kvm1", "kvm_migrate", tls=False, **MOVE)
    assert told["changed"] and web1.owners("web1", HOSTS) == ["kvm2"]
    let_go_on = any("let web1 go on on kvm2" in step for step in told["steps"])
    if owner_paused_it:
        assert arrived == web1.state("kvm2", "web1") == "paused" and not let_go_on
    else:
        assert let_go_on is (arrived == "paused")
        check_moved(web1)


@pytest.mark.long
def test_a_disk_that_is_not_the_one_that_was_copied_stays(web1: Lab) -> None:
    with moving(web1):
        kill_module(web1)
        web1.sh("kvm1", "sh", "-c", "cp --reflink=auto {0} {0}.new && mv {0}.new {0}".format(WEB))
        told = web1.one("kvm1", "kvm_migrate", **MOVE)
    assert told["watched"] and web1.owners("web1", HOSTS) == ["kvm2"]
    assert [concern["id"] for concern in told["concerns"]] == ["source-disk-left"]
    assert exists(web1, "kvm1", WEB)


@pytest.mark.long
def test_a_move_that_stands_still_and_whose_run_is_dead_is_ended(web1: Lab) -> None:
    with moving(web1):
        web1.lab("fault", "freeze", "kvm2", "web1")
        kill_module(web1)
        told = web1.one("kvm1", "kvm_migrate", may_fail=True, **MOVE)
    assert told["failed"] and "was ended (abort, it sent nothing for 30 s)" in told["msg"], told["msg"]
    assert "the guest is running on kvm1" in told["msg"]
    assert web1.owners("web1", HOSTS) == ["kvm1"]
    until(lambda: answers(web1, 101), 20, "web1 answers on kvm1")
    assert web1.state("kvm2", "web1") is None and not exists(web1, "kvm2", WEB)
    assert web1.one("kvm1", "kvm_migrate", name="web1", host="kvm2")["changed"]
    check_moved(web1)


@pytest.mark.long
def test_a_move_by_other_means_is_watched_and_never_ended(clean: Lab) -> None:
    start_web1(clean)
    words = ["migrate", "--live", "--p2p", "--persistent", "--undefinesource", "--bandwidth", "8"]
    words += ["web1", "qemu+ssh://root@kvm2/system", "--migrateuri", "tcp://kvm2"]
    stranger = subprocess.Popen([str(LAB), "exec", "--name", clean.name, "kvm1", "--", "virsh", "-q", *words])
    try:
        until(lambda: copying(clean), 30, "the copy began")
        refused = clean.one("kvm1", "kvm_migrate", name="web1", host="kvm3", may_fail=True)
        assert refused["failed"] and "kvm3 does not know of it" in refused["msg"], refused["msg"]
        told = clean.one("kvm1", "kvm_migrate", name="web1", host="kvm2")
    finally:
        assert stranger.wait(60) == 0
    assert clean.owners("web1", HOSTS) == ["kvm2"]
    assert told["watched"] or not told["changed"]


@pytest.mark.long
def test_killed_at_random_moments(web1: Lab) -> None:
    """Wherever it is hit, one more run reaches the goal, and never are there two owners."""
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    for victim in ("module", "controller", "module"):
        controller = web1.start("kvm1", [Task("kvm_migrate", MOVE)])
        until(lambda: module_of(web1) is not None, 90, "the module began")
        time.sleep(chance.uniform(0, 8))
        pid = module_of(web1)
        if victim == "module" and pid is not None:
            web1.sh("kvm1", "kill", "-9", str(pid), check=False)
        kill_controller(controller)
        # The destination first: once it runs there, it never runs on the source again.
        running = [host for host in ("kvm2", "kvm1") if web1.state(host, "web1") == "running"]
        assert len(running) <= 1, "seed %d" % seed
        told = web1.one("kvm1", "kvm_migrate", may_fail=True, **MOVE)
        assert not told.get("failed"), "seed %d, %s: %s" % (seed, victim, told)
        check_moved(web1)
        web1.one("kvm2", "kvm_migrate", name="web1", host="kvm1")
