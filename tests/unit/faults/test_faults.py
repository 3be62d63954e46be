# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fault campaign's own decisions: what its judge would see, and what it would miss."""

from __future__ import annotations

import random
from typing import Dict, List, Optional, Tuple

import pytest

from ansible_collections.kvmops.fleet.tests.faults import page
from ansible_collections.kvmops.fleet.tests.faults.campaign import folders_of, pool_of
from ansible_collections.kvmops.fleet.tests.faults.catalogue import (
    ELSEWHERE,
    FAULTS,
    HERE,
    REFUSED,
    THERE,
    Fault,
    chosen,
)
from ansible_collections.kvmops.fleet.tests.faults.inject import INJECTIONS
from ansible_collections.kvmops.fleet.tests.faults.judge import Round, judge_told
from ansible_collections.kvmops.fleet.tests.faults.refusals import OBSTACLES
from ansible_collections.kvmops.fleet.tests.faults.scene import FRAIL, Moment, draw, reached
from ansible_collections.kvmops.fleet.tests.faults.watch import (
    ABSENT,
    ENDING,
    OFF,
    PAUSED,
    RUNNING,
    SILENT,
    Look,
    safe_after,
    twice,
)


def looks(*said: Tuple[float, str]) -> List[Look]:
    return [Look(at - 0.01, at, state) for at, state in said]


MOVED: Dict[str, List[Look]] = {
    "kvm1": looks((0, RUNNING), (1, RUNNING), (2, PAUSED), (3, ABSENT), (4, ABSENT)),
    "kvm2": looks((0.5, ABSENT), (1.5, PAUSED), (2.5, RUNNING), (3.5, RUNNING)),
}


def test_a_move_is_not_two_owners() -> None:
    assert twice(MOVED) is None


def test_a_source_that_ends_after_it_handed_over_is_no_second_owner() -> None:
    ending = looks((0, RUNNING), (1, ENDING), (2, ABSENT))
    assert twice({"kvm1": ending, "kvm2": looks((0.5, RUNNING), (1.5, RUNNING))}) is None


@pytest.mark.parametrize(
    "second",
    [looks((0.5, RUNNING)), looks((0.2, PAUSED), (0.6, RUNNING), (0.8, ABSENT))],
)
def test_two_running_guests_are_seen(second: List[Look]) -> None:
    assert twice({"kvm1": looks((0, RUNNING), (1, RUNNING)), "kvm2": second}) in (0.5, 0.6)


def test_a_silent_host_proves_nothing() -> None:
    assert twice({"kvm1": looks((0, RUNNING), (1, SILENT)), "kvm2": looks((0.5, RUNNING))}) is None


def test_safe_is_when_the_twin_is_gone_for_good() -> None:
    assert safe_after(MOVED, 1.2) == pytest.approx(2.5 - 1.2)
    stays = {"kvm1": looks((0, RUNNING), (9, RUNNING)), "kvm2": looks((1, PAUSED), (8, PAUSED))}
    assert safe_after(stays, 2) is None
    mute = {"kvm1": looks((0, RUNNING), (9, SILENT)), "kvm2": looks((1, ABSENT))}
    assert safe_after(mute, 2) is None
    off = {"kvm1": looks((0, RUNNING), (3, OFF)), "kvm2": looks((1, PAUSED), (4, ABSENT))}
    assert safe_after(off, 2) == pytest.approx(0 + 1)


@pytest.mark.parametrize(
    ("moment", "job", "part", "expected"),
    [
        (Moment("set-up", 0.3), {}, 0, False),
        (Moment("set-up", 0.3), {"type": 2}, 0, True),
        (Moment("disk", 0.5), {"type": 2, "disk_total": 100, "disk_remaining": 60}, 0, False),
        (Moment("disk", 0.5), {"type": 2, "disk_total": 100, "disk_remaining": 40}, 0, True),
        (Moment("disk", 0.5), {"type": 2, "memory_total": 9, "memory_remaining": 9}, 0, True),
        (Moment("memory", 0.5), {"type": 2, "disk_total": 100, "disk_remaining": 0}, 0, False),
        (Moment("memory", 0.5), {"type": 2, "memory_total": 100, "memory_remaining": 45}, 0, True),
        (Moment("stop", 0.1), {"type": 2, "memory_total": 100, "memory_remaining": 45}, 0, False),
        (Moment("stop", 0.1), {"type": 2, "memory_total": 100, "memory_remaining": 9}, 0, True),
        (Moment("part", 0.5), {}, 49, False),
        (Moment("part", 0.5), {}, 50, True),
    ],
)
def test_the_moment(moment: Moment, job: Dict[str, int], part: int, expected: bool) -> None:
    assert reached(moment, job, part, 100) is expected


