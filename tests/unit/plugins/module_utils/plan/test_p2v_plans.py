# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When to cut over, what a request may say, what stands against an image: the decisions of kvm_p2v_image."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import PreflightError, RequestError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import (
    P2vFound,
    P2vWish,
    Pass,
    Source,
    SourceDisk,
    Takeover,
    Target,
    UsedMap,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import (
    p2v_cold,
    p2v_impact,
    p2v_import,
    p2v_preflight,
    p2v_way,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v import head_of, plan_p2v
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_concerns import ENTRIES
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_passes import (
    CUT,
    GIVE_UP,
    GO_ON,
    forecast,
    next_step,
    why_given_up,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_preflight import (
    source_concerns,
    target_concerns,
    wanted_disks,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_request import read_p2v_wish
from ansible_collections.kvmops.fleet.plugins.module_utils.run import p2v_probe

MIB = 1024**2


def rounds(*told: Tuple[float, float, float]) -> List[Pass]:
    """(MiB, seconds, MiB of rest) each."""
    return [Pass(n, "copy", int(b * MIB), 0, s, int(r * MIB)) for n, (b, s, r) in enumerate(told, 1)]


@pytest.mark.parametrize(
    ("passes", "allowed", "expected"),
    [
        # 100 MiB/s; 20 MiB take a fifth of a second and one for the rest of it.
        (rounds((1000, 10, 20)), 2.0, CUT),
        (rounds((1000, 10, 20)), 1.1, GO_ON),
        # Half a second is worth another round.
        (rounds((1000, 10, 50)), 2.0, GO_ON),
        # Nothing written: only what a round costs beside.
        (rounds((1000, 10, 0)), 1.0, CUT),
        # A small round tells what it costs beside its bytes: 0.2 s.
        (rounds((1000, 10, 50), (50, 0.7, 4), (4, 0.24, 1)), 0.5, CUT),
        # It writes as fast as it is read.
        (rounds((1000, 10, 900), (900, 9, 890), (890, 9, 900), (900, 9, 890)), 2.0, GIVE_UP),
        # Slow, but nearer each time.
        (rounds((1000, 10, 900), (900, 9, 800), (800, 8, 700), (700, 7, 600)), 2.0, GO_ON),
        (rounds((1000, 10, 900), (900, 9, 800)), 2.0, GO_ON),
        # Five seconds are allowed; another round makes one of them.
        (rounds((1000, 50, 80)), 6.0, GO_ON),
        (rounds((1000, 50, 80), (80, 5, 8)), 6.0, GO_ON),
        (rounds((1000, 50, 80), (80, 5, 8), (8, 0.7, 1)), 6.0, CUT),
        # It writes so fast that another round would not make half of it.
        (rounds((1000, 50, 80), (80, 5, 50)), 6.0, CUT),
        # Nothing at all had to be copied.
        (rounds((0, 0.1, 0)), 2.0, CUT),
    ],
)
def test_when_to_cut_over(passes: List[Pass], allowed: float, expected: str) -> None:
    assert next_step(passes, allowed, 20) == expected


def test_there_is_an_end_to_the_rounds() -> None:
    assert next_step(rounds((1000, 10, 900), (900, 9, 800)), 2.0, 2) == GIVE_UP
    said = why_given_up(rounds((1000, 10, 900), (900, 9, 800)), 2.0)
    assert "800.0 MiB remain" in said and "2.0 s are allowed" in said


@pytest.mark.parametrize("rest", [0, 1, 10, 1000])
def test_a_longer_rest_is_never_a_shorter_pause(rest: float) -> None:
    assert forecast(rounds((1000, 10, rest))).pause_s < forecast(rounds((1000, 10, rest + 1))).pause_s


def params(**said: Any) -> Dict[str, Any]:
    plain = {
        "name": "old1", "pool": "default", "format": "qcow2", "mode": "hot", "cutover": "none", "max_downtime_s": 10.0,
        "max_passes": 20, "connections": 2, "connect_timeout_s": 60.0, "source": "old1",
    }  # fmt: skip
    return dict(plain, **said)


def test_a_plain_request_is_read() -> None:
    assert read_p2v_wish(params()) == P2vWish("old1", "default", source="old1")
    told = read_p2v_wish(params(cutover="freeze", takeover={"command": ["/x", "a"], "timeout_s": 5.0}))
    assert told.takeover == Takeover(("/x", "a"), 5.0)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"name": "../x"}, "'/'"),
        ({"name": "x" * 220}, "Shorten"),
        ({"max_downtime_s": 0, "connections": 0}, "max_downtime_s is 0.*connections is 0"),
        ({"connections": 17}, "16 are the most"),
        ({"disks": ["/dev/sda"]}, "kernel name"),
        ({"disks": ["sda", "sda"]}, "twice"),
        ({"services": ["-x"]}, "services has '-x'"),
        ({"key": "ssh-ed25519 AAAA x"}, "no public key"),
        ({"key": 'command="x" ssh-ed25519 AAAA'}, "no public key"),
        ({"cutover": "freeze"}, "takeover is missing"),
        ({"cutover": "stop", "takeover": {"command": ["/x"], "timeout_s": 1}}, "services is empty"),
        ({"cutover": "none", "takeover": {"command": ["/x"], "timeout_s": 1}}, "belongs to freeze and stop"),
        ({"cutover": "freeze", "takeover": {"command": ["x"], "timeout_s": -1}}, "whole path.*timeout_s is -1"),
        ({"mode": "gather", "cutover": "poweroff"}, "leave cutover out"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_all_that_is_wrong(said: Dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        read_p2v_wish(params(**said))


SDA = SourceDisk("sda", 100 * MIB, serial="S1")
SDB = SourceDisk("sdb", 50 * MIB, serial="S2")
FACTS: Dict[str, Any] = {"tracing": "/sys/kernel/tracing", "clock_synchronised": True}
ROOM = 10**12


def source(disks: Tuple[SourceDisk, ...] = (SDA,), **facts: Any) -> Source:
    return Source("old1", "b1", disks, dict(FACTS, **facts))


def device(name: str, kind: str, disk: str = "sda") -> Dict[str, Any]:
    return {"name": name, "signature": {"type": kind}, "pieces": [{"disk": disk}]}


WISH = P2vWish("old1", "default")


@pytest.mark.parametrize(
    ("wish", "seen", "expected"),
    [
        (WISH, source(), []),
        (replace(WISH, disks=("sdz",)), source(), ["p2v-disk-missing"]),
        (WISH, source(()), ["p2v-no-disk"]),
        (replace(WISH, serials={"sda": "S9"}), source(), ["p2v-serial-differs"]),
        (WISH, source(tracing=""), ["p2v-no-tracking"]),
        (WISH, source((replace(SDA, sector=4096),)), ["p2v-sector-4096"]),
        (WISH, source(devices=[device("sda2", "crypto_LUKS")]), ["p2v-luks"]),
        (WISH, source(devices=[device("sda2", "linux_raid_member")]), ["p2v-raid"]),
        (WISH, source(devices=[device("sda2", "ocfs2")]), ["p2v-cluster-filesystem"]),
        (WISH, source(devices=[device("sdq2", "ocfs2", "sdq")]), []),
        (WISH, source(processes=["bash", "postgres"]), ["p2v-database"]),
        (replace(WISH, services=("postgresql",)), source(processes=["postgres"]), []),
        (WISH, source(clock_synchronised=False), ["p2v-clock"]),
        (WISH, source(mounts=[{"point": "/home", "fstype": "nfs4", "device": None}]), ["p2v-network-filesystem"]),
        (
            replace(WISH, disks=("sda",)),
            source((SDA, SDB), devices=[device("sdb1", "ext4", "sdb")], mounts=[{"device": "sdb1", "fstype": "ext4"}]),
            ["p2v-disk-left-out"],
        ),
    ],
)
def test_what_the_source_shows_against_it(wish: P2vWish, seen: Source, expected: List[str]) -> None:
    assert [concern.id for concern in source_concerns(wish, seen)] == expected


def test_read_only_disks_are_left_out_unless_named() -> None:
    seen = Source("old1", "b1", (SDA, SDB), {"disks": [{"name": "sdb", "read_only": True}]})
    assert wanted_disks(WISH, seen) == (SDA,)
    assert wanted_disks(replace(WISH, disks=("sdb",)), seen) == (SDB,)


HEAD = head_of(WISH, SDA, (SDA,))
FINISHED = Target("/p/i", True, dict(HEAD, complete=True), True)
USED = ((0, 10 * MIB),)


def found(target: Target, differing: Any = USED, free: int = ROOM, disk: SourceDisk = SDA) -> P2vFound:
    return P2vFound(source((disk,)), (disk,), {"sda": UsedMap(USED)}, {"sda": target}, {"sda": differing}, free)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (found(Target("/p/i")), []),
        (found(Target("/p/i"), free=50 * MIB), ["p2v-target-space"]),
        (found(FINISHED, differing=(), free=0), []),
        (found(Target("/p/i", True)), ["p2v-image-exists"]),
        (found(replace(FINISHED, untouched=False)), ["p2v-image-changed"]),
        (found(replace(FINISHED, head=HEAD)), ["p2v-image-changed"]),
        (found(replace(FINISHED, used_by=("web1",))), ["p2v-image-in-use"]),
        (found(FINISHED, disk=replace(SDA, serial="S3")), ["p2v-other-disk"]),
        (found(FINISHED, disk=replace(SDA, size=SDA.size * 2)), ["p2v-other-disk"]),
        (found(Target("/p/i", part_head=HEAD), disk=replace(SDA, wwn="w")), ["p2v-other-disk"]),
        (found(Target("/p/i", part_head=HEAD)), []),
    ],
)
def test_what_is_here_already_against_it(seen: P2vFound, expected: List[str]) -> None:
    assert [concern.id for concern in target_concerns(WISH, seen)] == expected


@pytest.mark.parametrize(
    ("wish", "seen", "words"),
    [
        (WISH, found(Target("/p/i")), ["copy the 10 MiB of sda", "freeze", "give"]),
        (WISH, found(FINISHED, differing=()), []),
        (WISH, found(FINISHED, differing=((0, 1),)), ["bring /p/i up to date: 1 MiB of sda differ", "freeze", "give"]),
        (WISH, found(Target("/p/i", part_head=HEAD)), ["go on with /p/i", "freeze", "give"]),
        (replace(WISH, gather_only=True), found(Target("/p/i")), []),
        (WISH, P2vFound(None, done=True), []),
        (
            replace(WISH, cutover="poweroff", services=("web",)),
            found(FINISHED, differing=()),
            ["bring", "stop web on the source", "freeze", "give", "power the source off"],
        ),
        (
            replace(WISH, cutover="freeze", takeover=Takeover(("/x",), 1)),
            found(Target("/p/i")),
            ["copy", "freeze", "give", "let /x start the VM", "power"],
        ),
    ],
)
def test_what_would_be_done_in_words(wish: P2vWish, seen: P2vFound, words: List[str]) -> None:
    plan = plan_p2v(wish, seen, ())
    assert len(plan.words) == len(words)
    assert all(said.startswith(word) for said, word in zip(plan.words, words, strict=True)), plan.words


CLOSED = "ssh: connect to host 10.77.0.11 port 22: Connection timed out"


@pytest.mark.parametrize(
    ("stage", "said", "expected"),
    [
        (
            "start",
            "Failed to connect to the host via ssh: ssh: connect to host old1 port 22: No route to host",
            "p2v-source-unreachable",
        ),
        ("start", "@@@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @@@", "p2v-source-host-key"),
        ("start", "Host key verification failed.", "p2v-source-host-key"),
        ("start", "no Python on this machine: looked for python3, python", "p2v-source-python"),
        ("start", "sudo: a password is required", "p2v-source-root"),
        ("dial", CLOSED, "p2v-receiver-closed"),
        ("dial", "ssh: connect to host 10.77.0.11 port 22: No route to host", "p2v-receiver-closed"),
        ("dial", "ssh: connect to host 10.77.0.11 port 22: Connection refused", "p2v-receiver-no-sshd"),
        ("dial", "ssh: Could not resolve hostname kvm1: Name or service not known", "p2v-receiver-name"),
        ("dial", "No ED25519 host key is known for 10.77.0.11. Host key verification failed.", "p2v-receiver-host-key"),
        ("dial", "root@10.77.0.11: Permission denied (publickey).", "p2v-receiver-no-login"),
        ("dial", "starting ssh: No such file or directory", "p2v-source-no-ssh"),
        ("dial", "exit 137", "p2v-agent-absent"),
        ("", "1 of 3 connections came within 60 s", "p2v-agent-absent"),
    ],
)
def test_why_the_agent_did_not_come(stage: str, said: str, expected: str) -> None:
    seen = p2v_way.why_absent(p2v_way.Absence("old1", stage, said))
    assert (seen.id, seen.level) == (expected, "error")
    assert seen.detail == "old1: " + said.replace("@@@", "").strip()


def test_what_to_open_is_named_and_no_more_than_is_needed() -> None:
    seen = p2v_way.why_absent(p2v_way.Absence("old1", "dial", CLOSED, "10.77.0.51", "2222"))
    assert "host_base_firewall_allow: [{port: 2222, proto: tcp, from: 10.77.0.51}]" in seen.remedy
    seen = p2v_way.why_absent(p2v_way.Absence("old1", "dial", CLOSED))
    assert "from: ADDRESS OF old1}]" in seen.remedy


def test_an_error_refuses_and_a_warning_is_said() -> None:
    seen = found(Target("/p/i"))
    with pytest.raises(PreflightError, match="p2v-no-tracking"):
        plan_p2v(WISH, seen, source_concerns(WISH, source(tracing="")))
    plan = plan_p2v(WISH, seen, source_concerns(WISH, source(processes=["mysqld"])))
    assert plan.changes and "p2v-database" in plan.warnings[0]


def test_every_concern_has_a_remedy_and_an_id_of_its_own() -> None:
    assert len({entry.id for entry in ENTRIES}) == len(ENTRIES)
    assert all(entry.remedy.endswith(".") for entry in ENTRIES)


def test_what_is_asked_and_what_is_listed_are_the_same() -> None:
    asked = {name for dummy, dummy, name in p2v_way._CAUSES}
    for module in (p2v_preflight, p2v_way, p2v_cold, p2v_import, p2v_impact, p2v_probe):
        asked |= set(re.findall(r'concern\(\s*"([^"]+)"', Path(module.__file__).read_text(encoding="utf-8")))
    assert asked == {entry.id for entry in ENTRIES}
