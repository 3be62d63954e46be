# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A domain that another one is made of: looked at, copied, renamed."""

from __future__ import annotations

import os
import posixpath
from typing import Any, Dict, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import (
    definitions,
    disk_image,
    domains,
    far_side,
    here,
    nvram,
    pools,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor
from ansible_collections.kvmops.fleet.plugins.module_utils.model.clone import Clone, CloneSource, ImageSeen
from ansible_collections.kvmops.fleet.plugins.module_utils.model.clone_xml import clone_xml, oddities, with_nvram
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import SHUTOFF
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_found import HostView
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import Wanted
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge, HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_clone import clone_of


def look_at_source(hv: Hypervisor, wanted: Wanted, host: HostView) -> CloneSource:
    """Of the domain that the task copies. Changes nothing."""
    dom = domains.find(hv, wanted.clone_from or "")
    if not here.is_here(hv) or dom is None:
        return CloneSource(here=here.is_here(hv))
    status = domains.status(dom)
    config, xml = domains.read(dom)
    clone = clone_of(wanted, config, host)
    folders = {posixpath.dirname(disk.path) for disk in clone.disks}
    new = [disk.path for disk in clone.disks] + ([clone.nvram] if clone.nvram is not None else [])
    return CloneSource(
        here=True,
        status=status,
        config=config,
        odd=tuple(oddities(xml)),
        # Of a guest that runs nothing is copied, and QEMU would not let us look.
        images={disk.source: _image(disk.source, disk.format) for disk in clone.disks if status.state == SHUTOFF},
        taken=tuple(path for path in new if os.path.lexists(path)),
        free={folder: _free(folder) for folder in folders if os.path.isdir(folder)},
        nvram=config.nvram is not None and os.path.exists(config.nvram),
    )


def _image(path: str, image_format: str) -> ImageSeen:
    try:
        disk_image.chain(path, image_format)
        return ImageSeen(allocated=os.stat(path).st_blocks * 512)
    except (OSError, HostError) as error:
        return ImageSeen(said=error.said if isinstance(error, HostError) else str(error))


def _free(folder: str) -> int:
    room = os.statvfs(folder)
    return room.f_bavail * room.f_frsize


def copy_disks(hv: Hypervisor, clone: Clone) -> None:
    """All of them or none, of a domain that stays off meanwhile."""
    before = _moments(clone)

    def check() -> None:
        dom = domains.find(hv, clone.source)
        if dom is None or domains.status(dom).state != SHUTOFF or _moments(clone) != before:
            raise OSError("domain %s did not stay off meanwhile" % clone.source)

    copies = [disk_image.Copy(["-f", disk.format, "--", disk.source], disk.path, disk.format) for disk in clone.disks]
    disk_image.copy(copies, "copy the disks of domain %s" % clone.source, check)
    for pool in sorted({disk.pool for disk in clone.disks}):
        pools.refresh(hv, pool)


def _moments(clone: Clone) -> Dict[str, Tuple[int, int]]:
    seen = {disk.source: os.stat(disk.source) for disk in clone.disks}
    return {path: (found.st_ino, found.st_mtime_ns) for path, found in seen.items()}


def define_copy(hv: Hypervisor, clone: Clone) -> None:
    """What was copied for it just before goes when libvirt does not take the definition, so that the next run can begin anew."""
    try:
        definitions.define(hv, clone.name, clone_xml(domains.read_with_secrets(_found(hv, clone.source)), clone))
    except HostError:
        for path in [disk.path for disk in clone.disks] + ([clone.nvram] if clone.nvram is not None else []):
            far_side.remove(path)
        raise


def rename(hv: Hypervisor, old: str, new: str, variables: Optional[Tuple[str, str]]) -> None:
    """variables: old and new path of its UEFI variables. They are there under both until the domain has its new name."""
    there = variables is not None and nvram.exists(variables[0])
    if variables is not None and there:
        nvram.copy(*variables)
    definitions.rename(_found(hv, old), new)
    if variables is not None:
        dom = _found(hv, new)
        definitions.define(hv, new, with_nvram(domains.read_with_secrets(dom), variables[1]))
        if there:
            nvram.remove(variables[0])


def copy_nvram(source: str, path: str) -> None:
    nvram.copy(source, path)


def _found(hv: Hypervisor, name: str) -> Any:
    dom = domains.find(hv, name)
    if dom is None:
        raise CannotConverge("Taking domain %s" % name, "it went away meanwhile", "Run the task again")
    return dom
