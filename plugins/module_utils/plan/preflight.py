# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""May this domain move to that host? Every question is asked; every answer that is not "yes" is a Concern.

One function per question, named after it. Each takes the two ends and what is planned for the disks.
"""

from __future__ import annotations

from typing import Callable, Iterable, List, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import ERROR, Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import COPY, LIVE, DiskMove, Found
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.disk_moves import NOTHING, room_concerns

Answers = Iterable[Concern]
Question = Callable[[Found, Domain, str, Tuple[DiskMove, ...]], Answers]

# Memory that QEMU itself and the page tables need beside the guest's own.
OVERHEAD_MIB = 64


def preflight(found: Found, mode: str, moves: Tuple[DiskMove, ...]) -> Tuple[Concern, ...]:
    """All concerns about moving found.source's domain. mode: live or offline."""
    domain = found.source.effective
    if domain is None:
        return ()
    answers: List[Concern] = []
    for question in QUESTIONS:
        answers += question(found, domain, mode, moves)
    return tuple(answers)


def errors(concerns: Sequence[Concern]) -> Tuple[Concern, ...]:
    """Those that refuse the move."""
    return tuple(concern for concern in concerns if concern.level == ERROR)


def is_it_another_host(found: Found, domain: Domain, mode: str, moves: Tuple[DiskMove, ...]) -> Answers:
    if found.source.facts.host_uuid == found.dest.facts.host_uuid:
        detail = "%s and %s report the same host UUID %s" % (
            found.source.side,
            found.dest.side,
            found.dest.facts.host_uuid,
        )
        remedy = "Name another host, or give each its own host_uuid in libvirtd.conf."
        yield Concern("same-host", ERROR, detail, remedy)


def is_the_name_free(found: Found, domain: Domain, mode: str, moves: Tuple[DiskMove, ...]) -> Answers:
    there = found.dest.domain
    if there is not None and there.uuid != domain.uuid:
        detail = "%s has another domain %s (UUID %s, here %s)" % (
            found.dest.side,
            there.name,
            there.uuid,
            domain.uuid,
        )
        yield Concern("name-taken", ERROR, detail, "Rename or remove one of the two.")
    if found.dest.same_uuid_name not in (None, domain.name):
        detail = "%s knows the UUID %s as %s" % (found.dest.side, domain.uuid, found.dest.same_uuid_name)
        yield Concern("uuid-taken", ERROR, detail, "Remove one of the two, or give it another UUID.")


def is_a_job_running(found: Found, domain: Domain, mode: str, moves: Tuple[DiskMove, ...]) -> Answers:
    status = found.source.status
    if status is not None and status.job:
        remedy = "Wait for its end, or end it with virsh domjobabort %s." % domain.name
        yield Concern("job-running", ERROR, "libvirt is busy with %s: %s" % (domain.name, status.job), remedy)


def does_memory_fit(found: Found, domain: Domain, mode: str, moves: Tuple[DiskMove, ...]) -> Answers:
    facts = found.dest.facts
    needed = domain.memory_mib + OVERHEAD_MIB
    room = facts.memory_free_mib if mode == LIVE else facts.memory_total_mib
    if needed > room:
        what = "free" if mode == LIVE else "in all"
        detail = "%s needs %d MiB; %s has %d MiB %s" % (domain.name, needed, found.dest.side, room, what)
        yield Concern("memory-short", ERROR, detail, "Choose another host, or make room there.")


def can_it_run_that_type(found: Found, domain: Domain, mode: str, moves: Tuple[DiskMove, ...]) -> Answers:
    types = found.dest.facts.domain_types
    if domain.type not in types:
        detail = "the domain's type is %s; %s runs %s" % (domain.type, found.dest.side, ", ".join(sorted(types)))
        yield Concern("domain-type", ERROR, detail, "Enable %s there, or choose another host." % domain.type)


def does_it_know_the_machine(found: Found, domain: Domain, mode: str, moves: Tuple[DiskMove, ...]) -> Answers:
    machines = found.dest.facts.machines
    here = found.source.facts.machines
    if domain.machine is None or not machines:
        return
    canonical = here.get(domain.machine) or domain.machine
    if canonical not in machines and canonical not in machines.values():
        detail = "%s does not know the machine type %s" % (found.dest.side, canonical)
        common = sorted(name for name in machines if name in here and name.startswith(canonical.rsplit("-", 1)[0]))
        remedy = "Update QEMU there, or give the domain a type both know, such as %s, and restart it." % (
            ", ".join(common[-2:]) or "pc"
        )
        yield Concern("machine-missing", ERROR, detail, remedy)


def does_the_cpu_fit(found: Found, domain: Domain, mode: str, moves: Tuple[DiskMove, ...]) -> Answers:
    if found.dest.cpu_fits is False:
        detail = "%s cannot give the guest its CPU %s" % (found.dest.side, domain.cpu.model or domain.cpu.mode)
        remedy = "Give the domain a CPU model that all hosts have (virsh hypervisor-cpu-baseline), and restart it."
        yield Concern("cpu-missing", ERROR, detail, remedy)


