# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who has the guest after a live move, judged by what both hosts say and not by what the call returned."""

from __future__ import annotations

import re
from typing import Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import (
    ACTIVE_STATES,
    MIGRATION,
    PAUSED,
    POSTCOPY,
    POSTCOPY_FAILED,
    RUNNING,
    DomainStatus,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Sample

# What one side says of the domain: one of the state words of model/domain.py, or one of these.
ABSENT = "absent"
SILENT = "silent"
# One half of a guest in post-copy: its memory is on both sides, and only the destination runs it.
SPLIT, BROKEN = "in post-copy", "in a post-copy that broke off"
HALVES = (SPLIT, BROKEN)

MOVED, STAYED, LINGERS, TWICE, STOPPED_HERE, STOPPED_THERE, UNKNOWN = (
    "moved",
    "stayed",
    "lingers",
    "twice",
    "stopped-here",
    "stopped-there",
    "unknown",
)
# Of post-copy: the destination fetches what is missing; it cannot any more; one half is gone.
FETCHING, BROKEN_OFF, LOST = "fetching", "broken-off", "lost"
# (target of the disk or "" where it is not known, "read" or "write"), as QEMU on the source told; see host/disk_errors.py.
DiskErrors = Sequence[Tuple[str, str]]
# A person or another run has to know before anything else is done.
UNSETTLED = (LINGERS, TWICE, UNKNOWN, FETCHING, BROKEN_OFF, LOST)


def word_of(status: Optional[DomainStatus]) -> str:
    """What a side that answers says."""
    if status is None:
        return ABSENT
    return {POSTCOPY: SPLIT, POSTCOPY_FAILED: BROKEN}.get(status.reason or "", status.state)


def verdict(here: str, there: str) -> str:
    """From what the source (here) and the destination (there) say."""
    if here in HALVES or there in HALVES:
        return _verdict_of_halves(here, there)
    if here in ACTIVE_STATES:
        return TWICE if there in ACTIVE_STATES else STAYED
    if there in ACTIVE_STATES:
        return UNKNOWN if here == SILENT else MOVED
    if SILENT in (here, there):
        return UNKNOWN
    return STOPPED_THERE if here == ABSENT and there != ABSENT else STOPPED_HERE


def _verdict_of_halves(here: str, there: str) -> str:
    """The half on the source is outdated from the moment that the destination ran, and never the guest again."""
    if here == RUNNING:
        return TWICE
    if here in HALVES and there == RUNNING:
        return MOVED  # libvirt drops the reason once all of the memory is there
    there_may_be = there in HALVES or there == PAUSED
    if SILENT in (here, there):
        return BROKEN_OFF if BROKEN in (here, there) else UNKNOWN
    if not there_may_be or not (here in HALVES or here == PAUSED):
        return LOST
    return BROKEN_OFF if BROKEN in (here, there) else FETCHING


def with_reason(outcome: str, here: str, reason_there: Optional[str]) -> str:
    """What looks like two guests may be one and a half that arrived and never ran: until libvirt there has ended it.

    reason_there: DomainStatus.reason of the destination. libvirt gives a paused half the reason "migration" until it runs it.
    """
    return LINGERS if outcome == TWICE and here == RUNNING and reason_there == MIGRATION else outcome


def may_take_back(here: str, there: str) -> bool:
    """Whether target volumes may be removed: only when the source surely has the guest and the destination has not.

    A destination that has as much as a definition may have had the guest, and then its disks are the newest. So it is
    after the switch-over to post-copy, whatever became of the destination's half.
    """
    return here not in (ABSENT, SILENT, *HALVES) and there == ABSENT


def told(outcome: str, here: str, there: str, source: str, dest: str) -> Tuple[str, str]:
    """(where the guest is, what to do) for every outcome but "moved". source, dest: names of the hosts."""
    return {
        STAYED: ("the guest is %s on %s as before" % (here, source), _silence(there, dest)),
        LINGERS: (
            "the guest is running on %s as before; its half on %s never ran and has not ended yet" % (source, dest),
            "Its QEMU may be waiting for a disk that does not answer: look at libvirt's and the kernel's journal there. Nothing was"
            " removed. Run again when the disk answers: that run ends the half first. ",
        ),
        TWICE: (
            "THE GUEST IS %s ON %s AND %s ON %s" % (here, source, there, dest),
            "Look at both now and stop one of them, then check the disks. ",
        ),
        STOPPED_HERE: (
            "the guest stopped on the way and runs on neither side; its definition and disks are on %s" % source,
            "Read /var/log/libvirt/qemu on %s, then start it. " % source,
        ),
        STOPPED_THERE: (
            "the guest moved to %s and stopped there; its definition and disks are there" % dest,
            "Read /var/log/libvirt/qemu on %s, then start it there. " % dest,
        ),
        FETCHING: (
            "the guest runs on %s and still fetches memory from its paused half on %s" % (dest, source),
            "Stop neither half. Run again to watch it to its end. ",
        ),
        BROKEN_OFF: (
            "its memory is partly on %s (%s) and partly on %s (%s)" % (source, here, dest, there),
            "Stop neither half, and never resume the one on %s: it is outdated since the guest ran on %s. "
            "Restore the link, then run again: that run resumes the move, or says why libvirt cannot. "
            % (source, dest),
        ),
        LOST: _lost(here, there, source, dest),
        UNKNOWN: (
            "%s says %s, %s says %s" % (source, here, dest, there),
            "Nothing was removed. Run again when both answer; until then start the guest nowhere. ",
        ),
    }[outcome]


def _lost(here: str, there: str, source: str, dest: str) -> Tuple[str, str]:
    """Its disks were switched over before it ran there, so the destination's are the newest in any case."""
    disks = (
        "The disks to keep are those of %s: as the guest last wrote them there, as after a power cut. Stop the half on %s (virsh "
        "destroy), check the disks, then start the guest from them. "
    )
    if here in HALVES:
        where = (
            "THE GUEST IS LOST: it ran on %s, which has it no more (%s); the paused half on %s is older than its disks"
        )
        return where % (dest, there, source), "Never resume the half on %s. " % source + disks % (dest, source)
    where = "THE GUEST IS LOST unless it answers: %s had the rest of its memory and has it no more (%s); it is %s on %s"
    answers = "If the guest answers, all of its memory had come: leave it alone. Otherwise: "
    return where % (source, here, there, dest), answers + disks % (dest, dest)


def _silence(there: str, dest: str) -> str:
    return "%s does not answer and may keep half-copied disks. " % dest if there == SILENT else ""


# How libvirt and QEMU say that whoever they talked to is gone, over a daemon's connection, in the clear and by TLS.
_PEER_ENDED = (
    "End of file",
    "Input/output error",
    "closed the monitor",
    "TLS channel",
    "Connection reset",
    "Broken pipe",
)


_CANCELLED = "canceled by client"


def is_an_end(words: str) -> bool:
    """Whether libvirt says no more than that the job was ended, or that the other end of it is gone since."""
    return any(ended in words for ended in (_CANCELLED, *_PEER_ENDED))


def _failed_disk(words: str, disk_errors: DiskErrors) -> Optional[str]:
    """The target (vda) of the disk whose copy failed, when libvirt's words or QEMU's events name one."""
    found = re.search(r"migration of disk (\S+) failed", words)
    return found.group(1) if found else next((target for target, operation in disk_errors if target), None)


def cause(words: str, disk_errors: DiskErrors, last: Optional[Sample]) -> str:
    """libvirt's words of a failure; when a disk could not be copied, that and how far it had come."""
    disk = _failed_disk(words, disk_errors)
    if disk is None:
        return words
    if "disk %s failed" % disk in words:
        return words + _copied(last)
    return "the copy of disk %s failed%s; libvirt: %s" % (disk, _copied(last), words)


def _copied(sample: Optional[Sample]) -> str:
    """How far the disks had come, for want of the offset: QEMU tells that to nobody."""
    if sample is None or sample.disk_processed_mib + sample.disk_remaining_mib <= 0:
        return ""
    whole = sample.disk_processed_mib + sample.disk_remaining_mib
    return " (when about %.0f of %.0f MiB of disks were copied)" % (sample.disk_processed_mib, whole)


def advice(
    words: Optional[str], source: str = "the source", dest: str = "the destination", disk_errors: DiskErrors = ()
) -> str:
    """What libvirt's own words suggest, and what QEMU told. source, dest: names of the hosts."""
    said = words or ""
    if "No space left" in said:
        return "Free room on the destination, then run again."
    if _CANCELLED in said:
        return "Somebody ended the job (virsh domjobabort). Run again."
    disk = _failed_disk(said, disk_errors)
    if disk and "closed the monitor" not in said:
        return _mend_disk(disk, source, dest, [operation for target, operation in disk_errors if target in (disk, "")])
    if any(ended in said for ended in _PEER_ENDED):
        return (
            "QEMU on the destination, or a libvirt daemon, ended, or the link broke, or somebody ended the job (virsh domjobabort):"
            " read /var/log/libvirt/qemu and the daemon's journal there, then run again."
        )
    return "Mend the cause, then run again."


def _mend_disk(disk: str, source: str, dest: str, operations: Sequence[str]) -> str:
    """A copy that cannot be written may have lost the other end as well as its disk; one that cannot be read has not."""
    look = "(journalctl -k there names device and sector)"
    read = "Disk %s could not be read on %s: look at the disk under it %s" % (disk, source, look)
    write = (
        "The copy of disk %s could not be written on %s: look at the disk under it %s, whether it is full, and whether QEMU on the destination ended"
        " (/var/log/libvirt/qemu) or the link broke" % (disk, dest, look)
    )
    known = [text for operation, text in (("read", read), ("write", write)) if operation in operations]
    return "%s. Mend that, then run again." % ". ".join(known or ["One of two. %s. Or: %s" % (read, write)])
