# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What kvm_p2v_image sees before it decides: the source by its agent, the pool, and what the images lack."""

from __future__ import annotations

import time
from typing import Dict, List, Mapping, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import p2v_target
from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_agent import Agent
from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_image import Image
from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import P2vFound, P2vWish, UsedMap
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_ranges import Range, merged
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import p2v_cold, p2v_preflight
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_copy import Copier
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_world import World


class Look:
    """found, the concerns, and the boot id of the source when its writes began to be noted. spent: seconds, by what they went into."""

    def __init__(
        self,
        found: P2vFound,
        concerns: Tuple[Concern, ...],
        boot_id: str = "",
        spent: Optional[Mapping[str, float]] = None,
    ) -> None:
        self.found, self.concerns, self.boot_id, self.spent = found, concerns, boot_id, spent or {}


def look(wish: P2vWish, world: World, agent: Agent) -> Look:
    """Notes of writes, or their count, begin before the maps are read, so that nothing is missed; they end with the agent."""
    began = time.monotonic()
    source = agent.describe()
    agent.limit(wish.bandwidth_mib_s)
    disks = p2v_cold.cold_disks(wish, source) if wish.cold else p2v_preflight.wanted_disks(wish, source)
    concerns = p2v_preflight.source_concerns(wish, source)
    if wish.cold:
        concerns += p2v_cold.cold_concerns(wish, source)
    bad = any(concern.level == "error" for concern in concerns)
    boot_id = ""
    if not bad and not wish.gather_only:
        names = [disk.name for disk in disks]
        boot_id = agent.rest(names) if wish.cold else agent.track(names)
        agent.sync()
    maps = {disk.name: agent.map(disk.name) for disk in disks}
    found = P2vFound(source=source, disks=disks, maps=maps)
    if wish.gather_only or bad:
        return Look(found, tuple(concerns))
    seen = {disk.name: p2v_target.look(world.paths(disk.name), world.users) for disk in disks}
    targets = {name: target for name, (target, dummy) in seen.items()}
    probe = P2vFound(source, disks, maps, targets, {}, p2v_target.free_bytes(world.folder))
    on_the_way = p2v_preflight.target_concerns(wish, probe)
    kept = {} if on_the_way else {name: _kept(images) for name, (dummy, images) in seen.items()}
    looked = time.monotonic()
    differing = _differing(world, agent, maps, kept)
    found = P2vFound(source, disks, maps, targets, differing, probe.free)
    spent = {"agent_s": agent.awaited_s, "look_s": looked - began, "compare_s": time.monotonic() - looked}
    return Look(found, (*concerns, *(on_the_way or p2v_preflight.target_concerns(wish, found))), boot_id, spent)


def left_already(wish: P2vWish, world: World) -> List[Mapping[str, object]]:
    """Heads of the finished images, to be asked before the source is: it may be off since."""
    return list(p2v_target.finished_heads(world.folder, wish.name, wish.format))


def _kept(images: Mapping[str, Image]) -> Optional[Image]:
    return images.get("finished") or images.get("part")


def _differing(
    world: World, agent: Agent, maps: Mapping[str, UsedMap], kept: Mapping[str, Optional[Image]]
) -> Dict[str, Tuple[Range, ...]]:
    """All that is used where there is no image yet; else what of it has another hash."""
    found = {name: tuple(used.used) for name, used in maps.items()}
    there = {name: image for name, image in kept.items() if image is not None}
    if there:
        copier = Copier(agent, there, world.nbd, world.name, world.tell)
        # What an image holds and the source reads as zeros by now differs too.
        held = {name: there[name].manifest.covered() if maps[name].rest_is_zero else () for name in there}
        compared = copier.compare({name: merged([*found[name], *held[name]]) for name in there})
        found.update({name: tuple(ranges) for name, ranges in compared.items()})
    return found
