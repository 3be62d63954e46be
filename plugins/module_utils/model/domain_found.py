# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was found on a host when a task about a domain looked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.clone import CloneSource
from ansible_collections.kvmops.fleet.plugins.module_utils.model.cloud_init import SeedFound
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Domain, DomainStatus
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_change import Change
from ansible_collections.kvmops.fleet.plugins.module_utils.model.host import HostFacts, HostNetwork
from ansible_collections.kvmops.fleet.plugins.module_utils.model.hotplug import Room
from ansible_collections.kvmops.fleet.plugins.module_utils.model.source_image import SourceImage
from ansible_collections.kvmops.fleet.plugins.module_utils.model.storage import Pool, Volume


@dataclass(frozen=True)
class HostView:
    """The host side of a request. bridges: None when the host cannot tell. kvm_works: guests of type kvm boot."""

    facts: HostFacts
    pools: Tuple[Pool, ...] = ()
    networks: Tuple[HostNetwork, ...] = ()
    bridges: Optional[Tuple[str, ...]] = None
    kvm_works: bool = False

    def pool(self, name: str) -> Optional[Pool]:
        return next((pool for pool in self.pools if pool.name == name), None)

    def pool_of_folder(self, folder: str) -> Optional[Pool]:
        """The pool whose directory that is."""
        return next((pool for pool in self.pools if pool.path == folder), None)


@dataclass(frozen=True)
class DomainFound:
    """status, config: None when there is no such domain. live: what runs now, None unless it runs. room: what can be
    plugged into it and taken out of it.

    volumes: by path, the volumes that the task's disks name and that exist.
    paths: whether each other path that the task names exists here; None when this host cannot be asked.
    uuid_owner: another domain that has the wanted UUID.
    shared_with: by path, other domains that name this domain's disks; asked for what is to be deleted or grown.
    seed: what is at the place of the cloud-init seed, for a task with one.
    rename_source_exists: whether there is a domain of the name that the task would take away. Where there is none of the new
    name, config is that domain's.
    clone: the domain that the task copies, where there is none of its name yet.
    source_images: by path, the images that new disks are made from; None when this host cannot be asked.
    xml_domain, xml_changes, xml: for a task with `xml`: what it describes, what differs from config, what to define.
    """

    host: HostView
    status: Optional[DomainStatus] = None
    config: Optional[Domain] = None
    live: Optional[Domain] = None
    room: Room = field(default_factory=Room)
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    paths: Optional[Mapping[str, bool]] = None
    uuid_owner: Optional[str] = None
    shared_with: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)
    seed: Optional[SeedFound] = None
    source_images: Optional[Mapping[str, SourceImage]] = None
    rename_source_exists: bool = False
    clone: Optional[CloneSource] = None
    xml_domain: Optional[Domain] = None
    xml_changes: Tuple[Change, ...] = ()
    xml: Optional[str] = None
