# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A second run of kvm_migrate while the move of another goes on, whose controller is dead."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import Any, Iterator

import pytest

from .disks import exists, make_disk
from .fleet import Lab, Task, answers, until
from .test_kvm_migrate import DISK, WEB, start_web1
from .test_kvm_migrate_faults import SLOW_MIB_S, copying

HOSTS = ("kvm1", "kvm2", "kvm3")
MOVE = {"name": "web1", "host": "kvm2", "bandwidth_mib_s": SLOW_MIB_S}


@pytest.fixture(name="web1")
def fixture_web1(clean: Lab) -> Lab:
    """A guest with a disk on kvm1, to start with its host."""
    make_disk(clean, "kvm1", "web1.qcow2")
    start_web1(clean, disks=[DISK], autostart=True)
    return clean


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


def check_moved(lab: Lab) -> None:
    """All that a run that was left alone would have done is done, and nothing is left of it."""
    assert lab.owners("web1", HOSTS) == ["kvm2"]
    until(lambda: answers(lab, 101), 20, "web1 answers on kvm2")
    assert lab.state("kvm1", "web1") is None and not exists(lab, "kvm1", WEB)
    assert "Autostart:      enable" in lab.virsh("kvm2", "dominfo", "web1")
    assert lab.sh("kvm1", "sh", "-c", "ls /run/kvmops || true").split() == []
    again = lab.one("kvm1", "kvm_migrate", name="web1", host="kvm2")
    assert not again["changed"] and not again["watched"]


def test_a_second_run_watches_when_the_controller_was_killed(web1: Lab) -> None:
    with moving(web1) as controller:
        kill_controller(controller)
        told = web1.one("kvm1", "kvm_migrate", **MOVE)
    assert told["changed"] and told["watched"]
    assert "by the run with process" in told["steps"][0] and len(told["steps"]) == 1
    check_moved(web1)
