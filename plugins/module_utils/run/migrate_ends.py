# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read both ends of a migration: everything the plan asks for, in as few round trips as there are questions."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import (
    capabilities,
    certificates,
    domains,
    files,
    guest_load,
    guest_lock,
    hosting,
    journal,
    live_migration,
    pools,
    snapshots,
    transfer_xml,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import HERE, Place
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor
from ansible_collections.kvmops.fleet.plugins.module_utils.model import safe_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.demands_xml import read_demands
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import RUNNING, Domain, save_path, tpm_folder
from ansible_collections.kvmops.fleet.plugins.module_utils.model.hosting import Demands, Hosting
from ansible_collections.kvmops.fleet.plugins.module_utils.model.image import ImageFacts
from ansible_collections.kvmops.fleet.plugins.module_utils.model.journal import ARRIVING, LEAVING, Journal
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import End, Found, Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.prediction import Load
from ansible_collections.kvmops.fleet.plugins.module_utils.model.storage import Pool
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import choices, postcopy
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.preflight_storage import other_files
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.redirect import path_there

# virtlockd is started by its socket, when the first guest needs it, and stays.
LOCKING, LOCKABLE = "/run/virtlockd.pid", "/run/libvirt/virtlockd-sock"

# What the link sends in that time: the guest writes a sixth of what the link carries at most, then.
QUIET_S = 0.025

USERFAULTFD = "/proc/sys/vm/unprivileged_userfaultfd"
USERFAULTFD_DEVICE = "/dev/userfaultfd"


class Ends(NamedTuple):
    """The two connections, where the destination's files are reached, and what has begun to look at the running guest."""

    source: Hypervisor
    dest: Hypervisor
    files_of_dest: Place
    measuring: Optional[guest_load.Measuring] = None


class Seen(NamedTuple):
    """A domain on one side: libvirt's handle, the persistent and the running configuration, and the XML that moves."""

    dom: Any
    config: Domain
    running: Optional[Domain]
    xml: str

    @property
    def moving(self) -> Domain:
        return self.running or self.config

    @property
    def targets(self) -> List[str]:
        return [disk.target for disk in self.moving.images]


def observe_ends(wish: Wish, ends: Ends) -> Found:
    """Both ends. Changes nothing. Raises HostError."""
    here, there = _see(ends.source, wish.name), _see(ends.dest, wish.name)
    pools_here, pools_there = pools.list_pools(ends.source), pools.list_pools(ends.dest)
    paths = [*_paths(here), *_state_files(here)] if here else []
    uuid = (here or there).config.uuid if here or there else None  # type: ignore[union-attr]
    ours, theirs = (
        (certificates.CLIENT, certificates.SERVER)
        if wish.tls is not False and certificates.at_the_usual_place()
        else ((), ())
    )
    images, leaving = _survey(HERE, [*paths, LOCKING, *ours], LEAVING, uuid)
    named = [step.args["path"] for step in leaving.closing if "path" in step.args] if leaving else []
    images = dict(images, **files.look(HERE, [path for path in named if path not in images]))
    renamed = [path_there(path, wish.pool_map, pools_here, pools_there) for path in paths]
    sought = [path for path in renamed if path] + ([*leaving.created, *leaving.temporary] if leaving else [])
    images_there, arriving = _survey(
        ends.files_of_dest, [*paths, LOCKABLE, *theirs, *sought, *fault_paths(wish)], ARRIVING, uuid
    )
    snapshots_here, external = snapshots.names(here.dom) if here else ((), ())
    demands = _demands(here) if here else Demands()
    dest = _end(ends.dest, there, here, demands, pools_there, images_there, certificates.found(theirs, images_there))
    return Found(
        source=_end(ends.source, here, here, demands, pools_here, images, certificates.found(ours, images)),
        dest=replace(dest, userfaultfd=_may_fault(images_there, dest.facts.libvirt_version)),
        sizes=_sizes(ends.source, here, images) if here else {},
        leaving=leaving,
        arriving=arriving,
        snapshots=snapshots_here,
        external_snapshots=external,
        busy=guest_lock.standing(wish.name).alive,
        demands=demands,
        block_jobs=hosting.block_jobs(here.dom, here.targets) if here and here.running else {},
        reached_at=hosting.addresses_of(wish.migrate_uri),
        load=ends.measuring.load() if ends.measuring else Load(),
    )


def _survey(
    place: Place, paths: List[str], role: str, uuid: Optional[str]
) -> Tuple[Mapping[str, ImageFacts], Optional[Journal]]:
    return journal.survey(place, paths, role, uuid) if uuid else (files.look(place, paths), None)


def _state_files(seen: Seen) -> List[str]:
    """Saved memory and the files of an emulated TPM, where libvirt keeps them."""
    top = tpm_folder(seen.config.uuid)
    tpm = [os.path.join(folder, name) for folder, _folders, names in os.walk(top) for name in names if name[0] != "."]
    return [save_path(seen.config.name), *tpm]


def fault_paths(wish: Wish) -> Tuple[str, ...]:
    """What post-copy needs on the destination, asked only where it was consented to."""
    return (USERFAULTFD, USERFAULTFD_DEVICE) if postcopy.is_allowed(wish) else ()


