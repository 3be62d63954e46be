# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which images other domains use, before one of them is removed or taken."""

from __future__ import annotations

from typing import Any, Set, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import domains
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_found import HostView
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_disks import source_here


def used_by(dom: Any, host: HostView) -> Set[str]:
    """Paths of its images, and of those below them as far as its definition names them."""
    read = domains.read(dom, inactive=False)[0]
    paths = {source_here(disk, host) for disk in read.disks} | {path for disk in read.disks for path in disk.backing}
    return {path for path in paths if path}


def users_of(hv: Hypervisor, host: HostView, path: str, but: str) -> Tuple[str, ...]:
    """The domains that use it, `but` aside."""
    return tuple(dom.name() for dom in domains.every(hv) if dom.name() != but and path in used_by(dom, host))
