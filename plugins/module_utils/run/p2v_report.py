# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What kvm_p2v_image returns: the images, the rounds, the source's discovery, the figures."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import WARNING, Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import NONE, P2vFound, P2vWish, SourceDisk
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_ranges import CHUNK, total
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_world import World


def report(
    wish: P2vWish, world: World, found: P2vFound, concerns: Sequence[Concern], outcome: Optional[Mapping[str, Any]]
) -> Dict[str, Any]:
    told: Dict[str, Any] = {
        "name": wish.name,
        "left_already": found.done,
        "discovery": dict(found.source.facts) if found.source else None,
        "disks": [_disk(found, disk) for disk in found.disks],
        "concerns": [concern.as_dict() for concern in concerns],
        "images": [] if wish.gather_only else [_image(wish, world, disk) for disk in found.disks],
    }
    if outcome is None:
        return told
    rest = {key: value for key, value in outcome.items() if key not in ("seconds", "held", "seen", "spent")}
    seen, noticed, lines = outcome["seen"]
    metrics = dict(_metrics(outcome), **seen)
    told["concerns"] += [concern.as_dict() for concern in noticed]
    told["warnings"] = ["[%s] %s" % (each.id, each.detail) for each in noticed if each.level == WARNING]
    for image in told["images"]:
        image["bytes"] = outcome["held"].get(image["disk"])
    return {**told, **rest, "metrics": metrics, "summary": _summary(wish, found, metrics, rest) + lines}


def _disk(found: P2vFound, disk: SourceDisk) -> Dict[str, Any]:
    used = found.maps.get(disk.name)
    differing = found.differing.get(disk.name)
    return {
        "name": disk.name,
        "bytes": disk.size,
        "serial": disk.serial,
        "wwn": disk.wwn,
        "model": disk.model,
        "used_bytes": used.bytes if used else None,
        "to_copy_bytes": None if differing is None else total(differing),
        "areas": [vars(area) for area in used.areas] if used else [],
    }


def _image(wish: P2vWish, world: World, disk: SourceDisk) -> Dict[str, Any]:
    paths = world.paths(disk.name)
    return {
        "disk": disk.name,
        "path": paths.image,
        "manifest": paths.manifest,
        "format": wish.format,
        "virtual_bytes": disk.size,
    }


def _metrics(outcome: Mapping[str, Any]) -> Dict[str, Any]:
    passes = outcome["passes"]
    size = sum(each["bytes"] for each in passes)
    seconds = sum(each["seconds"] for each in passes)
    return {
        "total_s": outcome["seconds"],
        **{name: round(spent, 3) for name, spent in outcome["spent"].items()},
        "pause_s": outcome["pause_s"],
        "bytes": size,
        "wire_bytes": sum(each["wire_bytes"] for each in passes),
        "verify_s": round(sum(each["verify_s"] for each in passes), 3),
        "throughput_mib_s": round(size / CHUNK / seconds, 2) if seconds else None,
    }


def _summary(wish: P2vWish, found: P2vFound, metrics: Mapping[str, Any], rest: Mapping[str, Any]) -> List[str]:
    source = found.source.name if found.source else "the source"
    if wish.imports:
        size = -(-metrics["bytes"] // CHUNK)
        return ["%s: %d MiB of %s copied and verified in %.1f s." % (wish.name, size, source, metrics["total_s"])]
    lines = [
        "%s: %d MiB of %s copied and verified in %d passes and %.1f s, %d MiB over the link."
        % (
            wish.name,
            -(-metrics["bytes"] // CHUNK),
            source,
            len(rest["passes"]),
            metrics["total_s"],
            -(-metrics["wire_bytes"] // CHUNK),
        )
    ]
    if wish.cold:
        return [*lines, "%s %s." % (source, "stays in its rescue system" if wish.cutover == NONE else "is powered off")]
    after = "serves on" if wish.cutover == NONE else "is powered off"
    expected = "%.2f s were expected" % rest["prediction"]["pause_s"]
    if wish.cutover != NONE and rest["prediction"]["guest_s"] is None:
        expected += " without the guest, which was not rehearsed"
    lines.append("%s stood still for %.2f s (%s); it %s." % (source, metrics["pause_s"], expected, after))
    if rest["cannot_freeze"]:
        lines.append("Not frozen, since they cannot be: %s." % ", ".join(rest["cannot_freeze"]))
    return lines
