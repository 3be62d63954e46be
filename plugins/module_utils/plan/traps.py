# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Preflight: faults of certain versions that a move would run into, from the release notes of libvirt and QEMU."""

from __future__ import annotations

from typing import Tuple
from urllib.parse import urlsplit

from ansible_collections.kvmops.fleet.plugins.module_utils.model.host import version_text
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import SHARED, End
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.concerns import concern
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.disk_moves import NOTHING
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.question import Answers, Case, Question

# "physmem: Fix migration dirty bitmap coherency with TCG memory access"; Debian's 7.2.22 is without it.
TCG_SOUND_SINCE = 9000000


def _libvirt(end: End) -> str:
    return "libvirt %s on %s" % (version_text(end.facts.libvirt_version), end.side)


def loses_it_copied_disks(case: Case) -> Answers:
    for end in (case.source, case.dest):
        release = end.facts.libvirt_version // 1000
        if case.live and case.copies and (release == 8007 or 7003 <= release <= 7005):
            yield concern("libvirt-storage-copy-bug", "%s loses disk contents when it copies storage" % _libvirt(end))


def are_there_new_vmx_features(case: Case) -> Answers:
    here, there = (end.facts.libvirt_version // 1000 for end in (case.source, case.dest))
    has_vmx = case.found.demands.cpu_features.get("vmx") in ("require", "force")
    if case.live and has_vmx and here <= 9009 and 9010 <= there <= 10001:
        detail = "the guest's CPU has vmx; %s adds features to it that the guest does not have" % _libvirt(case.dest)
        yield concern("vmx-features", detail)


def has_it_several_threads(case: Case) -> Answers:
    """Seen from 9.0 with QEMU 7.2 to 11.3 with 10.0: "guest CPU doesn't match specification: extra features: ht"."""
    facts, demands = case.dest.facts, case.found.demands
    if not case.live or demands.threads < 2 or demands.cpu_features.get("ht") in ("require", "force"):
        return
    if facts.qemu_version >= 10000000 and facts.libvirt_version < 11010000:
        qemu = version_text(facts.qemu_version)
        detail = "the guest has %d threads per core; %s with QEMU %s" % (demands.threads, _libvirt(case.dest), qemu)
        yield concern("cpu-threads", detail)


def is_root_squashed(case: Case) -> Answers:
    images = case.source.images
    shared = [move.path for move in case.moves if move.way == SHARED]
    on_nfs = [path for path in shared if (images.get(path, NOTHING).fstype or "").startswith("nfs")]
    for end in (case.source, case.dest):
        if case.live and on_nfs and 10001 <= end.facts.libvirt_version // 1000 <= 10003:
            yield concern("nfs-root-squash", "%s, and %s is on NFS" % (_libvirt(end), ", ".join(on_nfs)))


def does_a_restart_crash_it(case: Case) -> Answers:
    if case.live and case.source.facts.libvirt_version // 1000 == 8008:
        yield concern("libvirt-restart-crash", _libvirt(case.source))


def does_the_guests_end_crash_it(case: Case) -> Answers:
    for end in (case.source, case.dest):
        if case.live and end.facts.libvirt_version < 10005000:
            yield concern("guest-end-crash", _libvirt(end))


def does_it_lose_writes(case: Case) -> Answers:
    version = case.source.facts.qemu_version
    if case.live and case.domain.type == "qemu" and version < TCG_SOUND_SINCE:
        detail = "%s has QEMU %s, and the guest runs without KVM" % (case.source.side, version_text(version))
        yield concern("tcg-lost-writes", detail)


def can_disks_be_encrypted(case: Case) -> Answers:
    wish = case.wish
    if not (case.live and wish.tls and case.copies):
        return
    host = urlsplit(wish.migrate_uri or "").hostname
    if case.source.facts.libvirt_version < 8002000 and host != wish.tls_destination:
        detail = "%s checks the certificate of %s against %s, and the name in it is %s" % (
            _libvirt(case.source),
            case.dest.side,
            host,
            wish.tls_destination,
        )
        yield concern("tls-name", detail)
    for end in (case.source, case.dest):
        if end.facts.qemu_version // 1000 in (5001, 5002):
            yield concern("tls-storage-stall", "%s has QEMU %s" % (end.side, version_text(end.facts.qemu_version)))


QUESTIONS: Tuple[Question, ...] = (
    loses_it_copied_disks,
    are_there_new_vmx_features,
    has_it_several_threads,
    is_root_squashed,
    does_a_restart_crash_it,
    does_the_guests_end_crash_it,
    does_it_lose_writes,
    can_disks_be_encrypted,
)
