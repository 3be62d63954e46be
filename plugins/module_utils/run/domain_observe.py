# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that the plan of kvm_domain asks the host, in one go."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from typing import Any, Callable, Dict, Mapping, Optional, Set, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import capabilities, domains, here, pools
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_diff_xml import differences
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_found import DomainFound, HostView
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_merge_xml import merge
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import ABSENT, Wanted
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_xml import read_domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.hotplug import Room
from ansible_collections.kvmops.fleet.plugins.module_utils.model.hotplug_xml import read_room
from ansible_collections.kvmops.fleet.plugins.module_utils.model.storage import Volume
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_disks import (
    backing_path,
    place_of,
    source_here,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_growth import too_small


def look(
    hv: Hypervisor, wanted: Wanted, host: Optional[HostView] = None, kvm_works: Optional[Callable[[], bool]] = None
) -> DomainFound:
    """Changes nothing. host: from another look on this connection. kvm_works: asked only where it matters."""
    dom = domains.find(hv, wanted.name)
    status = domains.status(dom) if dom is not None else None
    host = host or look_at_host(hv)
    if dom is None and wanted.domain_type is None and wanted.xml is None:
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
        xml_domain=read_domain(wanted.xml, "xml") if wanted.xml is not None else None,
        xml_changes=differences(xml, config_xml) if xml is not None and config_xml is not None else (),
        xml=xml,
    )


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
        for image in config.images:
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


def _uuid_owner(hv: Hypervisor, wanted: Wanted) -> Optional[str]:
    if not wanted.uuid:
        return None
    dom = domains.find_by_uuid(hv, wanted.uuid)
    return str(dom.name()) if dom is not None and dom.name() != wanted.name else None


def _asked_for(
    wanted: Wanted, config: Optional[Domain], host: HostView, volumes: Mapping[str, Volume]
) -> Set[Optional[str]]:
    """The images whose other users matter: those that are to be deleted, or grown."""
    if wanted.state == ABSENT:
        return (
            {source_here(disk, host) for disk in config.images}
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
        for path in _used_by(dom, host) & own:
            users[path or ""] = users.get(path or "", ()) + (dom.name(),)
    return users


def _used_by(dom: Any, host: HostView) -> Set[Optional[str]]:
    other = domains.read(dom, inactive=False)[0]
    return {source_here(disk, host) for disk in other.disks} | {path for disk in other.disks for path in disk.backing}
