# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Post-copy: the guest runs on the destination before its memory is there. Only by consent, as a failure then loses it."""

from __future__ import annotations

from typing import Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import POSTCOPY_FAILED
from ansible_collections.kvmops.fleet.plugins.module_utils.model.host import version_text
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Found, Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import POSTCOPY
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import settlement

PARALLEL_SINCE = 10001000
# libvirt NEWS 8.5.0: VIR_MIGRATE_POSTCOPY_RESUME.
RESUME_SINCE = 8005000


def is_allowed(wish: Wish) -> bool:
    return wish.allow_postcopy or wish.on_timeout == POSTCOPY


def goes_parallel(found: Found) -> bool:
    """Post-copy over several connections: QEMU 10.1 on both ends."""
    return min(found.source.facts.qemu_version, found.dest.facts.qemu_version) >= PARALLEL_SINCE


def crashes_on_resume(libvirt_version: int) -> bool:
    """Of a destination: libvirt NEWS 11.4.0."""
    return 11002 <= libvirt_version // 1000 <= 11003


def has_broken(found: Found) -> bool:
    """libvirt has given up a post-copy of the guest on at least one side. It keeps the halves, and its job."""
    ends = (found.source.status, found.dest.status)
    return any(status is not None and status.reason == POSTCOPY_FAILED for status in ends)


def why_not_resumed(found: Found) -> Optional[str]:
    """None when libvirt can resume a broken one between these two."""
    for end in (found.source, found.dest):
        if end.facts.libvirt_version < RESUME_SINCE:
            return "%s has libvirt %s, which cannot resume it" % (end.side, version_text(end.facts.libvirt_version))
    dest = found.dest
    if crashes_on_resume(dest.facts.libvirt_version):
        words = "libvirt %s on %s crashes when it resumes one (libvirt NEWS 11.4.0), which must not be tried"
        return words % (version_text(dest.facts.libvirt_version), dest.side)
    return None


def told(wish: Wish, found: Found) -> Tuple[str, str]:
    """(what became of the guest, what to do) when its post-copy broke."""
    here, there = settlement.word_of(found.source.status), settlement.word_of(found.dest.status)
    source, dest = found.source.side, found.dest.side
    outcome = settlement.verdict(here, there)
    if outcome == settlement.MOVED:
        words = "it runs on %s, and a half of a post-copy move waits on %s, of which no note is left" % (dest, source)
        return words, "If that move went to %s, stop the half on %s (virsh destroy), then run again" % (dest, source)
    where, remedy = settlement.told(outcome, here, there, source, dest)
    if outcome != settlement.BROKEN_OFF:
        return "its post-copy move broke off: " + where, remedy.strip()
    why = why_not_resumed(found)
    return "its post-copy move broke off: %s%s" % (where, "; %s" % why if why else ""), by_hand(wish, source, dest, why)


def by_hand(wish: Wish, source: str, dest: str, why: Optional[str] = None) -> str:
    """What a person can do. source, dest: names of the hosts. why: it cannot be resumed, if so.

    TCP gives up after about 15 minutes (Linux, tcp_retries2); until then QEMU on both sides waits for the link.
    """
    resume = (
        "If it does not: on %s, virsh domjobabort %s --postcopy, which lets QEMU give up the old connection, and virsh migrate "
        "--live --p2p --persistent --undefinesource --postcopy --postcopy-resume %s %s. "
        % (source, wish.name, wish.name, wish.dest_uri)
    )
    return (
        "Stop neither half as long as there is hope. Restore the link: within about 15 minutes of the cut QEMU goes on by "
        "itself, and a run after that does the rest. %sOtherwise the guest's memory is lost: stop both halves (virsh destroy, "
        "first on %s, then on %s), keep the disks of %s, which are as after a power cut, check them and start the guest from "
        "them. Never resume the half on %s" % ("" if why else resume, source, dest, dest, source)
    )
