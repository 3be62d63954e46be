# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Preflight: the files that the guest needs there, those that are made there, and what stands in their way."""

from __future__ import annotations

from collections import Counter
from typing import List, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.image import SHARED_FILE_SYSTEMS, same_image
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import COPY
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.concerns import concern
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.disk_moves import NOTHING, room_concerns
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.question import Answers, Case, Question


def is_the_target_free(case: Case) -> Answers:
    side = case.dest.side
    for move in case.copies:
        path = move.arrives_at
        users = case.dest.disk_users.get(path, ())
        if users:
            yield concern("target-disk-used", "%s on %s is used by %s" % (path, side, ", ".join(users)))
        elif move.exists and case.live:
            yield concern("target-disk-exists", "%s exists already on %s" % (path, side))
        elif move.exists and case.dest.images[path].size != case.source.images[move.path].size:
            yield concern("target-disk-differs", "%s exists already on %s and differs in size" % (path, side))
    for path, count in Counter(move.arrives_at for move in case.moves).items():
        if count > 1:
            yield concern("target-disk-twice", "%d disks of %s would be %s" % (count, case.domain.name, path))


def do_the_disks_fit(case: Case) -> Answers:
    return room_concerns(case.moves, case.dest.images, case.dest.side)


def is_shared_storage_safe(case: Case) -> Answers:
    """libvirt goes by the file system's type (virFileIsSharedFS) and refuses the others as unsafe, read-only ones aside."""
    for move in case.moves:
        facts = case.source.images.get(move.path, NOTHING)
        if case.live and move.way != COPY and facts.kind == "file" and facts.fstype not in SHARED_FILE_SYSTEMS:
            detail = "disk %s (%s) is one file on both hosts, on a file system of type %s" % (
                move.target,
                move.path,
                facts.fstype,
            )
            yield concern("storage-unsafe", detail)


def is_shared_storage_locked(case: Case) -> Answers:
    kinds = {disk.target: disk.kind for disk in case.domain.disks}
    shared = [move for move in case.moves if move.way != COPY and kinds.get(move.target) in ("file", "block")]
    for end in (case.source, case.dest):
        if shared and case.live and end.hosting.locks is False:
            named = ", ".join(move.path for move in shared)
            yield concern("disk-lock-missing", "libvirt on %s has no virtlockd to lock %s" % (end.side, named))
    for move in shared:
        if kinds[move.target] == "block" and case.live:
            yield concern("disk-lock-block", "disk %s (%s) is a block device" % (move.target, move.path))


def does_a_disk_of_the_next_boot_stay(case: Case) -> Answers:
    moving = {disk.source for disk in case.domain.images}
    for disk in case.source.domain.images if case.source.domain is not None else ():
        path = disk.source or ""
        here, there = (end.images.get(path, NOTHING) for end in (case.source, case.dest))
        if path not in moving and disk.kind in ("file", "block") and not same_image(here, there):
            detail = "disk %s (%s) is in the definition of %s, and the running guest does not have it" % (
                disk.target,
                path,
                case.domain.name,
            )
            yield concern("disk-next-boot", detail)


def is_a_block_job_running(case: Case) -> Answers:
    jobs = dict(dict.fromkeys(case.found.demands.mirrors, "copy"), **case.found.block_jobs)
    for target, kind in sorted(jobs.items()):
        yield concern("block-job", "a block job (%s) works on disk %s of %s" % (kind, target, case.domain.name))


def are_the_other_files_there(case: Case) -> Answers:
    for path, use in other_files(case.domain):
        if not case.dest.images.get(path, NOTHING).exists:
            yield concern("file-missing", "%s (%s) is missing on %s" % (path, use, case.dest.side))


def other_files(domain: Domain) -> List[Tuple[str, str]]:
    """Files that QEMU opens on the destination and that do not move: (path, what for). Not those it may arrive without."""
    boot, firmware = domain.boot, domain.firmware
    files = [(boot.kernel, "kernel"), (boot.initrd, "initrd"), (firmware.loader, "firmware")]
    files += [(firmware.template, "variable store template")] if not firmware.nvram else []
    files += [
        (disk.source, "%s %s" % (disk.device, disk.target))
        for disk in domain.disks
        if disk.source and not disk.writable_image and not disk.optional and disk.kind in ("file", "block")
    ]
    return [(path, use) for path, use in files if path]


def is_there_a_backing_chain(case: Case) -> Answers:
    backing = {disk.target: disk.backing for disk in case.domain.disks}
    for move in case.copies if not case.live else ():
        missing = [
            path
            for path in backing.get(move.target, ())
            if path.startswith("/") and not case.dest.images.get(path, NOTHING).exists
        ]
        if missing:
            detail = "disk %s builds on %s, missing on %s" % (move.target, ", ".join(missing), case.dest.side)
            yield concern("backing-missing", detail)


QUESTIONS: Tuple[Question, ...] = (
    is_the_target_free,
    do_the_disks_fit,
    is_shared_storage_safe,
    is_shared_storage_locked,
    does_a_disk_of_the_next_boot_stay,
    is_a_block_job_running,
    are_the_other_files_there,
    is_there_a_backing_chain,
)
