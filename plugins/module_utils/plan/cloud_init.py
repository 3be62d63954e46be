# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The cloud-init seed of a domain: where it lies, whether it has to be written, and what stands against it."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from typing import Iterator, List, NamedTuple, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.cloud_init import (
    RECORD,
    SUFFIX,
    WantedSeed,
    differing,
    record_of,
    seed_disk,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import ERROR, Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_change import Change, Edit
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_found import DomainFound, HostView
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import Wanted, WantedDisk
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Step
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_disks import (
    added,
    default_bus,
    place_of,
    seated,
    source_here,
)

DIRECTORY_POOLS = ("dir", "fs", "netfs")


class SeedPlace(NamedTuple):
    """pool: None when the file is in none that is known."""

    path: str
    pool: Optional[str]


def seed_place(wanted: Wanted, host: HostView, config: Optional[Domain]) -> Optional[SeedPlace]:
    """Where the seed is, or would be put; None when the task names no place that there is."""
    there = seed_disk(config)
    if there is not None and there.source is not None:
        path = source_here(there, host) or there.source
        pool = host.pool_of_folder(posixpath.dirname(path))
        return SeedPlace(path, pool.name if pool else None)
    pool = host.pool(_pool_name(wanted, host, config) or "")
    if pool is None or pool.path is None or pool.type not in DIRECTORY_POOLS:
        return None
    return SeedPlace(posixpath.join(pool.path, wanted.name + SUFFIX), pool.name)


def _pool_name(wanted: Wanted, host: HostView, config: Optional[Domain]) -> Optional[str]:
    if wanted.seed is not None and wanted.seed.pool is not None:
        return wanted.seed.pool
    paths = [place_of(disk, host).source for disk in wanted.disks or () if disk.device == "disk"]
    if not paths and config is not None:
        paths = [source_here(disk, host) for disk in config.images]
    pool = host.pool_of_folder(posixpath.dirname(paths[0] or "")) if paths else None
    return pool.name if pool is not None else None


def seed_concerns(wanted: Wanted, found: DomainFound) -> Iterator[Concern]:
    if wanted.seed is None or found.seed is None:
        return
    place = seed_place(wanted, found.host, found.config)
    if not found.seed.here:
        detail = "a cloud-init seed is a file of the host, and %s is another machine" % found.host.facts.hostname
        yield Concern("seed-elsewhere", ERROR, detail, "run the task on that host, with uri qemu:///system")
    elif place is None:
        yield _no_place(wanted.seed, found.host)
    elif found.seed.users:
        detail = "%s is used by %s" % (place.path, ", ".join(found.seed.users))
        yield Concern("seed-used", ERROR, detail, "give another cloud_init.pool")
    elif found.seed.exists and not found.seed.ours:
        yield Concern("seed-name-taken", ERROR, "%s exists and is no seed of ours" % place.path, "move it away")
    if found.seed.here and found.seed.tool is None:
        detail = "host %s has no program that makes ISO images" % found.host.facts.hostname
        yield Concern("seed-tool-missing", ERROR, detail, "install xorriso, as the role hypervisor does")


def _no_place(seed: WantedSeed, host: HostView) -> Concern:
    names = sorted(pool.name for pool in host.pools if pool.type in DIRECTORY_POOLS and pool.active)
    remedy = "give cloud_init.pool, one of: %s" % (", ".join(names) or "(there is none)")
    if seed.pool is not None:
        detail = "cloud_init.pool %s is no directory pool of host %s" % (seed.pool, host.facts.hostname)
    else:
        detail = "the domain has no disk in a directory pool beside which its cloud-init seed could lie"
    return Concern("seed-place-unknown", ERROR, detail, remedy)


