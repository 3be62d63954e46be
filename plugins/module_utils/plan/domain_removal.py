# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Removing a domain's storage: only on request, only its own, only what nobody else uses."""

from __future__ import annotations

from typing import List, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.cloud_init import own_images
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_found import DomainFound
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import Wanted
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Step
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_disks import source_here


def removal_steps(wanted: Wanted, found: DomainFound) -> Tuple[Tuple[Step, ...], Tuple[str, ...]]:
    """(steps, warnings): one step per volume, a warning for every image that stays although removal was asked."""
    if not wanted.remove_storage or found.config is None:
        return (), ()
    steps: List[Step] = []
    warnings: List[str] = []
    for disk in own_images(found.config):
        path = source_here(disk, found.host)
        volume = found.volumes.get(path or "")
        others = found.shared_with.get(path or "", ())
        if disk.shareable or others:
            users = ", ".join(others) or "whoever shares it"
            warnings.append("%s of %s stays: it is also used by %s." % (path, wanted.name, users))
        elif volume is None:
            warnings.append("%s of %s stays: it is in no pool of this host." % (path, wanted.name))
        else:
            words = "delete volume %s of pool %s" % (volume.name, volume.pool)
            steps.append(Step("delete_volume", words, {"pool": volume.pool, "name": volume.name}))
    return tuple(steps), tuple(warnings)