def are_the_networks_there(found: Found, domain: Domain, mode: str, moves: Tuple[DiskMove, ...]) -> Answers:
    for nic in domain.nics:
        there = {"network": found.dest.networks, "bridge": found.dest.bridges}.get(nic.kind)
        if there is not None and nic.source not in there:
            detail = "%s has no %s %s (interface %s)" % (found.dest.side, nic.kind, nic.source, nic.mac)
            remedy = "Create and start it there; it has: %s." % (", ".join(sorted(there)) or "none")
            yield Concern("%s-missing" % nic.kind, ERROR, detail, remedy)


def is_the_target_free(found: Found, domain: Domain, mode: str, moves: Tuple[DiskMove, ...]) -> Answers:
    for move in moves:
        if move.way != COPY:
            continue
        users = found.dest.disk_users.get(move.path, ())
        if users:
            detail = "%s on %s is used by %s" % (move.path, found.dest.side, ", ".join(users))
            yield Concern("target-disk-used", ERROR, detail, "Choose another name for one of the two disks.")
        elif move.exists and mode == LIVE:
            detail = "%s exists already on %s" % (move.path, found.dest.side)
            remedy = "It is never overwritten. Look what it is; remove it, or choose another host."
            yield Concern("target-disk-exists", ERROR, detail, remedy)
        elif move.exists and found.dest.images[move.path].size != found.source.images[move.path].size:
            detail = "%s exists already on %s and differs in size" % (move.path, found.dest.side)
            remedy = "It is never overwritten. Look what it is; remove it, or choose another host."
            yield Concern("target-disk-differs", ERROR, detail, remedy)


def do_the_disks_fit(found: Found, domain: Domain, mode: str, moves: Tuple[DiskMove, ...]) -> Answers:
    return room_concerns(moves, found.dest.images, found.dest.side)


def are_the_other_files_there(found: Found, domain: Domain, mode: str, moves: Tuple[DiskMove, ...]) -> Answers:
    for path, use in other_files(domain):
        if not found.dest.images.get(path, NOTHING).exists:
            detail = "%s (%s) is missing on %s" % (path, use, found.dest.side)
            yield Concern("file-missing", ERROR, detail, "Put it there at the same path, or take it off the domain.")


def other_files(domain: Domain) -> List[Tuple[str, str]]:
    """Files that QEMU opens on the destination and that do not move: (path, what for)."""
    boot, firmware = domain.boot, domain.firmware
    files = [(boot.kernel, "kernel"), (boot.initrd, "initrd"), (firmware.loader, "firmware")]
    files += [(firmware.template, "variable store template")] if not firmware.nvram else []
    files += [
        (disk.source, "%s %s" % (disk.device, disk.target))
        for disk in domain.disks
        if disk.source and not disk.writable_image and disk.kind in ("file", "block")
    ]
    return [(path, use) for path, use in files if path]


def is_there_a_backing_chain(found: Found, domain: Domain, mode: str, moves: Tuple[DiskMove, ...]) -> Answers:
    backing = {disk.target: disk.backing for disk in domain.disks}
    for move in moves:
        missing = [
            path
            for path in backing.get(move.target, ())
            if path.startswith("/") and not found.dest.images.get(path, NOTHING).exists
        ]
        if move.way == COPY and missing and mode != LIVE:
            detail = "disk %s builds on %s, missing on %s" % (move.target, ", ".join(missing), found.dest.side)
            yield Concern("backing-missing", ERROR, detail, "Copy the base image there first; it is not written to.")


def does_it_use_host_things(found: Found, domain: Domain, mode: str, moves: Tuple[DiskMove, ...]) -> Answers:
    remedy = "Detach it first."
    for kind in domain.hostdevs:
        yield Concern("host-device", ERROR, "the domain holds a %s device of its host" % kind, remedy)
    for name in domain.filesystems:
        yield Concern("host-folder", ERROR, "the domain mounts the folder %s of its host" % name, remedy)


def is_a_known_trap_ahead(found: Found, domain: Domain, mode: str, moves: Tuple[DiskMove, ...]) -> Answers:
    """libvirt NEWS 8.8.0: copying all storage was broken in 8.7.0. NEWS 7.6.0: 7.3.0 to 7.5.x did not copy contents."""
    copies = any(move.way == COPY for move in moves)
    for end in (found.source, found.dest):
        version = end.facts.libvirt_version
        if mode == LIVE and copies and (version // 1000 == 8007 or 7003 <= version // 1000 <= 7005):
            detail = "libvirt on %s loses disk contents when it copies storage (%d)" % (end.side, version)
            yield Concern("libvirt-storage-copy-bug", ERROR, detail, "Update libvirt there, or move it offline.")


QUESTIONS: Tuple[Question, ...] = (
    is_it_another_host,
    is_the_name_free,
    is_a_job_running,
    does_memory_fit,
    can_it_run_that_type,
    does_it_know_the_machine,
    does_the_cpu_fit,
    are_the_networks_there,
    is_the_target_free,
    do_the_disks_fit,
    are_the_other_files_there,
    is_there_a_backing_chain,
    does_it_use_host_things,
    is_a_known_trap_ahead,
)
