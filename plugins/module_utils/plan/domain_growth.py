# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Volumes that are smaller than the task says: grown, never shrunk, and through QEMU when it has them open."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_found import DomainFound, HostView
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import Wanted
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Step
from ansible_collections.kvmops.fleet.plugins.module_utils.model.storage import Volume
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import domain_states
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_disks import MIB, place_of, source_here


class Growth(NamedTuple):
    """now: before anything else. off: when the guest has stopped. waiting: for that, in words. before, after: for the diff."""

    now: Tuple[Step, ...]
    off: Tuple[Step, ...]
    waiting: Tuple[str, ...]
    before: Dict[str, Any]
    after: Dict[str, Any]


def growth(wanted: Wanted, found: DomainFound, actions: Tuple[str, ...]) -> Growth:
    """actions: of the lifecycle steps of the same plan."""
    now: List[Step] = []
    off: List[Step] = []
    waiting: List[str] = []
    before: Dict[str, Any] = {}
    after: Dict[str, Any] = {}
    for volume, size_mib in too_small(wanted, found.host, found.volumes):
        words = "grow volume %s %d → %d MiB" % (volume.name, volume.capacity_bytes // MIB, size_mib)
        args = {"pool": volume.pool, "name": volume.name, "capacity_bytes": size_mib * MIB}
        target = _open_as(volume.path, found)
        if target is None:
            now.append(Step("grow_volume", words, args))
        elif wanted.apply_live:
            now.append(Step("grow_live", words + " (live)", dict(args, target=target)))
        elif domain_states.stops(actions):
            off.append(Step("grow_volume", words, args))
        else:
            waiting.append(words)
            continue
        key = "volumes.%s.size_mib" % volume.name
        before[key], after[key] = volume.capacity_bytes // MIB, size_mib
    return Growth(tuple(now), tuple(off), tuple(waiting), before, after)


def too_small(wanted: Wanted, host: HostView, volumes: Mapping[str, Volume]) -> Iterator[Tuple[Volume, int]]:
    """The volumes that are there and smaller than their size_mib, with it."""
    for disk in wanted.disks or ():
        volume = volumes.get(place_of(disk, host).source or "")
        if volume is not None and disk.size_mib is not None and volume.capacity_bytes < disk.size_mib * MIB:
            yield volume, disk.size_mib


def _open_as(path: str, found: DomainFound) -> Optional[str]:
    """Target of the running guest's disk that the volume is."""
    for disk in found.live.disks if found.live is not None else ():
        if source_here(disk, found.host) == path:
            return disk.target
    return None
