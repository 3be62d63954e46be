# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images and disks of the host that runs the task, instead of a machine: looked at first, opened when nothing is against it."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

from ansible_collections.kvmops.fleet.plugins.module_utils.host import (
    domains,
    p2v_import_look,
    p2v_local,
    p2v_target,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor
from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_local import LocalSource
from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import PreflightError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import P2vFound, P2vWish, imported_disk
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_import import Identity, ImportSeen
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_import import import_concerns, machine_told
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_preflight import target_concerns
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_world import World


@contextlib.contextmanager
def imported(
    wish: P2vWish, world: World, domain: Optional[Mapping[str, Any]], running: Mapping[str, Sequence[str]]
) -> Iterator[LocalSource]:
    """The source, while the block runs. running: path -> active domains that have it as a disk. Raises PreflightError."""
    seen = [p2v_import_look.seen(each, running) for each in wish.imports]
    targets: Dict[Identity, str] = {}
    for each in wish.imports:
        targets.update(p2v_import_look.targets_of(world.paths(each.disk)))
    concerns = import_concerns(seen, p2v_import_look.supported(), targets)
    if concerns:
        raise PreflightError("Import %s" % wish.name, [*concerns, *_of_targets(wish, world, seen)])
    images = {each.wanted.disk: each for each in seen}
    with p2v_local.opened(images, machine_told(domain), world.nbd, wish.connections) as source:
        yield source


def _of_targets(wish: P2vWish, world: World, seen: Sequence[ImportSeen]) -> List[Concern]:
    disks = tuple(imported_disk(each) for each in seen if each.size)
    targets = {disk.name: p2v_target.look(world.paths(disk.name), world.users)[0] for disk in disks}
    return target_concerns(wish, P2vFound(None, disks, targets=targets))


def disks_in_use(hv: Hypervisor) -> Dict[str, List[str]]:
    """path -> the active domains that have it as a disk at this moment, below its snapshots as well."""
    found: Dict[str, List[str]] = {}
    for dom in domains.active(hv):
        with domains.gone_is_fine():
            config = domains.read(dom, inactive=False)[0]
            for disk in config.disks:
                for path in (disk.source, *disk.backing):
                    if path:
                        found.setdefault(path, []).append(config.name)
    return found
