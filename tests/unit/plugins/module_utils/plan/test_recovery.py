# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever stops a move at whatever moment, the next run leads to one owner and leaves nothing behind."""

from __future__ import annotations

import copy
import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import List, Tuple

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge
from ansible_collections.kvmops.fleet.plugins.module_utils.model.journal import (
    HANDING_OVER,
    Journal,
    journal_of,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import LIVE, OFFLINE, Found
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Step
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import recovery
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.migration import plan_move
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.plan.crash_world import (
    DISK,
    World,
    new_world,
    power_cut,
    run,
    settle_libvirt,
)
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.plan.migration_ends import (
    UUID,
    found_of,
    wish_of,
)

DOCS = Path(__file__).parents[5] / "docs" / "recovery.md"
STATES = (recovery.MISSING, recovery.OFF, recovery.HALTED, recovery.ACTIVE, recovery.SPLIT)
KEEPS = ("nothing", "definition", "disks")


def moments(state: str, keep: str) -> List[Tuple[str, World]]:
    """The world after each moment of an undisturbed move, the first before anything happened."""
    world = new_world(state)
    seen = [("before", copy.deepcopy(world))]
    for moment in run(world, wish_of({"keep_source": keep})):
        seen.append((moment, copy.deepcopy(world)))
    return seen


def check_moved(world: World, keep: str) -> None:
    assert world.dest.state in ("running", "off") and world.dest.autostart
    assert world.source.state == ("kept" if keep == "definition" else None)
    assert (DISK in world.source.files) is (keep == "disks")
    assert DISK in world.dest.files
    assert not [path for path in (*world.source.files, *world.dest.files) if "kvmops-part" in path]
    assert world.source.note is None and world.dest.note is None and not world.source.aside


def recovered(world: World, keep: str) -> bool:
    """Run again to the end. False when it asks for a person, which must not have changed a thing."""
    before = copy.deepcopy(world)
    try:
        for _moment in run(world, wish_of({"keep_source": keep})):
            assert not (world.source.state == world.dest.state == "running"), "it runs twice"
    except CannotConverge as error:
        assert world == before
        assert "run again" in str(error) or "Stop one" in str(error)
        return False
    check_moved(world, keep)
    return True


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("state", ["running", "off"])
def test_an_undisturbed_move(state: str, keep: str) -> None:
    world = moments(state, keep)[-1][1]
    check_moved(world, keep)
    assert plan_move(wish_of({"keep_source": keep}), world.found()).plan.steps == ()


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("state", ["running", "off"])
def test_the_module_is_killed_at_any_moment(state: str, keep: str) -> None:
    """libvirt then ends its job either way; no moment asks for a person."""
    for moment, stopped in moments(state, keep):
        for world in settle_libvirt(stopped):
            assert recovered(world, keep), moment


@pytest.mark.parametrize(("state", "keep"), [("running", "nothing"), ("off", "nothing"), ("running", "definition")])
def test_and_killed_again_while_it_recovers(state: str, keep: str) -> None:
    for moment, stopped in moments(state, keep):
        for first in settle_libvirt(stopped):
            trial = copy.deepcopy(first)
            for second, dummy in enumerate(run(trial, wish_of({"keep_source": keep}))):
                again = copy.deepcopy(first)
                rest = run(again, wish_of({"keep_source": keep}))
                for _turn in range(second + 1):
                    next(rest)
                for world in settle_libvirt(again):
                    assert recovered(world, keep), (moment, second)


@pytest.mark.parametrize("side", ["source", "dest"])
@pytest.mark.parametrize("state", ["running", "off"])
def test_a_host_loses_its_power_at_any_moment(state: str, side: str) -> None:
    """Only where libvirt itself cannot tell which half is the whole one, a person is asked."""
    asked = [
        moment for moment, stopped in moments(state, "nothing") if not recovered(power_cut(stopped, side), "nothing")
    ]
    assert asked == {("running", "dest"): ["running there"]}.get((state, side), [])


def test_a_kept_disk_does_not_stand_in_the_way_of_a_return() -> None:
    found = found_of(
        {
            "domain": {"disks": [{"target": "vda", "source": DISK}]},
            "images": {DISK: {"allocated_mib": 90}},
            "images_there": {DISK: {"allocated_mib": 100, "inode": 7}},
        }
    )
    kept = Journal("x", "web1", UUID, LIVE, "kvm2", "kvm1", "", "", "kept", created=(DISK,), made={DISK: 7})
    plan = plan_move(wish_of({}), replace(found, arriving=kept)).plan
    assert [step.action for step in plan.steps][:3] == ["remove-leftover", "forget", "create-volume"]


def note(**more: object) -> Journal:
    plain = dict(run="x", name="web1", uuid=UUID, mode=LIVE, source="kvm1", dest="kvm2", created=(DISK,))
    return Journal(**dict(plain, source_uuid="uuid-of-kvm1", dest_uuid="uuid-of-kvm2", **more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "ours"),
    [
        ({"inode": 7, "allocated_mib": 100}, True),
        ({"inode": 8, "allocated_mib": 100}, False),
        ({"inode": 8, "allocated_mib": 0}, False),
    ],
)
def test_only_what_the_note_proves_is_removed(facts: object, ours: bool) -> None:
    found = replace(found_of({"images_there": {DISK: facts}}), leaving=note(made={DISK: 7}))
    assert ("remove-leftover" in [step.action for step in recovery.recover(wish_of({}), found).steps]) is ours


def test_an_empty_file_where_one_was_about_to_be_made_is_ours_and_a_full_one_is_not() -> None:
    for mib, ours in ((0, True), (100, False)):
        facts = {"allocated_mib": mib, "inode": 7}
        found = replace(found_of({"images_there": {DISK: facts}}), leaving=note())
        assert ("remove-leftover" in [step.action for step in recovery.recover(wish_of({}), found).steps]) is ours


def test_what_another_guest_uses_by_now_is_left_alone() -> None:
    words = {"images_there": {DISK: {"inode": 7}}, "dest": {"disk_users": {DISK: ["web9"]}}}
    found = replace(found_of(words), leaving=note(made={DISK: 7}))
    assert [step.action for step in recovery.recover(wish_of({}), found).steps] == ["forget"]


def test_nothing_is_left_behind_while_another_run_works() -> None:
    found = replace(found_of({"images_there": {DISK: {"inode": 7}}}), leaving=note(made={DISK: 7}))
    assert (
        recovery.recover(wish_of({}), found).steps
        and not recovery.recover(wish_of({}), replace(found, busy=True)).steps
    )


def test_nothing_is_left_behind_while_the_job_runs() -> None:
    words = {"source": {"job": "migration_out"}, "dest": {"state": "paused", "reason": "migration"}}
    found = replace(found_of(words), leaving=note(phase=HANDING_OVER))
    assert recovery.recover(wish_of({}), found).steps == ()


def test_a_transient_guest_that_waits_may_have_run_there() -> None:
    for persistent in (True, False):
        words = {"source": {"state": "paused", "reason": "migration", "persistent": persistent}}
        found = replace(found_of(words), leaving=note(phase=HANDING_OVER))
        if persistent:
            assert recovery.recover(wish_of({}), found).steps[0].action == "resume-source"
        else:
            with pytest.raises(CannotConverge):
                recovery.recover(wish_of({}), found)


def test_an_earlier_definition_there_is_no_proof() -> None:
    """The destination had a definition before, and the guest is off here: that one may have been started by hand."""
    words = {"source": {"state": "shutoff"}, "dest": {"state": "running"}}
    found = replace(found_of(words), leaving=note(phase=HANDING_OVER, dest_defined=True))
    with pytest.raises(CannotConverge, match="active on kvm2"):
        recovery.recover(wish_of({}), found)


def test_a_move_to_another_host_says_what_it_does_not_reach() -> None:
    found = replace(found_of({}), leaving=replace(note(), dest="kvm9", dest_uuid="uuid-of-kvm9"))
    assert "to kvm9 was cut short" in plan_move(wish_of({}), found).plan.warnings[0]


def test_every_state_has_a_row() -> None:
    offline = [state for state in STATES if state not in (recovery.HALTED, recovery.SPLIT)]
    wanted = [(LIVE, *pair) for pair in itertools.product(STATES, repeat=2)]
    wanted += [(OFFLINE, *pair) for pair in itertools.product(offline, repeat=2)]
    assert set(recovery.ROWS) == set(wanted)


def test_the_page_tells_the_table() -> None:
    rows = re.findall(r"^\| (live|offline) \| (\w+) \| (\w+) \| (.+?) \| (.+?) \|$", DOCS.read_text(), re.MULTILINE)
    assert rows == [(*key, told(row), row.because) for key, row in recovery.ROWS.items()]


def told(row: recovery.Row) -> str:
    """The answer as docs/recovery.md says it."""
    return row.answer if row.first is None else "%s, after %s" % (row.answer, row.first)


def test_a_note_survives_its_file() -> None:
    kept = note(phase=HANDING_OVER, made={DISK: 7}, sent={DISK: 5})
    assert journal_of(kept.as_dict()) == kept and journal_of(None) is None
    with pytest.raises(ValueError, match="unknown phase"):
        journal_of(dict(kept.as_dict(), phase="x"))


PAUSED_BY_HAND = {"state": "paused"}


@pytest.mark.parametrize(
    ("ours", "here", "there", "steps"),
    [
        (True, {"state": None}, PAUSED_BY_HAND, ["resume-dest", "forget"]),
        (False, {"state": None}, PAUSED_BY_HAND, ["forget"]),
        (True, {"state": None}, {"state": "running"}, ["forget"]),
        (True, PAUSED_BY_HAND, {"state": None}, ["resume-source", "forget"]),
        (False, PAUSED_BY_HAND, {"state": None}, ["forget"]),
        (True, PAUSED_BY_HAND, {"state": "paused", "reason": "migration"}, ["stop-dest", "resume-source", "forget"]),
        (True, {"state": "running"}, {"state": None}, ["forget"]),
    ],
)
def test_only_what_the_move_itself_paused_goes_on(ours: bool, here: object, there: object, steps: List[str]) -> None:
    found = found_of({"source": here, "dest": there})
    if here == {"state": None}:
        found = replace(found, source=replace(found.source, domain=None, status=None))
    found = replace(found, leaving=note(phase=HANDING_OVER, paused=ours, created=()))
    assert [step.action for step in recovery.recover(wish_of({}), found).steps] == steps


BROKEN = "postcopy-failed"
NEWER = {"libvirt_version": 11004000}
HALF_HERE = {"state": "paused", "reason": BROKEN, "job": "migration_out", "persistent": True}


def broken(dest: object, leaving: object = None, source: object = None) -> Found:
    """After a post-copy that broke, as kvm1 and kvm2 tell it."""
    return replace(found_of({"source": source or HALF_HERE, "dest": dest}), leaving=leaving)


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize(("here", "there"), [(BROKEN, "postcopy"), ("postcopy", BROKEN), (BROKEN, BROKEN)])
def test_two_halves_of_a_post_copy_that_one_side_calls_broken_become_one(here: str, there: str, tls: bool) -> None:
    """What has to be done after the move is done after that."""
    autostart = Step("autostart", "set autostart")
    found = broken(
        dict(NEWER, state="running", reason=there),
        note(phase=HANDING_OVER, created=(), closing=(autostart,)),
        dict(HALF_HERE, reason=here),
    )
    steps = plan_move(wish_of({"tls": tls}), found).plan.steps
    assert [step.action for step in steps] == ["resume-postcopy", "autostart", "forget"]
    assert steps[0].args == {"tls": tls}


def test_two_halves_that_are_one_again_are_on_the_destination() -> None:
    found = broken(dict(NEWER, state="running", reason=BROKEN), note(phase=HANDING_OVER))
    after = recovery.recover(wish_of({}), found).found
    assert after.source.status is None and recovery.word(after.dest) == recovery.ACTIVE


def test_two_halves_that_no_note_tells_of_are_a_persons_business() -> None:
    """Somebody else moved it, and nobody knows how."""
    found = broken(dict(NEWER, state="running", reason=BROKEN))
    with pytest.raises(CannotConverge, match="--postcopy-resume web1 .*Never resume the half on kvm1"):
        plan_move(wish_of({}), found)


def test_a_source_with_a_release_that_crashes_as_a_destination_resumes() -> None:
    source = dict(HALF_HERE, libvirt_version=11003000)
    found = broken(dict(NEWER, state="running", reason=BROKEN), note(phase=HANDING_OVER), source)
    assert recovery.recover(wish_of({}), found).steps[0].action == "resume-postcopy"


def test_the_half_on_the_source_is_stopped_when_all_of_it_is_there() -> None:
    found = broken({"state": "running"}, note(phase=HANDING_OVER))
    assert recovery.recover(wish_of({}), found).steps[0].action == "stop-source"
    with pytest.raises(CannotConverge, match="of which no note is left"):
        recovery.recover(wish_of({}), broken({"state": "running"}))


@pytest.mark.parametrize("dest", [{"state": None}, {"state": "shutoff"}])
@pytest.mark.parametrize("leaving", [None, note(phase=HANDING_OVER)])
def test_a_half_alone_is_never_resumed(dest: object, leaving: object) -> None:
    with pytest.raises(CannotConverge, match="THE GUEST IS LOST.*Never resume the half on kvm1"):
        recovery.recover(wish_of({}), broken(dest, leaving))


@pytest.mark.parametrize("source", [{"state": None}, {"state": "shutoff"}])
def test_a_source_that_is_gone_takes_the_rest_of_the_memory_with_it(source: object) -> None:
    found = broken({"state": "running", "reason": BROKEN}, note(phase=HANDING_OVER), source)
    with pytest.raises(
        CannotConverge, match="THE GUEST IS LOST unless it answers.*If the guest answers.*leave it alone"
    ):
        recovery.recover(wish_of({}), found)


@pytest.mark.parametrize(
    ("end", "version", "why"),
    [
        ("dest", 11002000, "libvirt 11.2.0 on kvm2 crashes when it resumes one"),
        ("dest", 11003000, "libvirt 11.3.0 on kvm2 crashes when it resumes one"),
        ("dest", 8004000, "kvm2 has libvirt 8.4.0, which cannot resume it"),
        ("source", 8000000, "kvm1 has libvirt 8.0.0, which cannot resume it"),
    ],
)
def test_a_resume_that_libvirt_cannot_do_is_not_tried(end: str, version: int, why: str) -> None:
    ends = {"source": dict(HALF_HERE), "dest": dict(NEWER, state="running", reason=BROKEN)}
    ends[end]["libvirt_version"] = version
    with pytest.raises(CannotConverge, match=why) as refusal:
        recovery.recover(wish_of({}), broken(ends["dest"], note(phase=HANDING_OVER), ends["source"]))
    assert "Stop neither half" in str(refusal.value) and "postcopy-resume" not in str(refusal.value)


def test_the_other_half_is_on_another_host() -> None:
    elsewhere = replace(note(phase=HANDING_OVER), dest="kvm9", dest_uuid="uuid-of-kvm9")
    with pytest.raises(CannotConverge, match="post-copy move to kvm9 broke off.*Run again with that host"):
        recovery.recover(wish_of({}), broken({"state": None}, elsewhere))


def test_a_post_copy_under_way_is_nobody_elses() -> None:
    source = dict(HALF_HERE, reason="postcopy")
    found = broken({"state": "running", "reason": "postcopy"}, note(phase=HANDING_OVER), source)
    assert recovery.recover(wish_of({}), found).steps == ()
