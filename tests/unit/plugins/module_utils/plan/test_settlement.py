# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who has the guest, and when target volumes may be removed: the whole table."""

from __future__ import annotations

import itertools
from typing import Optional

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import DomainStatus
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Sample
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.settlement import (
    ABSENT,
    BROKEN,
    BROKEN_OFF,
    FETCHING,
    HALVES,
    LINGERS,
    LOST,
    MOVED,
    SILENT,
    SPLIT,
    STAYED,
    STOPPED_HERE,
    STOPPED_THERE,
    TWICE,
    UNKNOWN,
    UNSETTLED,
    advice,
    cause,
    is_an_end,
    may_take_back,
    told,
    verdict,
    with_reason,
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
    cancelled = "operation aborted: job 'migration out' canceled by client"
    assert "Somebody ended the job" in advice(cancelled)
    assert is_an_end(cancelled) and is_an_end(ended) and not is_an_end("it was told to end and has not within 40 s")


def test_a_disk_that_failed_is_named_with_its_side() -> None:
    words = "operation failed: migration of disk vda failed: Input/output error"
    read = advice(words, "kvm1", "kvm2", [("vda", "read"), ("vdb", "write")])
    assert read.startswith("Disk vda could not be read on kvm1") and "kvm2" not in read and "run again" in read
    write = advice(words, "kvm1", "kvm2", [("", "write")])
    assert "disk vda could not be written on kvm2" in write and "kvm1" not in write
    assert "QEMU on the destination" in write, "it looks the same when that was killed"
    unknown = advice(words, "kvm1", "kvm2")
    assert "read on kvm1" in unknown and "written on kvm2" in unknown and unknown.endswith("then run again.")
    full = advice("migration of disk vda failed: No space left on device", "kvm1", "kvm2", [("vda", "write")])
    assert "Free room" in full


def test_libvirts_words_of_another_matter_do_not_hide_the_disk() -> None:
    """libvirt 11.3 tells of the connection that it closes after the copy failed."""
    words, last = "End of file while reading data: : Input/output error", Sample(0, "disk", 0, 0, 0, 12.2, 51.8)
    told_of = cause(words, [("vdb", "write")], last)
    assert told_of == "the copy of disk vdb failed (when about 12 of 64 MiB of disks were copied); libvirt: " + words
    assert advice(words, "kvm1", "kvm2", [("vdb", "write")]).startswith(
        "The copy of disk vdb could not be written on kvm2"
    )
    assert cause(words, [], last) == words and "daemon" in advice(words, "kvm1", "kvm2")
    gone = "internal error: QEMU unexpectedly closed the monitor (vm='web1')"
    assert advice(gone, "kvm1", "kvm2", [("vda", "write")]).startswith("QEMU on the destination")


def test_words_that_name_the_disk_are_left_as_they_are() -> None:
    words = "operation failed: migration of disk vda failed: Input/output error"
    assert cause(words, [("vda", "read")], None) == words
    assert cause(words, [], Sample(0, "memory")) == words


@pytest.mark.parametrize(
    ("here", "there", "reason", "expected"),
    [
        ("running", "paused", "migration", LINGERS),
        ("running", "paused", None, TWICE),
        ("running", "running", None, TWICE),
        ("paused", "paused", "migration", TWICE),
        ("running", ABSENT, "migration", STAYED),
        ("shutoff", "paused", "migration", MOVED),
    ],
)
def test_a_half_that_never_ran_is_no_second_guest(here: str, there: str, reason: Optional[str], expected: str) -> None:
    assert with_reason(verdict(here, there), here, reason) == expected
    if expected == LINGERS:
        where, remedy = told(LINGERS, here, there, "kvm1", "kvm2")
        assert "the guest is running on kvm1 as before; its half on kvm2" in where and "Run again" in remedy
        assert LINGERS in UNSETTLED and not may_take_back(here, there)
