# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Post-copy: a guest that writes faster than the link sends, and what becomes of it when one of the three breaks."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest

from .conftest import NEWER, wipe
from .fleet import GET, Lab, Task, alone, answers, guest, until
from .test_kvm_migrate_faults import Running
from .test_kvm_migrate_watch import kill_controller, kill_module

RELEASES = NEWER
HOSTS = ("kvm1", "kvm2", "kvm3")
# It writes faster than the link sends, to 60 MiB, which take five seconds to fetch.
LINK, BUSY = "100mbit", "kvmops.dirty_mib_s=60 kvmops.dirty_set_mib=60"
# What it writes to, and where that is read from. By then it has fetched what it uses all the time.
WRITTEN_PAGES, WRITTEN, DUMP = (
    60 * 256,
    Path(__file__).with_name("guest_writes.py"),
    "/var/lib/libvirt/qemu/web1.memory",
)
FETCHED = 150
# Nothing but post-copy can end it.
ONLY: Dict[str, Any] = {
    "name": "web1",
    "tls": False,
    "allow_postcopy": True,
    "schedule": {"compression": "none", "auto_converge": "never", "patience": 2, "at_stall": ["postcopy", "abort"]},
}


@pytest.fixture(name="kernel")
def fixture_kernel() -> Iterator[None]:
    """Nobody else changes whether QEMU may fetch pages."""
    with alone("userfaultfd"):
        yield


@pytest.fixture(name="slow")
def fixture_slow(lab: Lab, kernel: None) -> Iterator[Lab]:
    """Clean hosts whose QEMU may fetch pages, on links of 100 Mbit/s."""
    lab.lab("fault", "heal")
    wipe(lab)
    lab.lab("userfaultfd", "allow")
    for host in HOSTS:
        lab.lab("fault", "rate", host, LINK)
    yield lab
    lab.lab("fault", "heal")
    wipe(lab)
    lab.lab("userfaultfd", "forbid")


def start_web1(lab: Lab, host: str) -> None:
    lab.one(host, "kvm_domain", **guest("web1", 101, cmdline=BUSY))
    until(lambda: answers(lab, 101), 60, "web1 answers")


def page(lab: Lab) -> Dict[str, str]:
    """What the guest says of itself: tick counts seconds in its memory, boot_id is new with every boot."""
    until(lambda: answers(lab, 101), 60, "web1 answers")
    told = lab.lab("ns", "--", "python3", "-c", GET, "http://10.77.0.101/")
    return dict(line.split(": ", 1) for line in told.splitlines() if ": " in line)


def check_same_guest(lab: Lab, before: Dict[str, str], host: str) -> None:
    after = page(lab)
    assert after["boot_id"] == before["boot_id"] and int(after["tick"]) > int(before["tick"])
    assert lab.owners("web1", HOSTS) == [host]


def why(lab: Lab, host: str) -> str:
    return lab.virsh(host, "domstate", "--reason", "web1", check=False)


def in_postcopy(lab: Lab, one: str, other: str, **more: Any) -> Running:
    """A move of web1 by a run of its own, after the switch-over."""
    move = Running(lab, on=one, host=other, **{**ONLY, **more})
    until(lambda: "(post-copy)" in why(lab, one) and "(post-copy)" in why(lab, other), 120, "post-copy began")
    return move


def pull_cable(lab: Lab, host: str, state: str) -> None:
    """Out of the guest's network card, or in again."""
    card = lab.virsh(host, "domiflist", "web1").split()[0]
    lab.virsh(host, "domif-setlink", "web1", card, state)


def fetched(lab: Lab, source: str) -> int:
    """How many pages the destination has asked for."""
    told = re.search(r"Postcopy requests:\s+(\d+)", lab.virsh(source, "domjobinfo", "web1"))
    return int(told[1]) if told else 0


def check_written(lab: Lab, host: str) -> None:
    """All that the guest writes to is in its memory, and nothing that it wrote was lost: it goes round, adding one to each page."""
    lab.virsh(host, "suspend", "web1")
    lab.virsh(host, "qemu-monitor-command", "web1", "--hmp", "pmemsave 0 0x8000000 %s" % DUMP)
    lab.virsh(host, "resume", "web1")
    counts = json.loads(lab.sh(host, "python3", "-c", WRITTEN.read_text(), DUMP, str(WRITTEN_PAGES)))
    lab.sh(host, "rm", DUMP)
    assert None not in counts, "%d pages are damaged" % counts.count(None)
    turns = [number for number, (one, other) in enumerate(itertools.pairwise(counts)) if one != other]
    assert max(counts) - min(counts) <= 1 and len(turns) <= 1, (min(counts), max(counts), turns[:9])


