# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who has the guest after a live move, judged by what both hosts say and not by what the call returned."""

from __future__ import annotations

from typing import Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import ACTIVE_STATES

# What one side says of the domain: one of the state words of model/domain.py, or one of these two.
ABSENT = "absent"
SILENT = "silent"

MOVED, STAYED, TWICE, STOPPED_HERE, STOPPED_THERE, UNKNOWN = (
    "moved",
    "stayed",
    "twice",
    "stopped-here",
    "stopped-there",
    "unknown",
)


def verdict(here: str, there: str) -> str:
    """From what the source (here) and the destination (there) say."""
    if here in ACTIVE_STATES:
        return TWICE if there in ACTIVE_STATES else STAYED
    if there in ACTIVE_STATES:
        return UNKNOWN if here == SILENT else MOVED
    if SILENT in (here, there):
        return UNKNOWN
    return STOPPED_THERE if here == ABSENT and there != ABSENT else STOPPED_HERE


def may_take_back(here: str, there: str) -> bool:
    """Whether target volumes may be removed: only when the source surely has the guest and the destination has not.

    A destination that has as much as a definition may have had the guest, and then its disks are the newest.
    """
    return here not in (ABSENT, SILENT) and there == ABSENT


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
        UNKNOWN: (
            "%s says %s, %s says %s" % (source, here, dest, there),
            "Nothing was removed. Run again when both answer; until then start the guest nowhere. ",
        ),
    }[outcome]


def _silence(there: str, dest: str) -> str:
    return "%s does not answer and may keep half-copied disks. " % dest if there == SILENT else ""


def advice(words: Optional[str]) -> str:
    """What libvirt's own words suggest."""
    said = words or ""
    if "No space left" in said:
        return "Free room on the destination, then run again."
    if "canceled by client" in said:
        return "Somebody ended the job (virsh domjobabort). Run again."
    if "End of file" in said or "Input/output error" in said or "closed the monitor" in said:
        return (
            "QEMU on the destination, or a libvirt daemon, ended: read /var/log/libvirt/qemu and the daemon's journal there,"
            " then run again."
        )
    return "Mend the cause, then run again."
