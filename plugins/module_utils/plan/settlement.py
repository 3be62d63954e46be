# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who has the guest after a live move, judged by what both hosts say and not by what the call returned."""

from __future__ import annotations

from typing import Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import (
    ACTIVE_STATES,
    PAUSED,
    POSTCOPY,
    POSTCOPY_FAILED,
    RUNNING,
    DomainStatus,
)

# What one side says of the domain: one of the state words of model/domain.py, or one of these.
ABSENT = "absent"
SILENT = "silent"
# One half of a guest in post-copy: its memory is on both sides, and only the destination runs it.
SPLIT, BROKEN = "in post-copy", "in a post-copy that broke off"
HALVES = (SPLIT, BROKEN)

MOVED, STAYED, TWICE, STOPPED_HERE, STOPPED_THERE, UNKNOWN = (
    "moved",
    "stayed",
    "twice",
    "stopped-here",
    "stopped-there",
    "unknown",
)
# Of post-copy: the destination fetches what is missing; it cannot any more; one half is gone.
FETCHING, BROKEN_OFF, LOST = "fetching", "broken-off", "lost"
# A person or another run has to know before anything else is done.
UNSETTLED = (TWICE, UNKNOWN, FETCHING, BROKEN_OFF, LOST)


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
            "Restore the link, then run again: it says whether and how libvirt can resume the move. " % (source, dest),
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


def advice(words: Optional[str]) -> str:
    """What libvirt's own words suggest."""
    said = words or ""
    if "No space left" in said:
        return "Free room on the destination, then run again."
    if "canceled by client" in said:
        return "Somebody ended the job (virsh domjobabort). Run again."
    if any(ended in said for ended in _PEER_ENDED):
        return (
            "QEMU on the destination, or a libvirt daemon, ended, or the link broke, or somebody ended the job (virsh domjobabort):"
            " read /var/log/libvirt/qemu and the daemon's journal there, then run again."
        )
    return "Mend the cause, then run again."