@pytest.mark.parametrize(("one", "other"), [("kvm1", "kvm2"), ("kvm2", "kvm3")])
def test_a_guest_that_writes_faster_than_the_link_moves_by_post_copy(slow: Lab, one: str, other: str) -> None:
    start_web1(slow, one)
    before = page(slow)
    moved = slow.one(one, "kvm_migrate", host=other, **ONLY)
    print(moved["metrics"], moved["acts"])
    assert moved["changed"] and moved["ended_by"] == "postcopy" and "VIR_MIGRATE_POSTCOPY" in moved["flags"]
    (act,) = [act for act in moved["acts"] if act["what"] == "postcopy"]
    assert "MiB remain" in act["why"]
    assert 0 <= moved["metrics"]["downtime_ms"] < 2000
    check_same_guest(slow, before, other)
    again = slow.one(one, "kvm_migrate", host=other, **ONLY)
    assert not again["changed"]


def test_post_copy_when_the_time_is_over(slow: Lab) -> None:
    start_web1(slow, "kvm1")
    before = page(slow)
    late = {"name": "web1", "host": "kvm2", "tls": False, "timeout_s": 5, "on_timeout": "postcopy"}
    moved = slow.one("kvm1", "kvm_migrate", schedule={"compression": "none", "auto_converge": "never"}, **late)
    assert moved["ended_by"] == "postcopy", moved["acts"]
    assert any(act["what"] == "postcopy" for act in moved["acts"])
    check_same_guest(slow, before, "kvm2")


def test_without_consent_the_same_move_is_given_up(slow: Lab) -> None:
    start_web1(slow, "kvm1")
    failed = slow.one("kvm1", "kvm_migrate", may_fail=True, host="kvm2", **{**ONLY, "allow_postcopy": False})
    assert failed["failed"] and "the guest is running on kvm1" in failed["msg"], failed["msg"]
    assert slow.owners("web1", HOSTS) == ["kvm1"] and answers(slow, 101)


@pytest.mark.parametrize(("one", "other"), [("kvm1", "kvm2"), ("kvm3", "kvm1")])
def test_what_cannot_be_is_refused_before_anything_moves(lab: Lab, kernel: None, one: str, other: str) -> None:
    wipe(lab)
    lab.lab("userfaultfd", "forbid")
    start_web1(lab, one)
    asked: Dict[str, Any] = {"host": other, "may_fail": True, **ONLY}
    concerns = lab.one(one, "kvm_migrate", **asked)["concerns"]
    assert [concern["id"] for concern in concerns] == ["postcopy-userfaultfd"]
    lab.lab("userfaultfd", "allow")
    try:
        for more in ({"tls": True}, {"schedule": {"connections": 4}}):
            concerns = lab.one(one, "kvm_migrate", **{**asked, **more})["concerns"]
            assert "postcopy-parallel" in [concern["id"] for concern in concerns]
    finally:
        lab.lab("userfaultfd", "forbid")
    assert lab.owners("web1", HOSTS) == [one]
    wipe(lab)


def test_a_post_copy_whose_connection_is_dead_is_resumed(slow: Lab) -> None:
    """Without KVM, a processor that waits for what an interrupt needs, or a packet for memory that has not come, holds up all
    of QEMU there, and with it libvirt. So the guest has fetched what it uses all the time, and its cable is pulled."""
    start_web1(slow, "kvm2")
    before = page(slow)
    pull_cable(slow, "kvm2", "down")
    move = Running(slow, on="kvm2", host="kvm3", **ONLY)
    until(lambda: "Iteration" in slow.virsh("kvm2", "domjobinfo", "web1"), 60, "the move began")
    # What it asks for comes at once, and all the rest slowly.
    slow.virsh("kvm2", "migrate-setspeed", "web1", "2", "--postcopy")
    until(lambda: "(post-copy)" in why(slow, "kvm2") and fetched(slow, "kvm2") >= FETCHED, 120, "it has fetched much")
    slow.lab("fault", "cut", "kvm2", "kvm3")
    failed = move.result()
    print(failed["msg"])
    assert failed["failed"]
    for words in ("kvm2 (in a post-copy that broke off)", "Stop neither half", "run again"):
        assert words in failed["msg"], failed["msg"]
    # Not even a link that is back lets QEMU go on by itself then.
    slow.virsh("kvm2", "domjobabort", "web1", "--postcopy")
    slow.lab("fault", "heal")
    check = slow.one("kvm2", "kvm_migrate", host="kvm3", check=True, **ONLY)
    assert check["steps"][0] == "resume the post-copy of web1 from kvm2 to kvm3, which broke off", check["steps"]
    assert "post-copy failed" in why(slow, "kvm2") and "post-copy" in why(slow, "kvm3")
    real = slow.one("kvm2", "kvm_migrate", host="kvm3", **ONLY)
    assert real["changed"] and real["steps"] == check["steps"]
    assert slow.state("kvm2", "web1") is None and slow.state("kvm3", "web1") == "running"
    check_written(slow, "kvm3")
    pull_cable(slow, "kvm3", "up")
    check_same_guest(slow, before, "kvm3")
    again = slow.one("kvm2", "kvm_migrate", host="kvm3", **ONLY)
    assert not again["changed"] and again["steps"] == []


