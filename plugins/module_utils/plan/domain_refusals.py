# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What this host cannot give to the domain that is asked for: every answer at once, each with a remedy."""

from __future__ import annotations

import posixpath
from typing import Iterator, List, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import ERROR, Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_found import DomainFound
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import Wanted, WantedDisk
from ansible_collections.kvmops.fleet.plugins.module_utils.model.storage import Volume
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.cloud_init import seed_concerns
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.disk_image import image_concerns
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_disks import (
    BLOCK_POOLS,
    MIB,
    Place,
    backing_path,
    place_of,
    source_here,
)


def concerns(wanted: Wanted, found: DomainFound) -> Tuple[Concern, ...]:
    """Errors only; an empty tuple means that nothing stands in the way."""
    problems: List[Concern] = []
    for check in (_existence, _identity, _capacity, _capability, _networks, _files, seed_concerns, image_concerns):
        problems.extend(check(wanted, found))
    for index, disk in enumerate(wanted.disks or ()):
        problems.extend(_disk(index, disk, found))
    return tuple(problems)


def busy(wanted: Wanted, found: DomainFound) -> Tuple[Concern, ...]:
    """For a guest that is to be changed while it runs. In the middle of a move or a backup libvirt would wait for that, or the
    other end would not hear of it."""
    status = found.status
    if found.live is None or status is None or (status.job is None and not status.split):
        return ()
    what = "libvirt works on domain %s (%s)" % (wanted.name, status.job or "post-copy")
    detail = "%s, which is to be changed while it runs" % what
    return (_error("domain-busy", detail, "wait until that is over, or give apply: next_boot"),)


def _error(name: str, detail: str, remedy: str) -> Concern:
    return Concern(name, ERROR, detail, remedy)


def _existence(wanted: Wanted, found: DomainFound) -> Iterator[Concern]:
    if found.config is None and not wanted.describes and not (wanted.clone_from or wanted.rename_from):
        missing = []
        if wanted.memory_mib is None:
            missing.append("memory_mib")
        if wanted.disks is None and not (wanted.boot and wanted.boot.kernel):
            missing.append("disks (or boot.kernel; an empty list for a domain without disks)")
        detail = "domain %s does not exist and the task does not describe it: %s not given" % (
            wanted.name,
            " and ".join(missing),
        )
        yield _error("not-described", detail, "give what is missing, or xml")


def _identity(wanted: Wanted, found: DomainFound) -> Iterator[Concern]:
    if found.uuid_owner is not None:
        detail = "uuid %s belongs to domain %s" % (wanted.uuid, found.uuid_owner)
        yield _error("uuid-taken", detail, "leave uuid out or give another")


def _capacity(wanted: Wanted, found: DomainFound) -> Iterator[Concern]:
    total = found.host.facts.memory_total_mib
    given = found.xml_domain.memory_mib if found.xml_domain is not None else wanted.memory_mib
    for option, value in (("memory_mib", given), ("max_memory_mib", wanted.max_memory_mib)):
        if value is not None and total and value > total:
            detail = "%s %d is more than the host has (%d MiB)" % (option, value, total)
            yield _error("memory-too-large", detail, "give at most %d" % total)
    if found.config is None:
        return
    has = found.config
    now = (
        (wanted.max_memory_mib, wanted.memory_mib, has.memory_now_mib),
        (wanted.max_vcpus, wanted.vcpus, has.vcpus_now),
    )
    for name, (most, value, present) in zip(("memory_mib", "vcpus"), now):
        if most is not None and value is None and present > most:
            detail = "max_%s %d is less than the domain has (%d)" % (name, most, present)
            yield _error("ceiling-too-low", detail, "give %s too, or a larger max_%s" % (name, name))


def _capability(wanted: Wanted, found: DomainFound) -> Iterator[Concern]:
    facts = found.host.facts
    if wanted.domain_type is not None and facts.domain_types and wanted.domain_type not in facts.domain_types:
        detail = "domain_type %s is not offered by host %s" % (wanted.domain_type, facts.hostname)
        yield _error("domain-type-unknown", detail, "choose among %s, or auto" % ", ".join(facts.domain_types))
    if wanted.machine is not None and facts.machines and wanted.machine not in facts.machines:
        detail = "machine %s is not known to QEMU of host %s" % (wanted.machine, facts.hostname)
        newest = ", ".join(sorted(name for name in facts.machines if name in ("q35", "pc", "virt")))
        yield _error("machine-unknown", detail, "choose a type of kvm_host_info's list, such as %s" % newest)


def _networks(wanted: Wanted, found: DomainFound) -> Iterator[Concern]:
    for index, nic in enumerate(wanted.nics or ()):
        option = "networks[%d].%s %s" % (index, nic.kind, nic.source)
        if nic.kind == "bridge" and found.host.bridges is not None and nic.source not in found.host.bridges:
            remedy = "create the bridge or choose among: %s" % _listed(found.host.bridges)
            yield _error("bridge-unknown", "%s is no bridge of host %s" % (option, found.host.facts.hostname), remedy)
        names = tuple(network.name for network in found.host.networks)
        if nic.kind == "network" and nic.source not in names:
            remedy = "define the network or choose among: %s" % _listed(names)
            yield _error("network-unknown", "%s is no libvirt network" % option, remedy)


