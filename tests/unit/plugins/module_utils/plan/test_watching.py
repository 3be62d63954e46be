# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run that finds another: the whole table, stalls, and what others left."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, Optional

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge
from ansible_collections.kvmops.fleet.plugins.module_utils.model.image import ImageFacts
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import LIVE, OFFLINE, Found, Sample
from ansible_collections.kvmops.fleet.plugins.module_utils.model.move_record import MoveRecord, Standing, record_of
from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import Act
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan, Step
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.migration import plan_move
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.watching import (
    GO,
    WATCH,
    act_of,
    answer,
    closing_steps,
    has_arrived,
    plan_watch,
    same_course,
    stalled,
    stayed_disks,
)
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.plan.migration_ends import (
    IMAGES,
    UUID,
    found_of,
    wish_of,
)

WEB = "%s/web1.qcow2" % IMAGES
DISK = {"target": "vda", "kind": "file", "device": "disk", "bus": "virtio", "source": WEB}
RECORD = MoveRecord(host="kvm2", uuid=UUID, mode=LIVE, pid=77, started=5)
WISH = wish_of({})


def found(here: Optional[str], there: Optional[str], job: Optional[str] = None) -> Found:
    words: Dict[str, Any] = {
        "source": {"state": here, "autostart": True, "job": job},
        "dest": {"state": there},
        "domain": {"disks": [DISK]},
        "images": {WEB: {"device": 1, "inode": 2}},
        "images_there": {WEB: {"exists": False}},
    }
    return found_of(words)


@pytest.mark.parametrize(
    ("record", "alive", "job", "ends", "expected"),
    [
        (None, False, None, ("running", None), GO),
        (None, False, "save", ("running", None), GO),
        (None, False, "migration_out", ("running", "paused"), WATCH),
        (RECORD, True, None, ("running", None), WATCH),
        (RECORD, True, "migration_out", ("running", "paused"), WATCH),
        (RECORD, False, "migration_out", ("running", "paused"), WATCH),
        (RECORD, False, None, ("running", None), GO),
        (RECORD, False, None, ("running", "running"), GO),
        (RECORD, False, None, (None, "running"), GO),
        (RECORD, False, None, (None, "shutoff"), GO),
        (replace(RECORD, mode=OFFLINE), False, None, (None, "running"), GO),
        (replace(RECORD, uuid="another"), False, None, (None, "running"), GO),
        (replace(RECORD, host="kvm3"), False, None, ("running", None), GO),
        (replace(RECORD, host="kvm3"), False, None, (None, "running"), GO),
    ],
)
def test_what_is_done(record: Any, alive: bool, job: Any, ends: Any, expected: str) -> None:
    assert answer(WISH, Standing(record, alive), found(*ends, job=job)) == expected


@pytest.mark.parametrize(("alive", "expected"), [(False, GO), (True, WATCH)])
def test_nobody_sends_on_after_a_post_copy_that_broke(alive: bool, expected: str) -> None:
    """libvirt keeps its job all the same."""
    broken = found("paused", "running", job="migration_out")
    source = replace(broken.source, status=replace(broken.source.status, reason="postcopy-failed"))  # type: ignore[type-var]
    assert answer(WISH, Standing(RECORD, alive), replace(broken, source=source)) == expected


@pytest.mark.parametrize(("alive", "job"), [(True, None), (True, "migration_out"), (False, "migration_out")])
def test_a_move_to_elsewhere_is_not_ours_to_watch(alive: bool, job: Optional[str]) -> None:
    with pytest.raises(CannotConverge) as refusal:
        answer(WISH, Standing(replace(RECORD, host="kvm3"), alive), found("running", None, job))
    assert "process 77 on kvm1) is moving it to kvm3" in str(refusal.value)


@pytest.mark.parametrize(
    ("here", "outcome", "expected"),
    [
        ("running", "moved", True),
        ("running", "stopped-there", False),
        ("shutoff", "stopped-there", True),
        ("shutoff", "stopped-here", False),
        (None, "stopped-there", False),
        ("running", "stayed", False),
    ],
)
def test_a_guest_that_was_off_arrives_off(here: Optional[str], outcome: str, expected: bool) -> None:
    assert has_arrived(outcome, found(here, None)) == expected