def test_a_destination_that_dies_after_the_switch_over_takes_the_guest_with_it(slow: Lab) -> None:
    """M47: the half that is left is never resumed."""
    start_web1(slow, "kvm1")
    move = in_postcopy(slow, "kvm1", "kvm2")
    slow.lab("fault", "kill-qemu", "kvm2", "web1")
    for failed in (move.result(), slow.one("kvm1", "kvm_migrate", host="kvm2", may_fail=True, **ONLY)):
        print(failed["msg"])
        assert failed["failed"] and "THE GUEST IS LOST" in failed["msg"], failed["msg"]
        assert "Never resume the half on kvm1" in failed["msg"]
        assert "paused" in why(slow, "kvm1") and slow.owners("web1", HOSTS) == ["kvm1"]
    assert not answers(slow, 101)


def test_a_release_that_crashes_on_resume_is_not_told_to(slow: Lab) -> None:
    start_web1(slow, "kvm1")
    move = in_postcopy(slow, "kvm1", "kvm2")
    slow.lab("fault", "cut", "kvm1", "kvm2")
    assert move.result()["failed"]
    # So that QEMU does not go on by itself when the link is back.
    slow.virsh("kvm1", "domjobabort", "web1", "--postcopy")
    daemons = slow.sh("kvm2", "sh", "-c", "pidof libvirtd virtqemud")
    slow.lab("fault", "heal")
    refused = slow.one("kvm1", "kvm_migrate", host="kvm2", may_fail=True, **ONLY)
    print(refused["msg"])
    assert refused["failed"] and "libvirt 11.3.0 on kvm2 crashes when it resumes one" in refused["msg"], refused["msg"]
    assert "Never resume the half on kvm1" in refused["msg"]
    assert slow.sh("kvm2", "sh", "-c", "pidof libvirtd virtqemud") == daemons
    assert "paused" in why(slow, "kvm1")


def test_a_link_that_is_back_soon_needs_no_resume(slow: Lab) -> None:
    """libvirt has given up by then, QEMU has not. The run after it does what libvirt left undone."""
    start_web1(slow, "kvm1")
    before = page(slow)
    move = in_postcopy(slow, "kvm1", "kvm2")
    slow.lab("fault", "cut", "kvm1", "kvm2")
    until(lambda: "post-copy failed" in why(slow, "kvm1"), 60, "libvirt gave up")
    told = move.result()
    assert told["failed"] and "Stop neither half" in told["msg"], told["msg"]
    slow.lab("fault", "heal")
    until(lambda: slow.state("kvm1", "web1") in (None, "shut off"), 150, "kvm1 let go")
    check, real, again, again_check = slow.quartet("kvm1", "kvm_migrate", host="kvm2", **ONLY)
    print(check["steps"])
    assert check["steps"] == real["steps"] and slow.state("kvm1", "web1") is None
    assert not again["changed"] and not again_check["changed"]
    check_same_guest(slow, before, "kvm2")


def test_the_post_copy_of_a_dead_run_is_watched_to_its_end(slow: Lab) -> None:
    start_web1(slow, "kvm1")
    before = page(slow)
    controller = slow.start("kvm1", [Task("kvm_migrate", {**ONLY, "host": "kvm2"})])
    try:
        until(lambda: "(post-copy)" in why(slow, "kvm1"), 120, "post-copy began")
        # Long enough for a second run to begin.
        slow.lab("fault", "rate", "kvm1", "16mbit")
        kill_module(slow)
        told = slow.one("kvm1", "kvm_migrate", host="kvm2", **ONLY)
    finally:
        kill_controller(controller)
    assert told["watched"] and told["changed"]
    check_same_guest(slow, before, "kvm2")
