# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Preflight: the two hosts, the way between them, and whether there is room."""

from __future__ import annotations

from typing import Tuple
from urllib.parse import urlsplit

from ansible_collections.kvmops.fleet.plugins.module_utils.model.host import version_text
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.concerns import concern
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.question import Answers, Case, Question

# Memory that QEMU itself and the page tables need beside the guest's own.
OVERHEAD_MIB = 64

# What a live move needs of both libvirts: (since, what, whether this move needs it). libvirt-domain.h and NEWS.
NEEDED_SINCE = (
    (6008000, "choosing where copied disks are sent", lambda case: bool(case.copies) and bool(case.wish.migrate_uri)),
    (4004000, "encrypting copied disks", lambda case: bool(case.copies) and case.wish.tls),
    (5002000, "several connections for memory", lambda case: case.wish.tls),
)


def is_it_another_host(case: Case) -> Answers:
    here, there = case.source, case.dest
    if here.facts.host_uuid == there.facts.host_uuid:
        yield concern(
            "same-host",
            "%s and %s report the same host UUID %s" % (here.side, there.side, there.facts.host_uuid),
        )


def is_the_name_free(case: Case) -> Answers:
    there, domain, side = case.dest.domain, case.domain, case.dest.side
    if there is not None and there.uuid != domain.uuid:
        detail = "%s has another domain %s (UUID %s, here %s)" % (side, there.name, there.uuid, domain.uuid)
        yield concern("name-taken", detail)
    if case.dest.same_uuid_name not in (None, domain.name):
        yield concern("uuid-taken", "%s knows the UUID %s as %s" % (side, domain.uuid, case.dest.same_uuid_name))


def is_a_job_running(case: Case) -> Answers:
    status = case.source.status
    if status is not None and status.job:
        yield concern("job-running", "libvirt is busy with %s: %s" % (case.domain.name, status.job))


def is_the_destination_reached(case: Case) -> Answers:
    """QEMU connects from the source; the name has to mean the destination there."""
    addresses = case.found.reached_at
    if not case.live or addresses is None:
        return
    host = urlsplit(case.wish.migrate_uri or "").hostname
    if not addresses:
        yield concern("migrate-host-unknown", "%s finds no address for %s" % (case.source.side, host))
    elif all(address == "::1" or address.startswith("127.") for address in addresses):
        detail = "for %s the name %s means %s, which is itself" % (case.source.side, host, ", ".join(addresses))
        yield concern("migrate-host-loopback", detail)


def is_libvirt_new_enough(case: Case) -> Answers:
    for since, what, needed in NEEDED_SINCE:
        for end in (case.source, case.dest):
            if case.live and end.facts.libvirt_version < since and needed(case):
                detail = "%s needs libvirt %s; %s has %s" % (
                    what,
                    version_text(since),
                    end.side,
                    version_text(end.facts.libvirt_version),
                )
                yield concern("libvirt-too-old", detail)


def does_memory_fit(case: Case) -> Answers:
    if case.found.demands.hugepages:
        return
    facts = case.dest.facts
    needed = case.domain.memory_mib + OVERHEAD_MIB
    room = facts.memory_free_mib if case.live else facts.memory_total_mib
    if needed > room:
        what = "free" if case.live else "in all"
        detail = "%s needs %d MiB; %s has %d MiB %s" % (case.domain.name, needed, case.dest.side, room, what)
        yield concern("memory-short", detail)


def are_there_hugepages(case: Case) -> Answers:
    free = case.dest.hosting.free_pages
    if free is None or not case.live:
        return
    for size, count in sorted(case.found.demands.hugepages.items()):
        if free.get(size, 0) < count:
            detail = "%s needs %d hugepages of %d KiB; %s has %d free" % (
                case.domain.name,
                count,
                size,
                case.dest.side,
                free.get(size, 0),
            )
            yield concern("hugepages-short", detail)


def are_there_enough_cpus(case: Case) -> Answers:
    offer = case.dest.hosting.offer
    if offer is not None and offer.max_vcpus is not None and case.domain.vcpus > offer.max_vcpus:
        detail = "%s has %d virtual CPUs; %s gives at most %d to a guest of type %s" % (
            case.domain.name,
            case.domain.vcpus,
            case.dest.side,
            offer.max_vcpus,
            offer.machine,
        )
        yield concern("vcpus-many", detail)


QUESTIONS: Tuple[Question, ...] = (
    is_it_another_host,
    is_the_name_free,
    is_a_job_running,
    is_the_destination_reached,
    is_libvirt_new_enough,
    does_memory_fit,
    are_there_hugepages,
    are_there_enough_cpus,
)