def seed_steps(wanted: Wanted, found: DomainFound) -> List[Step]:
    """Writing it, where what it holds differs or it went away. Or removing it: before its drive, which a guest can start without."""
    if wanted.drops_seed:
        return _removal(found)
    place = seed_place(wanted, found.host, found.config)
    if wanted.seed is None or found.seed is None or place is None:
        return []
    why = _differing(wanted.seed, found.config)
    if not why and found.seed.exists:
        return []
    reason = " and ".join("%s differs" % part for part in why) if why else "it is missing"
    there = found.config is not None and RECORD in found.config.metadata
    words = "write cloud-init seed %s%s" % (place.path, " (%s)" % reason if there else "")
    return [Step("write_seed", words, {"place": place, "seed": wanted.seed, "tool": found.seed.tool})]


def _removal(found: DomainFound) -> List[Step]:
    disk = seed_disk(found.config)
    path = (source_here(disk, found.host) if disk is not None else None) or ""
    pool = found.host.pool_of_folder(posixpath.dirname(path))
    if pool is None or found.seed is None or not found.seed.exists or not found.seed.ours or found.seed.users:
        return []
    name = posixpath.basename(path)
    words = "delete volume %s of pool %s" % (name, pool.name)
    return [Step("delete_volume", words, {"pool": pool.name, "name": name})]


def _differing(seed: WantedSeed, config: Optional[Domain]) -> Tuple[str, ...]:
    return differing(seed.texts, config.metadata.get(RECORD) if config is not None else None)


def seed_changes(wanted: Wanted, config: Domain, found: DomainFound) -> Iterator[Change]:
    """The drive where the disks are not listed, and what the domain remembers."""
    if wanted.drops_seed and RECORD in config.metadata:
        there = seed_disk(config)
        if there is not None:
            words = "detach cdrom %s (%s)" % (there.target, there.source)
            yield Change(
                "disks." + there.target, there.source, None, words, Edit("disk_drop", {"target": there.target})
            )
        yield Change(
            "cloud_init", "as remembered", None, "forget the cloud-init seed", Edit("seed_record", {"record": ""})
        )
    if wanted.seed is None or found.seed is None:
        return
    disk = _disk(wanted, found)
    if wanted.disks is None and disk is not None and all(other.source != disk.path for other in config.disks):
        # The same target in the definition and in the guest that runs.
        used = {other.target for domain in (found.config, found.live) if domain is not None for other in domain.disks}
        yield added(seated(disk, used, wanted.machine or config.machine), found.host)
    why = _differing(wanted.seed, config)
    missing = config is found.config and not found.seed.exists
    if why or missing:
        before = ("missing" if missing else "as remembered") if RECORD in config.metadata else None
        after = "%s differs" % ", ".join(why) if why and before else "written"
        words = "remember a salted hash of the cloud-init seed"
        edit = Edit("seed_record", {"record": record_of(wanted.seed.texts, found.seed.salt)})
        yield Change("cloud_init", before, after, words, edit)


def first_record(wanted: Wanted, found: DomainFound) -> List[Edit]:
    """For a new domain."""
    if wanted.seed is None or found.seed is None:
        return []
    return [Edit("seed_record", {"record": record_of(wanted.seed.texts, found.seed.salt)})]


def with_seed(wanted: Wanted, found: DomainFound) -> Wanted:
    """The same with the seed's drive among the disks where these are listed: who lists disks does not mean to detach it."""
    disk = _disk(wanted, found)
    if disk is not None and any(place_of(other, found.host).source == disk.path for other in wanted.disks or ()):
        return wanted
    if disk is None or (wanted.disks is None and found.config is not None):
        return wanted
    return replace(wanted, disks=(wanted.disks or ()) + (disk,))


def _disk(wanted: Wanted, found: DomainFound) -> Optional[WantedDisk]:
    there = seed_disk(found.config)
    if there is not None:
        return WantedDisk(path=source_here(there, found.host), device="cdrom", target=there.target)
    place = seed_place(wanted, found.host, found.config) if wanted.seed is not None else None
    if place is None:
        return None
    machine = wanted.machine or (found.config.machine if found.config is not None else None)
    # Kernels for clouds have drivers for IDE and virtio, and none for SATA (Debian's linux-image-cloud-amd64).
    bus = "ide" if default_bus("cdrom", machine) == "ide" else "scsi"
    return WantedDisk(path=place.path, device="cdrom", bus=bus, optional=True)
