# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The run that watches, against a stand-in for the source's libvirt: jobs that end, stand still, or go elsewhere.

What real hosts do is for tests/integration/test_kvm_migrate_watch.py; here is what they will not do on demand.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import libvirt
import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import guest_lock, progress_file
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import HERE
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge, HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Found
from ansible_collections.kvmops.fleet.plugins.module_utils.model.move_record import MoveRecord
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import watching
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.migration import plan_move
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.settlement import BROKEN, SPLIT
from ansible_collections.kvmops.fleet.plugins.module_utils.run import migrate_recovery, migrate_watch
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_ends import Ends
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.host.fake_hypervisor import refuse
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.plan.migration_ends import UUID, found_of, wish_of

WISH = wish_of({})
# What a run of kvm_migrate notes before it moves the guest.
NOTE = plan_move(WISH, found_of({"source": {"state": "running"}, "dest": {"state": None}, "domain": {}})).journal


class Source:
    """A connection with one domain and its migration job. lasts: how many looks until it has ended; None for ever.

    grows: whether each look finds more sent. says: what both hosts say once the job is gone. split: it is in post-copy, whose link
    is cut after as many looks.
    """

    def __init__(
        self,
        lasts: Optional[int],
        grows: bool = True,
        says: Tuple[str, str] = ("absent", "running"),
        split: Optional[int] = None,
    ) -> None:
        self.left, self.grows, self.after, self.split = lasts, grows, says, split
        self.sent, self.aborted, self.suspended, self.refuses_postcopy = 1 << 20, 0, 0, 0

    @property
    def going(self) -> bool:
        return self.left is None or self.left > 0

    def state(self) -> List[int]:
        """Running, or paused in a post-copy that goes on (12) or has failed (13)."""
        if self.split is None:
            return [libvirt.VIR_DOMAIN_RUNNING, 0]
        self.split -= 1
        reason = libvirt.VIR_DOMAIN_PAUSED_POSTCOPY if self.split > 0 else libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED
        return [libvirt.VIR_DOMAIN_PAUSED, reason]

    def says(self) -> Tuple[str, str]:
        if self.split is not None:
            return BROKEN, SPLIT
        return ("running", "paused") if self.going else self.after

    def lookupByName(self, name: str) -> Source:
        if not self.going and self.after[0] == "absent":
            raise refuse("VIR_ERR_NO_DOMAIN", "no domain")
        return self

    def jobStats(self, flags: int = 0) -> Dict[str, Any]:
        if flags:
            return {"errmsg": "operation aborted"}
        if not self.going:
            return {"type": 0}
        self.left = self.left - 1 if self.left is not None else None
        self.sent += (1 << 20) if self.grows else 0
        operation = libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT
        sizes = {"memory_total": 1 << 30, "memory_processed": self.sent}
        return {"type": 2, "operation": operation, "time_elapsed": 60_000, **sizes}

    def abortJob(self) -> None:
        self.aborted += 1
        self.left, self.after = 0, ("running", "absent")

    def suspend(self) -> None:
        """It stays paused there, as on some releases it does."""
        self.suspended += 1
        self.left, self.after = 3, ("absent", "paused")

    def migrateStartPostCopy(self, flags: int) -> None:
        self.refuses_postcopy += 1
        raise refuse("VIR_ERR_OPERATION_INVALID", "the migration was not begun for it")

    def domainEventRegisterAny(self, *words: Any) -> int:
        return 1

    def domainEventDeregisterAny(self, number: int) -> None:
        pass


class Nowhere:
    """A destination that does not know the guest."""

    def lookupByName(self, name: str) -> Any:
        raise refuse("VIR_ERR_NO_DOMAIN", "no domain")


