# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who has the guest, and when target volumes may be removed: the whole table."""

from __future__ import annotations

import itertools
from typing import Optional

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import DomainStatus
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.settlement import (
    ABSENT,
    BROKEN,
    BROKEN_OFF,
    FETCHING,
    HALVES,
    LOST,
    MOVED,
    SILENT,
    SPLIT,
    STAYED,
    STOPPED_HERE,
    STOPPED_THERE,
    TWICE,
    UNKNOWN,
    advice,
    may_take_back,
    told,
    verdict,
    word_of,
)

WORDS = ("running", "paused", "shutoff", ABSENT, SILENT, SPLIT, BROKEN)


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        ("running", ABSENT, STAYED),
        ("paused", "shutoff", STAYED),
        ("running", SILENT, STAYED),
        (ABSENT, "running", MOVED),
        ("shutoff", "paused", MOVED),
        (SILENT, "running", UNKNOWN),
        ("running", "paused", TWICE),
        ("shutoff", ABSENT, STOPPED_HERE),
        ("shutoff", "shutoff", STOPPED_HERE),
        (ABSENT, "shutoff", STOPPED_THERE),
        (ABSENT, SILENT, UNKNOWN),
        ("shutoff", SILENT, UNKNOWN),
        (SILENT, SILENT, UNKNOWN),
        (SPLIT, SPLIT, FETCHING),
        (SPLIT, "paused", FETCHING),
        ("paused", SPLIT, FETCHING),
        (BROKEN, SPLIT, BROKEN_OFF),
        (SPLIT, BROKEN, BROKEN_OFF),
        (BROKEN, SILENT, BROKEN_OFF),
        (SPLIT, SILENT, UNKNOWN),
        (SILENT, SPLIT, UNKNOWN),
        (BROKEN, "running", MOVED),
        (BROKEN, ABSENT, LOST),
        (SPLIT, "shutoff", LOST),
        (ABSENT, BROKEN, LOST),
        ("shutoff", SPLIT, LOST),
        ("running", SPLIT, TWICE),
    ],
)
def test_verdict(here: str, there: str, expected: str) -> None:
    assert verdict(here, there) == expected


def test_disks_are_taken_back_only_when_the_guest_surely_never_ran_on_them() -> None:
    for here, there in itertools.product(WORDS, WORDS):
        if may_take_back(here, there):
            assert there == ABSENT and here in ("running", "paused", "shutoff")
            assert verdict(here, there) in (STAYED, STOPPED_HERE)


def test_after_the_switch_over_the_guest_never_stays() -> None:
    for here, there in itertools.product(HALVES, WORDS):
        assert verdict(here, there) not in (STAYED, TWICE, STOPPED_HERE, STOPPED_THERE)
        assert not may_take_back(here, there)


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (None, ABSENT),
        (DomainStatus("running", True), "running"),
        (DomainStatus("paused", True, reason="migration"), "paused"),
        (DomainStatus("paused", True, reason="postcopy"), SPLIT),
        (DomainStatus("running", True, reason="postcopy-failed"), BROKEN),
    ],
)
def test_what_a_side_says(status: Optional[DomainStatus], word: str) -> None:
    assert word_of(status) == word


def test_every_outcome_names_the_hosts_and_the_next_step() -> None:
    for here, there in itertools.product(WORDS, WORDS):
        outcome = verdict(here, there)
        if outcome != MOVED:
            where, remedy = told(outcome, here, there, "kvm1", "kvm2")
            assert "kvm1" in where or "kvm2" in where
            assert (remedy + advice(None)).strip()


def test_advice_reads_libvirts_words() -> None:
    assert "Free room" in advice("internal error: No space left on device")
    assert "journal" in advice("End of file while reading data: Input/output error")
    assert "QEMU on the destination" in advice("internal error: QEMU unexpectedly closed the monitor (vm='web1')")
    ended = "operation failed: job 'migration out' failed: Cannot read from TLS channel: The TLS connection was non-properly terminated."
    assert "QEMU on the destination" in advice(ended)
    assert "Somebody ended the job" in advice("operation aborted: job 'migration out' canceled by client")
