# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is done to a move that is under way. Each is a context: done on entry, healed on exit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import Callable, ContextManager, Dict, Iterator

from ansible_collections.kvmops.fleet.tests.integration.fleet import LAB, Task, until

from .scene import FRAIL, HOSTS, NAME, SMALL, Scene
from .watch import RUNNING

HERE, THERE = HOSTS
_ENDS_S = 240
MUTE_S = 4
Injection = Callable[[Scene], ContextManager[None]]
INJECTIONS: Dict[str, Injection] = {}


def injection(act: Callable[[Scene], Iterator[None]]) -> Injection:
    INJECTIONS[act.__name__] = contextlib.contextmanager(act)
    return INJECTIONS[act.__name__]


def _at_once(name: str, *words: str) -> None:
    """A command of the lab's that needs no undoing."""

    def act(scene: Scene) -> Iterator[None]:
        scene.lab.lab("fault", *words)
        yield

    INJECTIONS[name] = contextlib.contextmanager(act)


def _while_it_runs(name: str, *words: str, undo: str = "heal", most_s: float = _ENDS_S) -> None:
    """A command of the lab's that holds until the task has ended, or for most_s."""

    def act(scene: Scene) -> Iterator[None]:
        scene.lab.lab("fault", *words)
        try:
            yield
            scene.ends_within(most_s)
        finally:
            scene.lab.lab("fault", *undo.split())

    INJECTIONS[name] = contextlib.contextmanager(act)


_at_once("kill_there", "kill-qemu", THERE, NAME)
_at_once("kill_here", "kill-qemu", HERE, NAME)
_at_once("daemon_here", "kill-daemon", HERE)
_at_once("daemon_there", "kill-daemon", THERE)
_while_it_runs("cut_all", "cut", HERE, THERE)
_while_it_runs("cut_control", "cut", HERE, THERE, "--ports", "control")
_while_it_runs("lossy", "drop", HERE, "5", "--one-way")
_while_it_runs("slow_link", "rate", HERE, "2mbit", undo=f"rate {HERE} 40mbit", most_s=20)
_while_it_runs("freeze_there", "freeze", THERE, NAME, undo=f"thaw {THERE} {NAME}", most_s=60)
_while_it_runs("no_writes", "break-disk", THERE, FRAIL, "writes", undo=f"mend-disk {THERE} {FRAIL}")
_while_it_runs("slow_writes", "break-disk", THERE, FRAIL, "slow", "--kib-s", "2048", undo=f"mend-disk {THERE} {FRAIL}")
_while_it_runs(
    "crawling_writes", "break-disk", THERE, FRAIL, "slow", "--kib-s", "64", undo=f"mend-disk {THERE} {FRAIL}"
)
_while_it_runs("freeze_daemon", "freeze", HERE, "libvirtd", undo=f"thaw {HERE} libvirtd", most_s=90)


@injection
def kill_module(scene: Scene) -> Iterator[None]:
    _signal_module(scene, "-9")
    yield


@injection
def end_module(scene: Scene) -> Iterator[None]:
    _signal_module(scene, "-TERM")
    yield


def _signal_module(scene: Scene, how: str) -> None:
    pid = scene.module()
    if pid is not None:
        scene.lab.sh(HERE, "kill", how, pid, check=False)


@injection
def kill_controller(scene: Scene) -> Iterator[None]:
    """All of Ansible's processes here: workers have sessions of their own."""
    family = [scene.controller.pid]
    for pid in family:
        told = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
        family += [int(child) for child in told.stdout.split()]
    for pid in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    scene.controller.wait(10)
    yield


@injection
def busy_for_ever(scene: Scene) -> Iterator[None]:
    """The guest and the link are so from the beginning; the link is what heals."""
    yield
    scene.ends_within(_ENDS_S)
    scene.lab.lab("fault", "rate", HERE, "none")


@injection
def abort(scene: Scene) -> Iterator[None]:
    scene.lab.virsh(HERE, "domjobabort", NAME, check=False)
    yield


@injection
def stranger(scene: Scene) -> Iterator[None]:
    words = ["virsh", "-q", "migrate", "--live", "--p2p", NAME, f"qemu+ssh://root@{THERE}/system"]
    told = subprocess.run(
        [str(LAB), "exec", "--name", scene.lab.name, HERE, "--", "timeout", "60", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    if told.returncode == 0:
        raise AssertionError("two moves of one guest at the same time: libvirt let both begin")
    yield


@injection
def power_off(scene: Scene) -> Iterator[None]:
    _monitor(scene, "system_powerdown")
    yield


@injection
def reset(scene: Scene) -> Iterator[None]:
    _monitor(scene, "system_reset")
    yield


def _monitor(scene: Scene, command: str) -> None:
    """Past libvirt's jobs: virsh shutdown and reset wait for the end of the move."""
    scene.lab.virsh(HERE, "qemu-monitor-command", NAME, "--hmp", command)


@injection
def fill(scene: Scene) -> Iterator[None]:
    scene.lab.lab("fault", "fill", THERE, SMALL)
    try:
        yield
        scene.ends_within(_ENDS_S)
    finally:
        scene.lab.lab("fault", "unfill", THERE, SMALL)


@injection
def no_reads(scene: Scene) -> Iterator[None]:
    """What the page cache of the host holds of the image is dropped, or the disk would not be asked."""
    scene.lab.lab("fault", "break-disk", HERE, FRAIL, "reads")
    try:
        scene.lab.sh(HERE, "dd", f"of={scene.web}", "oflag=nocache", "conv=notrunc,fdatasync", "count=0")
        yield
        scene.ends_within(_ENDS_S)
    finally:
        scene.lab.lab("fault", "mend-disk", HERE, FRAIL)


@injection
def mute(scene: Scene) -> Iterator[None]:
    """Until the guest has run on the destination for MUTE_S."""
    scene.lab.lab("fault", "mute", THERE)
    try:
        yield
        until(lambda: scene.watch.state(THERE) == RUNNING or scene.ended, _ENDS_S, "the guest runs there")
        scene.ends_within(MUTE_S)
    finally:
        scene.lab.lab("fault", "unmute", THERE)


def start_controller(scene: Scene) -> None:
    scene.controller = scene.lab.start(HERE, [Task("kvm_migrate", scene.args)])
