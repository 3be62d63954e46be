# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is at the place of a domain's cloud-init seed."""

from __future__ import annotations

import os
import secrets
from typing import Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.host import here, seed_image
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor
from ansible_collections.kvmops.fleet.plugins.module_utils.model.cloud_init import SeedFound
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_found import HostView
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import Wanted
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.cloud_init import seed_place
from ansible_collections.kvmops.fleet.plugins.module_utils.run.domain_users import users_of


def look_at_seed(hv: Hypervisor, wanted: Wanted, host: HostView, config: Optional[Domain]) -> SeedFound:
    if not here.is_here(hv):
        return SeedFound(here=False)
    place = seed_place(wanted, host, config)
    exists = place is not None and os.path.lexists(place.path)
    return SeedFound(
        here=True,
        tool=seed_image.tool(),
        salt=secrets.token_hex(8),
        exists=exists,
        ours=place is not None and exists and seed_image.is_ours(place.path),
        users=users_of(hv, host, place.path, config.name if config is not None else wanted.name)
        if place is not None and exists
        else (),
    )