@pytest.fixture(name="cleaned", autouse=True)
def fixture_small_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[List[str]]:
    """Locks in a folder of the test, short waits; gives the steps of recovery that were taken."""
    monkeypatch.setattr(guest_lock, "FOLDER", str(tmp_path))
    monkeypatch.setattr(progress_file, "FOLDER", str(tmp_path))
    monkeypatch.setattr(progress_file, "path_of", lambda module, name: str(tmp_path / "progress.json"))
    monkeypatch.setattr(migrate_watch, "SETTLE_S", 1)
    monkeypatch.setattr(migrate_watch, "ARRIVES_S", 0.3)
    window = watching.stalled
    monkeypatch.setattr(watching, "stalled", lambda samples: window(samples, 0.7))
    cleaned: List[str] = []
    monkeypatch.setattr(migrate_recovery, "take", lambda wish, ends, step: cleaned.append(step.action) or True)
    monkeypatch.setattr(migrate_watch.files, "look", lambda place, paths: {})
    monkeypatch.setattr(migrate_watch.live_migration, "completed", lambda hv, name: {"time_elapsed": 77, "downtime": 5})
    yield cleaned


def watch(monkeypatch: pytest.MonkeyPatch, source: Source, dest: Any = None, **wished: Any) -> Any:
    notes = [NOTE]
    monkeypatch.setattr(migrate_watch.notebook, "survey", lambda place, paths, role, uuid: ({}, notes[-1]))

    def keep(place: Any, role: str, note: Any) -> None:
        assert source.suspended == 0, "paused before it was noted"
        notes.append(note)

    monkeypatch.setattr(migrate_watch.notebook, "keep", keep)

    def afterwards(wish: Any, ends: Any) -> Found:
        here, there = (None if word == "absent" else word for word in source.says())
        ends_now = found_of({"source": {"state": here}, "dest": {"state": there}, "domain": {}})
        return replace(ends_now, leaving=notes[-1] if guest_lock.standing("web1").record else None)

    monkeypatch.setattr(migrate_watch, "both_say", lambda wish, ends: source.says())
    monkeypatch.setattr(migrate_watch, "observe_ends", afterwards)
    ends = Ends(Hypervisor("a", "kvm1", source), Hypervisor("b", "kvm2", dest), HERE)
    return migrate_watch.take(wish_of(wished), ends, found())


def found() -> Found:
    return found_of({"source": {"state": "running", "job": "migration_out"}, "dest": {"state": "paused"}, "domain": {}})


def left_by_a_dead_run() -> None:
    with guest_lock.holding("web1") as held:
        held.write(MoveRecord(host="kvm2", uuid=UUID, mode="live"))
        held.keep()
    path = Path(guest_lock.FOLDER, "kvm_migrate-web1.run")
    path.write_text(path.read_text().replace('"started": ', '"started": 1'))
    assert guest_lock.standing("web1").record and not guest_lock.standing("web1").alive


def test_a_post_copy_that_stands_still_is_never_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It sends nothing for longer than others may; then libvirt says that it broke, and keeps its job."""
    left_by_a_dead_run()
    source = Source(lasts=None, grows=False, split=8)
    with pytest.raises(CannotConverge, match="Stop neither half, and never resume the one on kvm1"):
        watch(monkeypatch, source)
    assert source.aborted == 0 and guest_lock.standing("web1").record, "the next run has to know"


def test_a_dead_runs_move_is_followed_to_its_end(monkeypatch: pytest.MonkeyPatch, cleaned: List[str]) -> None:
    left_by_a_dead_run()
    source = Source(lasts=6)
    told = watch(monkeypatch, source)
    assert told["watched"] and told["metrics"]["total_ms"] == 77 and told["metrics"]["downtime_ms"] == 5
    assert told["metrics"]["impact"] is None and len(told["samples"]) >= 4
    assert source.aborted == 0 and cleaned == ["forget"] and list(Path(guest_lock.FOLDER).iterdir()) == []
    assert told["closed"] == ["forget the earlier move of web1 from kvm1 to kvm2"]


def test_one_that_stands_still_is_ended_and_taken_back(monkeypatch: pytest.MonkeyPatch, cleaned: List[str]) -> None:
    left_by_a_dead_run()
    source = Source(lasts=None, grows=False)
    with pytest.raises(HostError) as failure:
        watch(monkeypatch, source)
    assert "whose run is dead was ended (abort, it sent nothing for" in str(
        failure.value
    ) and "operation aborted" in str(failure.value)
    assert "the guest is running on kvm1" in str(failure.value)
    assert source.aborted == 1 and cleaned == ["forget"] and list(Path(guest_lock.FOLDER).iterdir()) == []


def test_how_it_ended_is_unknown_then_the_record_stays(monkeypatch: pytest.MonkeyPatch, cleaned: List[str]) -> None:
    left_by_a_dead_run()
    with pytest.raises(CannotConverge) as failure:
        watch(monkeypatch, Source(lasts=2, says=("running", "running")))
    assert "RUNNING ON kvm1 AND RUNNING ON kvm2" in str(failure.value).upper().replace("KVM", "kvm")
    assert cleaned == [] and guest_lock.standing("web1").record is not None


def test_a_strangers_move_is_never_ended(monkeypatch: pytest.MonkeyPatch, cleaned: List[str]) -> None:
    """It stands still for longer than a dead run's may, and ends by itself."""
    source = Source(lasts=10, grows=False)
    monkeypatch.setattr(migrate_watch, "_is_it_coming", lambda wish, ends, record: None)
    assert watch(monkeypatch, source)["watched"] and source.aborted == 0


