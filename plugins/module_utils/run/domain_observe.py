# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that the plan of kvm_domain asks the host, in one go."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from typing import Callable, Dict, Mapping, Optional, Set, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import capabilities, disk_image, domains, here, pools
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor
from ansible_collections.kvmops.fleet.plugins.module_utils.model.clone import CloneSource
from ansible_collections.kvmops.fleet.plugins.module_utils.model.cloud_init import own_images
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_diff_xml import differences
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_found import DomainFound, HostView
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_merge_xml import merge
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import ABSENT, Wanted
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_xml import read_domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.hotplug import Room
from ansible_collections.kvmops.fleet.plugins.module_utils.model.hotplug_xml import read_room
from ansible_collections.kvmops.fleet.plugins.module_utils.model.source_image import SourceImage
from ansible_collections.kvmops.fleet.plugins.module_utils.model.storage import Volume
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_clone import as_cloned, clone_of
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_disks import (
    backing_path,
    place_of,
    source_here,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_growth import too_small
from ansible_collections.kvmops.fleet.plugins.module_utils.run.domain_origin import look_at_source
from ansible_collections.kvmops.fleet.plugins.module_utils.run.domain_seed import look_at_seed
from ansible_collections.kvmops.fleet.plugins.module_utils.run.domain_users import used_by


def look(
    hv: Hypervisor, wanted: Wanted, host: Optional[HostView] = None, kvm_works: Optional[Callable[[], bool]] = None
) -> DomainFound:
    """Changes nothing. host: from another look on this connection. kvm_works: asked only where it matters."""
    dom = domains.find(hv, wanted.name)
    old = domains.find(hv, wanted.rename_from) if wanted.rename_from else None
    dom = dom if dom is not None else old
    status = domains.status(dom) if dom is not None else None
    host = host or look_at_host(hv)
    clone = look_at_source(hv, wanted, host) if wanted.clone_from and dom is None else None
    if dom is None and clone is None and wanted.domain_type is None and wanted.xml is None:
        host = replace(host, kvm_works=kvm_works() if kvm_works else capabilities.kvm_works(hv))
    config, config_xml = domains.read(dom) if dom is not None else (None, None)
    live, live_xml = domains.read(dom, inactive=False) if status is not None and status.active else (None, None)
    volumes = _volumes(hv, wanted, host, config)
    xml = merge(wanted.xml, config_xml) if wanted.xml is not None and config_xml is not None else wanted.xml
    return DomainFound(
        host=host,
        status=status,
        config=config,
        live=live,
        room=read_room(live_xml) if live_xml is not None else Room(),
        volumes=volumes,
        paths=_paths(hv, wanted, host),
        uuid_owner=_uuid_owner(hv, wanted),
        shared_with=_shared_with(hv, wanted.name, _asked_for(wanted, config, host, volumes), host),
        seed=look_at_seed(hv, wanted, host, config or _as_cloned(wanted, clone, host))
        if wanted.seed is not None or wanted.drops_seed
        else None,
        rename_source_exists=old is not None,
        clone=clone,
        source_images=_source_images(hv, wanted, volumes, host),
        xml_domain=read_domain(wanted.xml, "xml") if wanted.xml is not None else None,
        xml_changes=differences(xml, config_xml) if xml is not None and config_xml is not None else (),
        xml=xml,
    )


def _as_cloned(wanted: Wanted, clone: Optional[CloneSource], host: HostView) -> Optional[Domain]:
    source = clone.config if clone is not None else None
    return as_cloned(wanted, source, clone_of(wanted, source, host)) if source is not None else None


def look_at_host(hv: Hypervisor) -> HostView:
    """Without kvm_works, which matters only for a domain that has to be made."""
    return HostView(
        facts=capabilities.host_facts(hv),
        pools=pools.list_pools(hv),
        networks=capabilities.list_networks(hv),
        bridges=here.bridges_of(hv),
    )


def _volumes(hv: Hypervisor, wanted: Wanted, host: HostView, config: Optional[Domain]) -> Dict[str, Volume]:
    found: Dict[str, Volume] = {}
    active = {pool.name for pool in host.pools if pool.active}
    for disk in wanted.disks or ():
        place = place_of(disk, host)
        if place.pool in active and place.volume is not None:
            _keep(found, place.source, pools.find_volume(hv, place.pool or "", place.volume))
        below = backing_path(disk, host)
        if below is not None:
            _keep(found, below, pools.find_volume_by_path(hv, below))
    if wanted.state == ABSENT and wanted.remove_storage and config is not None:
        for image in own_images(config):
            path = source_here(image, host)
            if path is not None:
                _keep(found, path, pools.find_volume_by_path(hv, path))
    return found


def _keep(found: Dict[str, Volume], path: Optional[str], volume: Optional[Volume]) -> None:
    if path is not None and volume is not None:
        found[path] = volume


def _paths(hv: Hypervisor, wanted: Wanted, host: HostView) -> Optional[Mapping[str, bool]]:
    if not here.is_here(hv):
        return None
    names: Set[str] = set()
    for disk in wanted.disks or ():
        place = place_of(disk, host)
        names.update(path for path in (place.source, backing_path(disk, host)) if path and place.kind != "network")
    if wanted.serial_log:
        names.add(posixpath.dirname(wanted.serial_log))
    if wanted.boot is not None:
        names.update(path for path in (wanted.boot.kernel, wanted.boot.initrd) if path)
    return here.existing(names)


def _source_images(
    hv: Hypervisor, wanted: Wanted, volumes: Mapping[str, Volume], host: HostView
) -> Optional[Dict[str, SourceImage]]:
    """Of the disks that are not there yet."""
    if not here.is_here(hv):
        return None
    images = {disk.image for disk in wanted.disks or () if disk.image and place_of(disk, host).source not in volumes}
    return {image.path: disk_image.look(image) for image in images}


def _uuid_owner(hv: Hypervisor, wanted: Wanted) -> Optional[str]:
    if not wanted.uuid:
        return None
    dom = domains.find_by_uuid(hv, wanted.uuid)
    return str(dom.name()) if dom is not None and dom.name() not in (wanted.name, wanted.rename_from) else None


def _asked_for(
    wanted: Wanted, config: Optional[Domain], host: HostView, volumes: Mapping[str, Volume]
) -> Set[Optional[str]]:
    """The images whose other users matter: those that are to be deleted, or grown."""
    if wanted.state == ABSENT:
        return (
            {source_here(disk, host) for disk in own_images(config)}
            if wanted.remove_storage and config is not None
            else set()
        )
    return {volume.path for volume, dummy in too_small(wanted, host, volumes)}


def _shared_with(hv: Hypervisor, name: str, own: Set[Optional[str]], host: HostView) -> Mapping[str, Tuple[str, ...]]:
    """Who else uses these images, also as the image below their own."""
    users: Dict[str, Tuple[str, ...]] = {}
    for dom in domains.every(hv) if own else ():
        if dom.name() == name:
            continue
        for path in used_by(dom, host) & own:
            users[path or ""] = users.get(path or "", ()) + (dom.name(),)
    return users
