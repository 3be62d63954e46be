# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The run that resumes a broken post-copy, against a stand-in for the source's libvirt: when it asks, and when it stops asking.

What real hosts do is for tests/integration/test_kvm_migrate_postcopy.py.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import libvirt
import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import progress_file
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import HERE
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.settlement import BROKEN, SPLIT
from ansible_collections.kvmops.fleet.plugins.module_utils.run import migrate_resume, migrate_settle
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_ends import Ends
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.host.fake_hypervisor import refuse
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.plan.migration_ends import wish_of

REFUSAL = "QEMU reports migration is still running"


class Halves:
    """The source's connection and domain. refuses: how often libvirt refuses; None for ever. goes_on: after how many looks
    QEMU goes on by itself, to its end with the next. hangs: the resume is taken and sends nothing. pauses: how often QEMU was
    told to give up its connection."""

    def __init__(self, refuses: Optional[int] = 0, goes_on: Optional[int] = None, hangs: bool = False) -> None:
        self.refuses, self.goes_on, self.hangs = refuses, goes_on, hangs
        self.asked: List[Tuple[Dict[str, Any], int]] = []
        self.pauses, self.looks, self.sent, self.whole = 0, 0, 1 << 20, False

    def says(self) -> Tuple[str, str]:
        return ("absent", "running") if self.whole else (BROKEN, SPLIT)

    def lookupByName(self, name: str) -> Halves:
        return self

    def connect(self) -> Halves:
        return self

    def name(self) -> str:
        return "web1"

    def isPersistent(self) -> int:
        return 1

    def domainEventRegisterAny(self, *words: Any) -> int:
        return 1

    def domainEventDeregisterAny(self, number: int) -> None:
        pass

    def jobStats(self, flags: int = 0) -> Dict[str, Any]:
        self.looks += 1
        if self.goes_on is not None and self.looks > self.goes_on:
            self.sent += 1 << 20
            self.whole = self.looks > self.goes_on + 3
        return {"type": 2, "memory_total": 1 << 30, "memory_processed": self.sent}

    def abortJob(self) -> None:
        raise AssertionError("a post-copy is never ended")

    def abortJobFlags(self, flags: int) -> None:
        assert flags == libvirt.VIR_DOMAIN_ABORT_JOB_POSTCOPY
        self.pauses += 1

    def migrateToURI3(self, uri: str, params: Dict[str, Any], flags: int) -> None:
        self.asked.append((params, flags))
        if self.hangs:
            threading.Event().wait(20)
        if self.refuses is None or len(self.asked) <= self.refuses:
            raise refuse("VIR_ERR_OPERATION_INVALID", REFUSAL)
        self.whole = True


@pytest.fixture(name="quick", autouse=True)
def fixture_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_file, "FOLDER", str(tmp_path))
    monkeypatch.setattr(progress_file, "path_of", lambda module, name: str(tmp_path / "progress.json"))
    monkeypatch.setattr(migrate_settle, "SETTLE_S", 1)
    for name, seconds in {
        "STANDS_STILL_S": 0.1,
        "ASK_AGAIN_S": 0.05,
        "GOES_ON_S": 0.6,
        "REFUSES_S": 0.6,
        "HANGS_S": 0.5,
    }.items():
        monkeypatch.setattr(migrate_resume, name, seconds)


def resume(monkeypatch: pytest.MonkeyPatch, halves: Halves, tls: bool = False, **wished: Any) -> None:
    for module in (migrate_resume, migrate_settle):
        monkeypatch.setattr(module, "both_say", lambda wish, ends: halves.says())
    ends = Ends(Hypervisor("a", "kvm1", halves), Hypervisor("b", "kvm2", None), HERE)
    migrate_resume.take(wish_of(wished), ends, tls)


def test_it_is_resumed_over_the_same_kind_of_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    halves = Halves()
    resume(monkeypatch, halves, tls=True, tls_destination="kvm2.example", migrate_uri="tcp://10.0.0.2")
    ((params, flags),) = halves.asked
    assert params == {"migrate_uri": "tcp://10.0.0.2", "tls.destination": "kvm2.example"}
    for name in ("LIVE", "PEER2PEER", "POSTCOPY", "POSTCOPY_RESUME", "TLS", "PERSIST_DEST", "UNDEFINE_SOURCE"):
        assert flags & getattr(libvirt, "VIR_MIGRATE_" + name), name
    assert not flags & libvirt.VIR_MIGRATE_PARALLEL and halves.pauses == 0


def test_libvirt_is_asked_until_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    halves = Halves(refuses=3)
    resume(monkeypatch, halves)
    assert len(halves.asked) == 4 and halves.pauses == 0


def test_what_goes_on_by_itself_is_watched_and_not_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    halves = Halves(refuses=None, goes_on=6)
    resume(monkeypatch, halves)
    assert halves.whole and halves.pauses == 0


def test_qemu_is_told_to_give_up_only_when_it_would_have_gone_on_by_then(monkeypatch: pytest.MonkeyPatch) -> None:
    halves = Halves(refuses=None)
    with pytest.raises(CannotConverge) as failure:
        resume(monkeypatch, halves)
    said = str(failure.value)
    assert 0 < halves.pauses < len(halves.asked)
    for words in (
        REFUSAL,
        "partly on kvm1",
        "Stop neither half",
        "--postcopy-resume web1",
        "Never resume the half on kvm1",
    ):
        assert words in said, said


def test_a_resume_that_hangs_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    halves = Halves(hangs=True)
    with pytest.raises(CannotConverge, match="took the resume, and QEMU on the destination does not answer"):
        resume(monkeypatch, halves)
    assert len(halves.asked) == 1 and halves.pauses == 0
