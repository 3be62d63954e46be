# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Preflight: what post-copy needs, where the task allows it. Once it has begun, neither side alone has the guest."""

from __future__ import annotations

from typing import Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.host import version_text
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import postcopy
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.concerns import concern
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.question import Answers, Case, Question


def is_allowed(case: Case) -> bool:
    return case.live and postcopy.is_allowed(case.wish)


def can_pages_be_fetched(case: Case) -> Answers:
    if is_allowed(case) and case.dest.userfaultfd is False:
        yield concern("postcopy-userfaultfd", "on %s QEMU may not use userfaultfd" % case.dest.side)


def can_it_be_parallel(case: Case) -> Answers:
    several = case.schedule is not None and case.schedule.connections
    if not is_allowed(case) or not (case.wish.tls or several) or postcopy.goes_parallel(case.found):
        return
    older = min((case.source, case.dest), key=lambda end: end.facts.qemu_version)
    why = "it is encrypted" if case.wish.tls else "the schedule says so"
    detail = "memory goes over several connections, as %s, and %s has QEMU %s"
    yield concern("postcopy-parallel", detail % (why, older.side, version_text(older.facts.qemu_version)))


def are_the_pages_of_one_size(case: Case) -> Answers:
    free = case.dest.hosting.free_pages
    for size in sorted(case.found.demands.hugepages) if is_allowed(case) and free is not None else ():
        if size not in (free or {}):
            detail = "the guest's memory is in pages of %d KiB, and %s has none of that size" % (size, case.dest.side)
            yield concern("postcopy-hugepages", detail)


def can_it_be_resumed(case: Case) -> Answers:
    if not is_allowed(case):
        return
    for end in (case.source, case.dest):
        version = end.facts.libvirt_version
        if version < postcopy.RESUME_SINCE:
            yield concern("postcopy-no-recovery", "%s has libvirt %s" % (end.side, version_text(version)))
        elif version < 11000000:
            yield concern("postcopy-false-failure", "%s has libvirt %s" % (end.side, version_text(version)))
    there = case.dest.facts.libvirt_version
    if postcopy.crashes_on_resume(there):
        yield concern("postcopy-resume-crash", "%s has libvirt %s" % (case.dest.side, version_text(there)))


QUESTIONS: Tuple[Question, ...] = (
    can_pages_be_fetched,
    can_it_be_parallel,
    are_the_pages_of_one_size,
    can_it_be_resumed,
)
