# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run that finds another: the whole table, and when a disk of a dead run may go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, Optional

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge
from ansible_collections.kvmops.fleet.plugins.module_utils.model.image import ImageFacts
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import LIVE, OFFLINE, Found, Sample
from ansible_collections.kvmops.fleet.plugins.module_utils.model.move_record import MoveRecord, Standing, record_of
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.migration import plan_move
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.watching import (
    FINISH,
    GO,
    WATCH,
    answer,
    closing_steps,
    has_arrived,
    left_behind,
    may_remove,
    plan_finish,
    plan_watch,
    record_for,
    stalled,
    stayed_disks,
    warnings,
)
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.plan.migration_ends import (
    IMAGES,
    UUID,
    found_of,
    wish_of,
)

WEB = "%s/web1.qcow2" % IMAGES
DISK = {"target": "vda", "kind": "file", "device": "disk", "bus": "virtio", "source": WEB}
RECORD = MoveRecord(host="kvm2", uuid=UUID, mode=LIVE, pid=77, started=5, images={WEB: (1, 2)})
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
        (RECORD, False, None, (None, "running"), FINISH),
        (RECORD, False, None, (None, "shutoff"), GO),
        (replace(RECORD, mode=OFFLINE), False, None, (None, "running"), GO),
        (replace(RECORD, uuid="another"), False, None, (None, "running"), GO),
        (replace(RECORD, host="kvm3"), False, None, ("running", None), GO),
        (replace(RECORD, host="kvm3"), False, None, (None, "running"), GO),
    ],
)
def test_what_is_done(record: Any, alive: bool, job: Any, ends: Any, expected: str) -> None:
    assert answer(WISH, Standing(record, alive), found(*ends, job=job)) == expected


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


def test_the_record_holds_what_is_due_after_the_move() -> None:
    before = found("running", None)
    record = record_for(WISH, before, plan_move(WISH, before).plan, LIVE)
    assert [step.action for step in closing_steps(record)] == ["autostart", "remove-source-disk"]
    assert record.images == {WEB: (1, 2)} and record.uuid == UUID
    assert record_of(record.as_dict()) == record
    dead = plan_watch(WISH, before, Standing(record, False))
    assert [step.action for step in dead.steps] == ["watch", "autostart", "remove-source-disk"]
    assert [step.action for step in plan_watch(WISH, before, Standing(record, True)).steps] == ["watch"]
    after = plan_finish(WISH, found(None, "running"), Standing(record, False))
    assert [step.action for step in after.steps] == ["watch", "autostart", "remove-source-disk"]
    assert after.after["state"] == "running"


def test_of_an_offline_move_nothing_is_due() -> None:
    assert closing_steps(replace(RECORD, mode=OFFLINE, closing=({"action": "x", "words": "", "args": {}},))) == ()


def facts(**more: Any) -> ImageFacts:
    return ImageFacts(**{"path": WEB, "exists": True, "device": 1, "inode": 2, "size": 5, "changed_ns": 1, **more})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, None),
        ({"record": replace(RECORD, images={})}, "had not noted it"),
        ({"uuid": "another"}, "another UUID"),
        ({"uuid": None}, "another UUID"),
        ({"there": facts(exists=False)}, "no such file on kvm2"),
        ({"there": facts()}, "sees the same file"),
        ({"here": facts(inode=3)}, "not the file any more"),
        ({"here": facts(device=9)}, "not the file any more"),
        ({"users": ["db1"]}, "db1 uses it"),
    ],
)
def test_a_disk_goes_only_when_all_is_known(change: Dict[str, Any], why: Optional[str]) -> None:
    plain = {"record": RECORD, "uuid": UUID, "here": facts(), "there": facts(inode=8, changed_ns=2), "users": []}
    told = may_remove(path=WEB, **{**plain, **change})
    assert told is None if why is None else why in str(told)


def sample(at_s: float, memory: float, disk: float = 0.0) -> Sample:
    return Sample(int(at_s * 1000), "memory", memory_processed_mib=memory, disk_processed_mib=disk)


def test_stalled_is_no_growth_over_the_window() -> None:
    grows = [sample(second, second) for second in range(100)]
    assert not stalled([]) and not stalled(grows)
    assert not stalled(grows + [sample(99 + second, 99) for second in range(30)])
    assert stalled(grows + [sample(99 + second, 99) for second in range(31)])
    assert not stalled([sample(second, 5, disk=second / 100) for second in range(100)]), "disks count too"
    assert not stalled([sample(0, 5), sample(500, 6)]), "a hole in what was seen is no stall"


def test_volumes_of_a_dead_run_go_only_when_the_guest_surely_never_ran_on_them() -> None:
    record = replace(RECORD, made=({"path": WEB, "pool": "default", "volume": "web1.qcow2"},))
    assert left_behind("stayed", record, "absent", "absent") == record.made
    for outcome, there in (("moved", "running"), ("stayed", "shutoff"), ("unknown", "silent"), ("twice", "running")):
        assert left_behind(outcome, record, there, "absent") == ()
    assert warnings(wish_of({"host": "kvm3"}), Standing(record)) and not warnings(WISH, Standing(record))


def test_disks_that_were_left_by_others_are_named() -> None:
    there = {WEB: facts(inode=8, changed_ns=2)}
    assert stayed_disks(found("running", None), {WEB: facts()}, there) == [WEB]
    assert stayed_disks(found("running", None), {WEB: facts()}, {WEB: facts()}) == [], "shared"
    assert stayed_disks(found("running", None), {WEB: facts(exists=False)}, there) == []