def test_of_a_dead_run_the_open_steps_are_shown() -> None:
    before = found("running", None, "migration_out")
    journal = plan_move(WISH, found("running", None)).journal
    noted = replace(before, leaving=journal)
    dead = plan_watch(WISH, noted, Standing(RECORD, False))
    assert [step.action for step in dead.steps] == ["watch", "autostart", "remove-source-disk"]
    assert [step.action for step in plan_watch(WISH, noted, Standing(RECORD, True)).steps] == ["watch"]
    assert [step.action for step in plan_watch(WISH, before, Standing()).steps] == ["watch"]
    assert record_of(RECORD.as_dict()) == RECORD


def test_of_an_offline_move_nothing_is_shown_beforehand() -> None:
    journal = plan_move(WISH, found("running", None)).journal
    assert journal is not None
    assert closing_steps(replace(found("shutoff", None), leaving=replace(journal, mode=OFFLINE))) == ()


def facts(**more: Any) -> ImageFacts:
    return ImageFacts(**{"path": WEB, "exists": True, "device": 1, "inode": 2, "size": 5, "changed_ns": 1, **more})


def sample(at_s: float, memory: float, disk: float = 0.0) -> Sample:
    return Sample(int(at_s * 1000), "memory", memory_processed_mib=memory, disk_processed_mib=disk)


def test_stalled_is_no_growth_over_the_window() -> None:
    grows = [sample(second, second) for second in range(100)]
    assert not stalled([]) and not stalled(grows)
    assert not stalled(grows + [sample(99 + second, 99) for second in range(30)])
    assert stalled(grows + [sample(99 + second, 99) for second in range(31)])
    assert not stalled([sample(second, 5, disk=second / 100) for second in range(100)]), "disks count too"
    assert not stalled([sample(0, 5), sample(500, 6)]), "a hole in what was seen is no stall"


def test_disks_that_were_left_by_others_are_named() -> None:
    there = {WEB: facts(inode=8, changed_ns=2)}
    assert stayed_disks(found("running", None), {WEB: facts()}, there) == [WEB]
    assert stayed_disks(found("running", None), {WEB: facts()}, {WEB: facts()}) == [], "shared"
    assert stayed_disks(found("running", None), {WEB: facts(exists=False)}, there) == []


@pytest.mark.parametrize(
    ("stopped", "late", "still", "expected"),
    [
        (None, None, False, None),
        (None, None, True, "abort"),
        (None, "pause", False, "pause"),
        (None, "abort", True, "abort"),
        ("pause", "pause", False, None),
        ("pause", "pause", True, "abort"),
        ("abort", "abort", True, None),
        ("postcopy", "postcopy", True, None),  # what is left of it is on both hosts
    ],
)
def test_what_is_done_about_a_dead_runs_job(
    stopped: Optional[str], late: Optional[str], still: bool, expected: Optional[str]
) -> None:
    rows = [Sample(at_ms, "memory", 10 if still else 10 + at_ms, 5, 1, 0, 0, 0, 1) for at_ms in (0, 15_000, 31_000)]
    told = act_of(rows, stopped, Act(late, "timeout_s (5) passed") if late else None)
    assert (told.what if told else None) == expected
    assert act_of([], None, Act("abort", "x")) is None


def test_what_a_running_guest_changes_between_two_looks_is_the_same_course() -> None:
    def plan(words: str, **args: Any) -> Plan:
        return Plan(steps=(Step("migrate", words, {"copy": ("vda",), **args}),))

    first = plan("move it, about 9 s", allocated=20, connections=2)
    assert same_course(first, plan("move it, about 12 s", allocated=21, connections=0))
    assert not same_course(first, plan("move it, about 9 s", allocated=20, connections=2, redirect="other"))
    assert not same_course(first, Plan())
    assert not same_course(first, Plan(steps=(Step("define", "move it, about 9 s", first.steps[0].args),)))
