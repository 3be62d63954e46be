# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read both ends of a migration: everything the plan asks for, in as few round trips as there are questions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import (
    capabilities,
    certificates,
    domains,
    files,
    guest_load,
    live_migration,
    pools,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import HERE, Place
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor
from ansible_collections.kvmops.fleet.plugins.module_utils.model import safe_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import RUNNING, Domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import End, Found, Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.prediction import Load
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import postcopy
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.preflight import other_files

USERFAULTFD = "/proc/sys/vm/unprivileged_userfaultfd"
USERFAULTFD_DEVICE = "/dev/userfaultfd"


class Ends(NamedTuple):
    """The two connections, and where the destination's files are reached."""

    source: Hypervisor
    dest: Hypervisor
    files_of_dest: Place


class Seen(NamedTuple):
    """A domain on one side: libvirt's handle, the persistent and the running configuration with the latter's XML."""

    dom: Any
    config: Domain
    running: Optional[Domain]
    running_xml: Optional[str]


def observe_ends(wish: Wish, ends: Ends) -> Found:
    """Both ends. Changes nothing. Raises HostError."""
    here, there = _see(ends.source, wish.name), _see(ends.dest, wish.name)
    measuring = _measuring(here)
    moving = (here.running or here.config) if here else None
    paths = _paths(here) if here else []
    ours, theirs = (
        (certificates.CLIENT, certificates.SERVER)
        if wish.tls is not False and certificates.at_the_usual_place()
        else ((), ())
    )
    images, images_there = (
        files.look(HERE, [*paths, *ours]),
        files.look(ends.files_of_dest, [*paths, *theirs, *fault_paths(wish)]),
    )
    dest = _end(
        ends.dest,
        there,
        moving,
        images_there,
        certificates.found(theirs, images_there),
        here.running_xml if here else None,
    )
    return Found(
        source=_end(ends.source, here, moving, images, certificates.found(ours, images)),
        dest=replace(dest, userfaultfd=_may_fault(images_there, dest.facts.libvirt_version)),
        sizes=_sizes(ends.source, here) if here else {},
        load=measuring.load() if measuring else Load(),
    )


def fault_paths(wish: Wish) -> Tuple[str, ...]:
    """What post-copy needs on the destination, asked only where it was consented to."""
    return (USERFAULTFD, USERFAULTFD_DEVICE) if postcopy.is_allowed(wish) else ()


def _may_fault(images: Mapping[str, Any], libvirt_version: int) -> Optional[bool]:
    """libvirt NEWS 10.1.0: from then on libvirt opens the device for QEMU, where there is one."""
    setting, device = images.get(USERFAULTFD), images.get(USERFAULTFD_DEVICE)
    if setting is None or device is None or setting.value is None:
        return None
    return setting.value == "1" or (device.exists and libvirt_version >= 10001000)


def _measuring(seen: Optional[Seen]) -> Optional[guest_load.Measuring]:
    """Begun before anything else is asked, as it takes a second. A job of libvirt's would make it wait."""
    if seen is None:
        return None
    status = domains.status(seen.dom)
    if seen.running is None or status.state != RUNNING or status.job:
        return None
    return guest_load.Measuring(seen.dom, seen.running.memory_mib)


def _see(hv: Hypervisor, name: str) -> Optional[Seen]:
    dom = domains.find(hv, name)
    if dom is None:
        return None
    config, xml = domains.read(dom, inactive=True)
    if not domains.status(dom).active:
        return Seen(dom, config, None, xml)
    running, xml = domains.read(dom, inactive=False)
    return Seen(dom, config, running, xml)


def _paths(seen: Seen) -> List[str]:
    """Every path of this host that the domain names, in its persistent or its running configuration."""
    paths: List[str] = []
    for domain in (seen.config, seen.running):
        if domain is None:
            continue
        paths += [path for path, dummy in other_files(domain)]
        paths += [disk.source for disk in domain.images if disk.source and disk.kind in ("file", "block")]
        paths += [path for disk in domain.disks for path in disk.backing if path.startswith("/")]
        paths += [domain.nvram] if domain.nvram else []
    return sorted(set(paths))


def _end(
    hv: Hypervisor,
    seen: Optional[Seen],
    moving: Optional[Domain],
    images: Mapping[str, Any],
    certified: Optional[Mapping[str, bool]],
    xml: Optional[str] = None,
) -> End:
    facts, bridges = capabilities.host_facts(hv), capabilities.list_bridges(hv)
    return End(
        side=hv.side,
        facts=facts,
        domain=seen.config if seen else None,
        status=domains.status(seen.dom) if seen else None,
        active_domain=seen.running if seen else None,
        same_uuid_name=_name_of(hv, moving.uuid) if moving else None,
        pools=pools.list_pools(hv),
        networks=frozenset(network.name for network in capabilities.list_networks(hv) if network.active),
        bridges=frozenset(bridges) if bridges is not None else None,
        cpu_fits=live_migration.cpu_fits(hv, moving, _cpu_xml(xml)) if moving else None,
        images=images,
        disk_users=_disk_users(hv, moving.uuid) if moving else {},
        certificates=certified,
    )


def _name_of(hv: Hypervisor, uuid: str) -> Optional[str]:
    dom = domains.find_by_uuid(hv, uuid)
    return dom.name() if dom is not None else None


def _cpu_xml(xml: Optional[str]) -> Optional[str]:
    """The <cpu> of a running guest, where it names a model: what the destination must be able to give."""
    if not xml:
        return None
    cpu = safe_xml.parse(xml).find("cpu")
    return safe_xml.render(cpu) if cpu is not None and cpu.find("model") is not None else None


def _disk_users(hv: Hypervisor, uuid: str) -> Dict[str, Tuple[str, ...]]:
    """path -> the other domains on that side that name it."""
    users: Dict[str, Tuple[str, ...]] = {}
    for domain in domains.read_every(hv):
        if domain.uuid != uuid:
            for disk in domain.disks:
                for path in (disk.source, *disk.backing):
                    if path:
                        users[path] = users.get(path, ()) + (domain.name,)
    return users


def _sizes(hv: Hypervisor, seen: Seen) -> Dict[str, int]:
    domain = seen.running or seen.config
    return live_migration.disk_sizes(seen.dom, [disk.target for disk in domain.images], hv.side)