def test_a_strangers_move_to_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(lasts=None)
    with pytest.raises(CannotConverge) as refusal:
        watch(monkeypatch, source, Nowhere())
    assert "kvm2 does not know of it" in str(refusal.value) and source.aborted == 0


def test_while_a_living_run_holds_the_lock_nothing_is_touched(
    monkeypatch: pytest.MonkeyPatch, cleaned: List[str]
) -> None:
    """Even a move that stands still; when that run has ended, what both ends say is told."""
    source, began = Source(lasts=None, grows=False), threading.Event()

    def living() -> None:
        with guest_lock.holding("web1") as held:
            held.write(MoveRecord(host="kvm2", uuid=UUID, mode="live"))
            began.set()
            time.sleep(2)
            assert source.aborted == 0
            source.left = 0

    run = threading.Thread(target=living)
    run.start()
    began.wait(5)
    told = watch(monkeypatch, source)
    run.join(10)
    assert told["watched"] and told["closed"] == [] and source.aborted == 0 and cleaned == []


def test_a_living_run_that_moves_it_elsewhere_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with guest_lock.holding("web1") as held:
        held.write(MoveRecord(host="kvm3", uuid=UUID, mode="live"))
        with pytest.raises(CannotConverge) as refusal:
            watch(monkeypatch, Source(lasts=None))
    assert "is moving it to kvm3" in str(refusal.value)


def test_a_dead_runs_move_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch, cleaned: List[str]) -> None:
    """It counts from the begin of the job, a minute ago, and not from when this run came."""
    left_by_a_dead_run()
    source = Source(lasts=None)
    with pytest.raises(HostError) as failure:
        watch(monkeypatch, source, timeout_s=50, on_timeout="abort")
    assert "was ended (abort, timeout_s (50) passed)" in str(failure.value)
    assert source.aborted == 1 and cleaned == ["forget"]


def test_in_time_it_is_left_alone(monkeypatch: pytest.MonkeyPatch, cleaned: List[str]) -> None:
    left_by_a_dead_run()
    source = Source(lasts=6)
    assert watch(monkeypatch, source, timeout_s=90)["ended_by"] is None and source.aborted == 0


def test_or_paused_noted_first_and_let_go_on(monkeypatch: pytest.MonkeyPatch, cleaned: List[str]) -> None:
    left_by_a_dead_run()
    source = Source(lasts=None)
    told = watch(monkeypatch, source, timeout_s=50, on_timeout="pause")
    assert source.suspended == 1 and source.aborted == 0 and told["ended_by"] == "pause"
    assert cleaned == ["resume-dest", "forget"] and "let web1 go on on kvm2" in told["closed"][0]


def test_or_left_going_when_post_copy_is_refused(monkeypatch: pytest.MonkeyPatch, cleaned: List[str]) -> None:
    left_by_a_dead_run()
    source = Source(lasts=8)
    told = watch(monkeypatch, source, timeout_s=50, on_timeout="postcopy")
    assert source.refuses_postcopy == 1 and told["ended_by"] is None and source.aborted == 0


def test_a_strangers_move_has_no_timeout(monkeypatch: pytest.MonkeyPatch, cleaned: List[str]) -> None:
    source = Source(lasts=6)
    monkeypatch.setattr(migrate_watch, "_is_it_coming", lambda wish, ends, record: None)
    assert watch(monkeypatch, source, timeout_s=50, on_timeout="pause")["watched"]
    assert source.aborted == source.suspended == 0