def _listed(names: Tuple[str, ...]) -> str:
    return ", ".join(sorted(names)) or "(there is none)"


def _files(wanted: Wanted, found: DomainFound) -> Iterator[Concern]:
    for part in ("kernel", "initrd"):
        path = getattr(wanted.boot, part) if wanted.boot is not None else None
        if path and found.paths is not None and not found.paths.get(path, False):
            yield _error("boot-file-missing", "boot.%s %s does not exist" % (part, path), "give a file of this host")
    folder = posixpath.dirname(wanted.serial_log or "")
    if folder and found.paths is not None and not found.paths.get(folder, False):
        detail = "serial_log %s is in a folder that does not exist" % wanted.serial_log
        yield _error("serial-log-folder-missing", detail, "create %s or choose another" % folder)


def _disk(index: int, disk: WantedDisk, found: DomainFound) -> Iterator[Concern]:
    option = "disks[%d]" % index
    yield from _below(option, disk, found)
    if disk.pool is not None:
        yield from _pool(option, disk, found)
    place = place_of(disk, found.host)
    volume = found.volumes.get(place.source or "")
    if volume is not None and disk.size_mib is not None:
        yield from _size(option, disk.size_mib, volume, found)
    if volume is None and place.kind in ("file", "block") and place.source is not None:
        yield from _missing(option, disk, place, found)
    if volume is None and disk.backing is not None:
        below = backing_path(disk, found.host)
        if below is None or (below not in found.volumes and not (found.paths or {}).get(below, found.paths is None)):
            detail = "%s.backing %s does not exist" % (option, below or disk.backing.name)
            yield _error("backing-missing", detail, "give an image of this host")


def _size(option: str, size_mib: int, volume: Volume, found: DomainFound) -> Iterator[Concern]:
    """An existing volume is grown, never shrunk."""
    has, users = volume.capacity_bytes // MIB, found.shared_with.get(volume.path, ())
    detail = "%s.size_mib %d, but %s exists with %d MiB" % (option, size_mib, volume.path, has)
    if has > size_mib:
        yield _error("size-differs", detail, "give %d or leave size_mib out: existing data is never cut off" % has)
    if volume.capacity_bytes >= size_mib * MIB:
        return
    pool = found.host.pool(volume.pool)
    if pool is not None and pool.type in BLOCK_POOLS:
        words = "%s, in pool %s of type %s" % (detail, pool.name, pool.type)
        yield _error("volume-not-growable", words, "grow it with the tools of the pool, or leave size_mib out")
    if users:
        words = "%s and domain %s uses it" % (detail, ", ".join(users))
        yield _error("volume-used", words, "choose another volume, or leave size_mib out")


def _below(option: str, disk: WantedDisk, found: DomainFound) -> Iterator[Concern]:
    """With an external snapshot the running disk is another file, above the one that the task names."""
    source = place_of(disk, found.host).source
    disks = found.live.disks if found.live is not None else ()
    if any(source_here(running, found.host) == source for running in disks):
        return
    for running in disks:
        if source is not None and source in running.backing:
            detail = "%s is %s, on which %s of the running domain stands (%s)" % (
                option,
                source,
                running.target,
                running.source,
            )
            yield _error("disk-below-running", detail, "name the image on top, or delete the snapshot first")


def _pool(option: str, disk: WantedDisk, found: DomainFound) -> Iterator[Concern]:
    pool = found.host.pool(disk.pool or "")
    if pool is None:
        names = _listed(tuple(one.name for one in found.host.pools))
        detail = "%s.pool %s does not exist" % (option, disk.pool)
        yield _error("pool-unknown", detail, "create the pool or choose among: %s" % names)
    elif not pool.active:
        detail = "%s.pool %s is not active" % (option, disk.pool)
        yield _error("pool-inactive", detail, "start it: virsh pool-start %s" % disk.pool)


def _missing(option: str, disk: WantedDisk, place: Place, found: DomainFound) -> Iterator[Concern]:
    """A disk whose data is not there and will not be made."""
    path = place.source or ""
    in_pool = place.pool is not None
    if in_pool and (disk.size_mib is not None or disk.image is not None):
        return
    if found.paths is None and not in_pool:
        return  # a remote host outside its pools cannot be asked; libvirt tells at the start
    if (found.paths or {}).get(path, False):
        return
    if in_pool:
        detail = "%s names %s, which does not exist in pool %s" % (option, path, place.pool)
        yield _error("volume-missing", detail, "give size_mib to create it, or the name of an existing volume")
        return
    folder = posixpath.dirname(path)
    detail = "%s.path %s does not exist and %s is the directory of no pool" % (option, path, folder)
    yield _error("path-outside-pools", detail, "put the disk into a pool (pool and name), or give an existing path")
