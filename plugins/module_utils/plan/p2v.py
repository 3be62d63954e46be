# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run of kvm_p2v_image does, from the request and what was found."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import ERROR, WARNING, Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import PreflightError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import (
    FREEZE,
    NONE,
    POWEROFF,
    STOP,
    P2vFound,
    P2vWish,
    SourceDisk,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_ranges import CHUNK, total
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan, Step
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_preflight import is_own

_PUBLISH = Step("publish", "give the finished images their names")


def plan_p2v(wish: P2vWish, found: P2vFound, concerns: Sequence[Concern]) -> Plan:
    """No steps when only a look was wanted, when the source was left already, or when the images hold all there is.

    Raises PreflightError.
    """
    refused = [each for each in concerns if each.level == ERROR]
    warnings = tuple("[%s] %s" % (each.id, each.detail) for each in concerns if each.level == WARNING)
    if wish.gather_only or found.done:
        return Plan(warnings=warnings)
    if refused:
        raise PreflightError("Make an image of %s" % wish.name, refused)
    steps = [step for disk in found.disks for step in _of_disk(wish, found, disk)]
    if wish.cutover != NONE:
        steps += _leaving(wish)
    elif steps and wish.cold:
        steps.append(_PUBLISH)
    elif steps:
        steps += [Step("settle", "freeze the source's filesystems for the last pass, and thaw them"), _PUBLISH]
    before = {disk.name: found.targets[disk.name].exists for disk in found.disks}
    after = {disk.name: True for disk in found.disks}
    return Plan(tuple(steps), {"images": before}, {"images": after}, warnings)


def head_of(wish: P2vWish, disk: SourceDisk, disks: Sequence[SourceDisk]) -> Dict[str, Any]:
    """Of the manifest while the image is being made. disks: all of the run."""
    told = {"name": disk.name, "size": disk.size, "sector": disk.sector, "model": disk.model, **disk.identity}
    return {"disk": told, "format": wish.format, "run": wish.name, "disks": [each.name for each in disks]}


def was_left(wish: P2vWish, heads: Sequence[Mapping[str, Any]]) -> bool:
    """Whether finished images of all the run's disks say that the source was left for them, in the way that is wanted."""
    if wish.cutover == NONE or wish.gather_only or not heads:
        return False
    there = {(head.get("disk") or {}).get("name") for head in heads if head.get("cutover") == wish.cutover}
    needed = set(wish.disks or heads[0].get("disks") or ())
    return bool(needed) and needed <= there


def _of_disk(wish: P2vWish, found: P2vFound, disk: SourceDisk) -> List[Step]:
    target = found.targets[disk.name]
    size = total(found.differing[disk.name])
    if is_own(target):
        if not size and wish.cutover == NONE:
            return []
        return [Step("copy", "bring %s up to date: %s of %s differ" % (target.path, _mib(size), disk.name))]
    if target.part_head is not None:
        return [Step("copy", "go on with %s: %s of %s are missing" % (target.path, _mib(size), disk.name))]
    return [Step("copy", "copy the %s of %s that are used to %s" % (_mib(size), disk.name, target.path))]


def _leaving(wish: P2vWish) -> List[Step]:
    if wish.cold:
        return [_PUBLISH, *([Step("poweroff", "power the source off")] if wish.cutover == POWEROFF else [])]
    steps = []
    if wish.services:
        steps.append(Step("stop", "stop %s on the source" % ", ".join(wish.services)))
    steps += [Step("freeze", "freeze the source's filesystems, copy the rest, verify it"), _PUBLISH]
    if wish.cutover in (FREEZE, STOP):
        command: Tuple[str, ...] = wish.takeover.command if wish.takeover else ()
        steps.append(
            Step("takeover", "let %s start the VM; if it fails, the source serves again" % " ".join(command[:1]))
        )
    steps.append(Step("poweroff", "power the source off"))
    return steps


def _mib(size: Optional[int]) -> str:
    return "%d MiB" % -(-(size or 0) // CHUNK)
