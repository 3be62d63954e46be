# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wanted snapshot + what was found -> steps."""

from __future__ import annotations

import fnmatch
from typing import Any, Dict, Iterator, List, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model import snapshot as want
from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import ERROR, Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Disk, moved_to
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import PreflightError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.snapshot import (
    EXTERNAL,
    INTERNAL,
    Snapshot,
    SnapshotFound,
    SnapshotWish,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan, Step

QCOW2 = "qcow2"
# libvirt's release notes, and formatcaps.html of externalSnapshot.
DELETES_EXTERNAL, REVERTS_EXTERNAL = 9000000, 9009000
# Before, to delete an external one could remove the image that held an internal one (release notes of 11.0.0).
KEEPS_INTERNAL = 11000000
_DOING = {want.PRESENT: "Taking snapshot %s of domain %s", want.ABSENT: "Deleting snapshot %s of domain %s"}
_REVERTING = "Reverting domain %s to snapshot %s"


def plan_snapshot(wish: SnapshotWish, found: SnapshotFound) -> Plan:
    """Raises PreflightError with everything that stands against it."""
    there = found.named(wish.snapshot)
    kind = kind_of(wish, found)
    problems = tuple(concerns(wish, found, kind))
    if problems:
        words = (wish.snapshot, wish.domain)
        doing = _REVERTING % words[::-1] if wish.state == want.REVERTED else _DOING[wish.state] % words
        raise PreflightError(doing, problems)
    steps: List[Step] = []
    if wish.state == want.PRESENT and there is None:
        steps.append(_take(wish, found, kind))
    if wish.state == want.PRESENT:
        steps += [
            _delete(each, "the newest %d of %s stay" % (wish.keep or 0, wish.keep_names)) for each in old(wish, found)
        ]
    if wish.state == want.ABSENT and there is not None:
        steps.append(_delete(there, ""))
    if wish.state == want.REVERTED and there is not None:
        steps.append(_revert(there, found))
    before, after = _shown(steps, found)
    return Plan(tuple(steps), before, after)


def kind_of(wish: SnapshotWish, found: SnapshotFound) -> str:
    """auto: inside the images where all can hold it, since every libvirt can go back to such a one."""
    if wish.kind != want.AUTO:
        return wish.kind
    return EXTERNAL if wish.quiesce or list(_not_inside(found)) else INTERNAL


def images(found: SnapshotFound) -> Tuple[Disk, ...]:
    return found.domain.images if found.domain is not None else ()


def _not_inside(found: SnapshotFound) -> Iterator[str]:
    """Why the images cannot hold a snapshot."""
    for disk in images(found):
        if disk.format != QCOW2:
            yield "%s is %s, not qcow2" % (disk.target, disk.format or "of no known format")
    if found.domain is not None and found.domain.firmware.kind == "efi":
        yield "its UEFI variables are outside of the images"
    if not images(found):
        yield "it has no disk of its own"


# --- what stands against it -----------------------------------------------------------------------------------------


def concerns(wish: SnapshotWish, found: SnapshotFound, kind: str) -> Iterator[Concern]:
    if found.domain is None or found.status is None:
        if wish.state != want.ABSENT:
            yield _error("snapshot-no-domain", "there is no domain %s" % wish.domain, "create it or correct name")
        return
    gone = moved_to(found.domain)
    if gone:
        detail = "the guest lives on %s; only its definition was kept here" % gone
        yield _error("snapshot-guest-elsewhere", detail, "run the task on that host")
    if found.status.job:
        detail = "the domain is busy: %s" % found.status.job
        yield _error("snapshot-busy", detail, "run again when that has ended")
    there = found.named(wish.snapshot)
    if wish.state == want.PRESENT and there is None:
        yield from _taking(wish, found, kind)
    if wish.state == want.REVERTED:
        yield from _reverting(wish, found)
    for each in _leaving(wish, found):
        if each.kind == EXTERNAL and found.libvirt < DELETES_EXTERNAL:
            detail = "%s is external, and libvirt %s cannot delete such a one" % (each.name, _version(found.libvirt))
            yield _error(
                "snapshot-external-delete", detail, "merge its files with virsh blockcommit, or use libvirt 9.0"
            )
        if each.kind == EXTERNAL and found.libvirt < KEEPS_INTERNAL and _inside(found):
            detail = "to delete %s could take the images of %s with it (libvirt before 11.0)" % (
                each.name,
                _inside(found),
            )
            yield _error(
                "snapshot-mixed-delete", detail, "delete the internal ones first, or move to libvirt 11.0 or newer"
            )


def _taking(wish: SnapshotWish, found: SnapshotFound, kind: str) -> Iterator[Concern]:
    if kind == INTERNAL:
        for why in _not_inside(found):
            yield _error("snapshot-not-inside", "an internal snapshot cannot be taken: %s" % why, "use kind: external")
    elif not images(found):
        yield _error("snapshot-no-disk", "the domain has no disk of its own", "there is nothing to take")
    else:
        for disk in images(found):
            if disk.kind != "file":
                detail = "%s is of type %s: libvirt puts the file for what is written next only beside a file" % (
                    disk.target,
                    disk.kind,
                )
                yield _error("snapshot-no-place", detail, "use kind: internal on qcow2, or the storage's own snapshots")
    if wish.quiesce and not found.agent:
        running = found.status is not None and found.status.active
        detail = "no guest agent answers in the guest" if running else "the domain does not run"
        yield _error("snapshot-no-agent", "quiesce is true and %s" % detail, "start the agent, or leave quiesce out")


def _reverting(wish: SnapshotWish, found: SnapshotFound) -> Iterator[Concern]:
    there = found.named(wish.snapshot)
    if there is None:
        names = ", ".join(each.name for each in found.snapshots) or "none"
        detail = "the domain has no snapshot %s; it has: %s" % (wish.snapshot, names)
        yield _error("snapshot-unknown", detail, "correct snapshot")
    elif there.kind == EXTERNAL and found.libvirt < REVERTS_EXTERNAL:
        detail = "%s is external, and libvirt %s cannot go back to such a one" % (there.name, _version(found.libvirt))
        remedy = "move the guest to a host with libvirt 9.9 or newer, or put its disks back by hand"
        yield _error("snapshot-external-revert", detail, remedy)


def _leaving(wish: SnapshotWish, found: SnapshotFound) -> Sequence[Snapshot]:
    if wish.state == want.PRESENT:
        return old(wish, found)
    there = found.named(wish.snapshot)
    return [there] if wish.state == want.ABSENT and there is not None else []


def _error(name: str, detail: str, remedy: str) -> Concern:
    return Concern(name, ERROR, detail, remedy)


def _inside(found: SnapshotFound) -> str:
    return ", ".join(each.name for each in found.snapshots if each.kind == INTERNAL)


def _version(number: int) -> str:
    return "%d.%d" % (number // 1000000, number // 1000 % 1000)


# --- steps ----------------------------------------------------------------------------------------------------------


def old(wish: SnapshotWish, found: SnapshotFound) -> List[Snapshot]:
    """Those that go, oldest first. The one that is asked for counts and stays."""
    if wish.keep is None or wish.keep_names is None:
        return []
    others = [
        each
        for each in found.snapshots
        if each.name != wish.snapshot and fnmatch.fnmatchcase(each.name, wish.keep_names)
    ]
    others.sort(key=lambda each: (each.created, each.name))
    return others[: max(0, len(others) - (wish.keep - 1))]


def _take(wish: SnapshotWish, found: SnapshotFound, kind: str) -> Step:
    taken = tuple(disk.target for disk in images(found))
    disks = found.domain.disks if found.domain is not None else ()
    left_out = tuple(disk.target for disk in disks if disk.target not in taken)
    active = found.status is not None and found.status.active
    how = {
        (INTERNAL, True): "its memory and %s, inside the images; the guest stands still meanwhile",
        (INTERNAL, False): "%s, inside the images",
        (EXTERNAL, True): "%s without memory; the guest writes to new files from then on",
        (EXTERNAL, False): "%s; the guest writes to new files from then on",
    }[kind, active] % ", ".join(taken)
    quiet = ", its filesystems frozen by the guest agent" if wish.quiesce else ""
    words = "take snapshot %s: %s%s" % (wish.snapshot, how, quiet)
    args = {
        "name": wish.snapshot,
        "description": wish.description,
        "kind": kind,
        "disks": taken,
        "left_out": left_out,
        "quiesce": wish.quiesce,
    }
    return Step("take", words, args)


def _delete(each: Snapshot, why: str) -> Step:
    merged = ", what was written since stays with the guest"
    words = "delete snapshot %s%s%s" % (each.name, merged, " (%s)" % why if why else "")
    return Step("delete", words, {"name": each.name})


def _revert(there: Snapshot, found: SnapshotFound) -> Step:
    since = "what was written since is lost"
    if found.status is not None and found.status.active:
        since = "the memory of the running guest and what was written since are lost"
    after = {"disk-snapshot": "shutoff"}.get(there.state, there.state)
    words = "revert to snapshot %s: %s; the domain is %s then" % (there.name, since, after)
    return Step("revert", words, {"name": there.name})


def _shown(steps: Sequence[Step], found: SnapshotFound) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    if not steps:
        return {}, {}
    names = [each.name for each in found.snapshots]
    current = next((each.name for each in found.snapshots if each.current), None)
    left = [name for name in names if name not in [step.args["name"] for step in steps if step.action == "delete"]]
    before: Dict[str, Any] = {"snapshots": names}
    after: Dict[str, Any] = {"snapshots": left}
    for step in steps:
        if step.action == "take":
            after["snapshots"] = [*left, step.args["name"]]
        if step.action == "revert":
            before["current"], after["current"] = current, step.args["name"]
    return before, after
