# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is true after a fault, found without the product: virsh, files, sockets, checksums, records of the guest."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional

from ansible_collections.kvmops.fleet.tests.integration.disks import records_of, sha256

from .catalogue import HERE, OFFLINE, THERE, Fault
from .scene import KEPT, NAME, WEB, Scene
from .watch import ENDING, OFF, PAUSED, RUNNING, longest_gap, safe_after, twice


@dataclass
class Round:
    """One round of one fault. wrong: what was not as it must be; empty means passed. Times in seconds."""

    fault: str
    seed: int
    hosts: str
    moment: str = ""
    owner: str = ""
    disk: str = ""
    left: List[str] = field(default_factory=list)
    message: str = ""
    again: str = ""
    safe_s: Optional[float] = None
    silence_s: Optional[float] = None
    took_s: float = 0.0
    wrong: List[str] = field(default_factory=list)
    commit: str = ""

    def insist(self, right: Any, otherwise: str) -> None:
        if not right:
            self.wrong.append(otherwise)


def first_line(result: Mapping[str, Any]) -> str:
    return " ".join(str(result.get("msg", "")).split())[:700]


def judge_message(one: Round, fault: Fault, result: Mapping[str, Any]) -> None:
    """The task failed or not, as it must; then cause, side and next step by the fault's own patterns."""
    failed = bool(result.get("failed"))
    one.message = first_line(result) if failed else "(succeeded)"
    if fault.fails is not None:
        one.insist(failed == fault.fails, "the task %s" % ("failed" if failed else "did not fail"))
    if failed:
        for pattern in fault.says:
            one.insist(re.search(pattern, str(result.get("msg"))), "the message lacks %r" % pattern)


def judge_told(one: Round, fault: Fault, result: Mapping[str, Any]) -> None:
    """What a task that succeeded must tell: concerns; with a probe, that its guest was out of reach for longer than it stood still."""
    ids = [concern["id"] for concern in result.get("concerns") or ()]
    one.insist(not fault.told or set(fault.told) & set(ids), "told %s" % ids)
    metrics = result.get("metrics") or {}
    if "probe" in fault.args and fault.fails is False:
        stood, seen = metrics.get("downtime_ms") or 0, metrics.get("downtime_seen_ms") or 0
        one.insist(seen > stood, "the guest stood still for %s ms, and the probe saw %s ms" % (stood, seen))
        one.message = " ".join([*(result.get("summary") or ()), *(result.get("warnings") or ())])


def judge_owner(one: Round, fault: Fault, scene: Scene) -> Optional[str]:
    """Exactly one host has the guest, in the state that belongs to the fault. The host."""
    states = {host: scene.lab.state(host, NAME) for host in (HERE, THERE)}
    owners = [host for host, state in states.items() if state is not None]
    one.owner = ", ".join("%s on %s" % (state, host) for host, state in states.items() if state is not None) or "nobody"
    one.insist(len(owners) == 1, "the guest is %s" % one.owner)
    if not owners:
        return None
    if fault.owner is not None:
        one.insist(owners[0] == fault.owner, "the guest is on %s" % owners[0])
    one.insist(states[owners[0]] == ("shut off" if fault.off else "running"), "the guest is %s" % one.owner)
    return owners[0]


def judge_looks(one: Round, scene: Scene) -> None:
    """Never two at a time, over all that both hosts said."""
    at = twice(scene.watch.looks)
    one.insist(at is None, "BOTH HOSTS SAID RUNNING at %s" % at)


def judge_times(one: Round, scene: Scene) -> None:
    """From the fault until now: how long it was not safe, and the longest time for which one of the hosts said nothing."""
    if scene.faulted_at is not None:
        one.safe_s = safe_after(scene.watch.looks, scene.faulted_at)
        one.silence_s = max(longest_gap(looks, scene.faulted_at, time.time()) for looks in scene.watch.looks.values())


def judge_disk(one: Round, fault: Fault, scene: Scene) -> None:
    """Of the guest on the destination, which is ended for it."""
    path = WEB.replace(WEB.rsplit("/", 1)[0], scene.folder)
    if fault.kind == OFFLINE:
        same = sha256(scene.lab, THERE, path) == sha256(scene.lab, HERE, f"{KEPT}/disk")
        one.disk = "identical" if same else "DIFFERENT"
        one.insist(same, "the disk is another")
        return
    scene.page()
    if scene.lab.state(THERE, NAME) == "running":
        scene.lab.virsh(THERE, "destroy", NAME)
    try:
        numbers = records_of(scene.lab, THERE, path)
    except AssertionError as error:
        one.disk = "DAMAGED"
        one.wrong.append("the disk: %s" % str(error)[-300:])
        return
    one.disk = "%d records" % len(numbers)
    one.insist(numbers == list(range(1, len(numbers) + 1)), "records are missing: %s" % numbers)
    one.insist(
        len(numbers) >= scene.acknowledged > 0,
        "%d records were acknowledged, %d are there" % (scene.acknowledged, len(numbers)),
    )


def everything(scene: Scene) -> Dict[str, str]:
    """All that a refused move could have changed: definitions, states, files with their hashes."""
    script = (
        "virsh -q list --all; for d in $(virsh -q list --all --name); do virsh -q dumpxml $d; virsh -q snapshot-list $d; done;"
        "virsh -q net-list --all; virsh -q pool-list --all; virsh -q vol-list default;"
        "find /var/lib/libvirt/images /var/lib/libvirt/qemu/nvram -type f -exec sha256sum {} + | sort;"
        "find /run/kvmops /var/lib/kvmops/journal -type f | sort"
    )
    return {host: scene.lab.sh(host, "sh", "-c", script, check=False) for host in (HERE, THERE)}


def is_over(scene: Scene) -> bool:
    """Both hosts answer, one of them has the guest, and no half of a move is left."""
    states = scene.watch.states()
    return (
        sum(state in (RUNNING, PAUSED, OFF) for state in states) == 1
        and not {ENDING, "silent"} & set(states)
        and not scene.watch.job.get("type")
    )