def test_a_seed_gives_the_same_moment_again() -> None:
    assert draw(random.Random("M1 7"), ("disk", "memory")) == draw(random.Random("M1 7"), ("disk", "memory"))
    assert len({draw(random.Random("M1 %d" % seed), ("disk", "memory")) for seed in range(20)}) == 20


def test_the_catalogue_can_be_done() -> None:
    assert len({fault.id for fault in FAULTS}) == len(FAULTS)
    for fault in FAULTS:
        assert fault.inject in (OBSTACLES if fault.kind == REFUSED else INJECTIONS), fault.id
        assert fault.ids or fault.says or not fault.fails or fault.clean is False, fault.id
    assert len([fault for fault in FAULTS if fault.worst]) == 10


def test_a_broken_disk_is_the_one_that_the_fault_names() -> None:
    images = "/var/lib/libvirt/images"
    assert folders_of(Fault("X", "", "fill")) == (images, images)
    assert folders_of(Fault("X", "", "fill", small=True)) == (images, "/srv/small")
    assert folders_of(Fault("X", "", "no_reads", frail=HERE)) == (FRAIL, images)
    assert folders_of(Fault("X", "", "no_writes", frail=THERE)) == (images, FRAIL)
    assert (pool_of(images), pool_of(FRAIL)) == ("default", "frail")
    reads = [fault.id for fault in FAULTS if fault.inject == "no_reads"]
    assert reads == [fault.id for fault in FAULTS if fault.frail == HERE]


def test_no_fault_is_both_done_and_excused() -> None:
    excused = {number for numbers, why in ELSEWHERE for number in numbers.split(", ")}
    assert not excused & {fault.id.rstrip("abc") for fault in FAULTS}


@pytest.mark.parametrize(
    ("ids", "seen", "wrong"),
    [(["probe-gap"], 9000, 0), ([], 9000, 1), (["probe-gap"], 80, 1), (["probe-gap"], None, 1)],
)
def test_a_gap_has_to_be_told(ids: List[str], seen: Optional[int], wrong: int) -> None:
    fault = Fault("X", "", "mute", owner=THERE, fails=False, told=("probe-gap",), args={"probe": {"type": "icmp"}})
    result = {
        "concerns": [{"id": one} for one in ids],
        "metrics": {"downtime_ms": 90, "downtime_seen_ms": seen},
        "summary": ["web1 moved."],
    }
    one = Round("X", 1, "trixie,bookworm")
    judge_told(one, fault, result)
    assert len(one.wrong) == wrong and one.message == "web1 moved."


def test_faults_by_name() -> None:
    assert [fault.id for fault in chosen(["M1", "cut-all"])] == ["M1", "M9", "O2"]
    assert chosen([]) == FAULTS
    with pytest.raises(ValueError, match="no such fault: M99"):
        chosen(["M1", "M99"])


def test_a_round_that_did_not_pass_is_on_the_page() -> None:
    rounds = [
        Round("M1", 1, "bookworm,trixie", "disk 5 %", "running on kvm1", "9 records", safe_s=1.0, again="moved"),
        Round(
            "M1",
            2,
            "bookworm,trixie",
            "set-up",
            "running on kvm1",
            "",
            ["kvm2: file x"],
            wrong=["left behind"],
            commit="abc",
        ),
    ]
    text = page.page(rounds)
    assert "| M1 | QEMU on the destination: SIGKILL | 1 of 2 | running on kvm1 |" in text
    assert "- M1 (seed 2, set-up, at abc): left behind" in text
    assert "No round yet: M3," in text