def _may_fault(images: Mapping[str, Any], libvirt_version: int) -> Optional[bool]:
    """libvirt NEWS 10.1.0: from then on libvirt opens the device for QEMU, where there is one."""
    setting, device = images.get(USERFAULTFD), images.get(USERFAULTFD_DEVICE)
    if setting is None or device is None or setting.value is None:
        return None
    return setting.value == "1" or (device.exists and libvirt_version >= 10001000)


def begin_measuring(wish: Wish, source: Hypervisor) -> Optional[guest_load.Measuring]:
    """Before anything else is asked, as it takes up to a second. A job of libvirt's would make it wait."""
    dom = domains.find(source, wish.name)
    status = domains.status(dom) if dom is not None else None
    if status is None or status.state != RUNNING or status.job:
        return None
    memory_mib = domains.read(dom, inactive=False)[0].memory_mib
    return guest_load.Measuring(dom, memory_mib, QUIET_S * (wish.link_mib_s or choices.SLOWEST_LINK_MIB_S))


def _see(hv: Hypervisor, name: str) -> Optional[Seen]:
    dom = domains.find(hv, name)
    if dom is None:
        return None
    config, xml = domains.read(dom, inactive=True)
    if not domains.status(dom).active:
        return Seen(dom, config, None, xml)
    running, xml = domains.read(dom, inactive=False)
    return Seen(dom, config, running, xml)


def _demands(seen: Seen) -> Demands:
    """libvirt leaves out of what it sends what it wrote down by itself, such as the watchdog of the q35 board."""
    sent = read_demands(transfer_xml.shape(seen.dom, inactive=seen.running is None))
    return replace(read_demands(seen.xml), watchdogs=sent.watchdogs)


def _paths(seen: Seen) -> List[str]:
    """Every path of this host that the domain names, in its persistent or its running configuration."""
    paths: List[str] = []
    for domain in (seen.config, seen.running):
        if domain is None:
            continue
        paths += [path for path, dummy in other_files(domain)]
        paths += [disk.source for disk in domain.images if disk.source and disk.kind in ("file", "block")]
        paths += [path for disk in domain.disks for path in disk.backing if path.startswith("/")]
        paths += [path for path in (domain.nvram, domain.emulator) if path]
    return sorted(set(paths))


def _end(
    hv: Hypervisor,
    seen: Optional[Seen],
    source: Optional[Seen],
    demands: Demands,
    pools_of_it: Tuple[Pool, ...],
    images: Mapping[str, ImageFacts],
    certified: Optional[Mapping[str, bool]],
) -> End:
    """seen: the domain on this side. source: on the source, where it moves from."""
    facts, bridges = capabilities.host_facts(hv), capabilities.list_bridges(hv)
    moving = source.moving if source else None
    others = [domain for domain in domains.read_every(hv) if domain.uuid != moving.uuid] if moving else []
    return End(
        side=hv.side,
        facts=facts,
        domain=seen.config if seen else None,
        status=domains.status(seen.dom) if seen else None,
        active_domain=seen.running if seen else None,
        same_uuid_name=_name_of(hv, moving.uuid) if moving else None,
        pools=pools_of_it,
        networks=frozenset(network.name for network in capabilities.list_networks(hv) if network.active),
        bridges=frozenset(bridges) if bridges is not None else None,
        images=images,
        disk_users=_disk_users(others),
        certificates=certified,
        hosting=_hosting(hv, seen, source, demands, others, images),
    )


def _hosting(
    hv: Hypervisor,
    seen: Optional[Seen],
    source: Optional[Seen],
    demands: Demands,
    others: Sequence[Domain],
    images: Mapping[str, ImageFacts],
) -> Hosting:
    if source is None:
        return Hosting()
    if source is seen:
        return replace(hosting.of_source(hv, demands), locks=images[LOCKING].exists)
    there = hosting.read(hv, source.moving, demands, _cpu_xml(source.xml), others)
    return replace(there, locks=images[LOCKABLE].exists)


def _name_of(hv: Hypervisor, uuid: str) -> Optional[str]:
    dom = domains.find_by_uuid(hv, uuid)
    return dom.name() if dom is not None else None


def _cpu_xml(xml: str) -> Optional[str]:
    """The guest's <cpu>, where it names a model: what the destination must be able to give."""
    cpu = safe_xml.parse(xml).find("cpu")
    return safe_xml.render(cpu) if cpu is not None and safe_xml.text_of(cpu, "model") else None


def _disk_users(others: Sequence[Domain]) -> Dict[str, Tuple[str, ...]]:
    """path -> the domains that name it."""
    users: Dict[str, Tuple[str, ...]] = {}
    for domain in others:
        for disk in domain.disks:
            for path in (disk.source, *disk.backing):
                if path:
                    users[path] = users.get(path, ()) + (domain.name,)
    return users


def _sizes(hv: Hypervisor, seen: Seen, images: Mapping[str, ImageFacts]) -> Dict[str, int]:
    """A definition that was kept names disks that are gone; they have no size."""
    gone = {path for path, facts in images.items() if not facts.exists}
    return live_migration.disk_sizes(
        seen.dom, [disk.target for disk in seen.moving.images if disk.source not in gone], hv.side
    )
