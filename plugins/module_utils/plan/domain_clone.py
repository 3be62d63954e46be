# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A domain as a copy of another one: what it is called, where its disks go, and what stands against it."""

from __future__ import annotations

import hashlib
import posixpath
from dataclasses import replace
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.clone import Clone, CloneSource, DiskCopy, ImageSeen
from ansible_collections.kvmops.fleet.plugins.module_utils.model.cloud_init import RECORD, seed_disk
from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import ERROR, Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import (
    MOVED_TO,
    NVRAM_FOLDER,
    SHUTOFF,
    Disk,
    Domain,
    DomainStatus,
    moved_to,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_found import DomainFound, HostView
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import ABSENT, Wanted
from ansible_collections.kvmops.fleet.plugins.module_utils.model.names import name_problems
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Step
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.cloud_init import DIRECTORY_POOLS
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_disks import MIB, source_here

_FORMATS = ("qcow2", "raw")
_NOTHING = ImageSeen()


def origin_problems(params: Mapping[str, Any]) -> Iterator[str]:
    """Of the options clone_from and rename_from."""
    given = [option for option in ("clone_from", "rename_from") if params.get(option) is not None]
    if len(given) > 1:
        yield "clone_from and rename_from are both given; say one"
    for option in given:
        name = params[option]["name"] if option == "clone_from" else params[option]
        yield from name_problems("%s.name" % option if option == "clone_from" else option, name)
        if name == params["name"]:
            yield "%s is name itself; give the other domain" % option
        if params["state"] == ABSENT:
            yield "%s and state absent are both given; leave one out" % option
        if params["xml"] is not None:
            yield "%s and xml are both given; leave one out" % option
    if params.get("clone_from") is not None and params["disks"] is not None:
        yield "clone_from and disks are both given; a copy has the disks of its source"


def clone_of(wanted: Wanted, source: Domain, host: HostView) -> Clone:
    """What the copy will be. Total: disks that cannot be copied are left out, and told by clone_concerns."""
    seed = seed_disk(source)
    log = source.serial_log
    nvram = source.nvram
    kind = posixpath.splitext(nvram)[1] if nvram is not None else ""
    return Clone(
        source=source.name,
        name=wanted.name,
        disks=tuple(_copies(wanted, source, host)),
        macs=tuple(_mac(wanted, source, host, number) for number in range(len(source.nics))),
        dropped=(seed.target,) if seed is not None else (),
        uuid=wanted.uuid,
        nvram="%s/%s_VARS%s" % (NVRAM_FOLDER, wanted.name, kind) if nvram is not None else None,
        serial_log=log.replace(source.name, wanted.name) if log and source.name in log else None,
    )


def _copies(wanted: Wanted, source: Domain, host: HostView) -> Iterator[DiskCopy]:
    used: List[str] = []
    for disk in source.images:
        path = source_here(disk, host) or ""
        pool = host.pool(wanted.clone_pool) if wanted.clone_pool else host.pool_of_folder(posixpath.dirname(path))
        if disk.kind not in ("file", "volume") or pool is None or pool.path is None or disk.format not in _FORMATS:
            continue
        name = _name(posixpath.basename(path), disk, source.name, wanted.name)
        if name in used:
            name = _name("", disk, source.name, wanted.name)
        used.append(name)
        yield DiskCopy(disk.target, path, posixpath.join(pool.path, name), disk.format or "raw", pool.name)


def _name(old: str, disk: Disk, source: str, name: str) -> str:
    """web1-data.qcow2 of web1 becomes web2-data.qcow2; what does not bear the name gets name and target."""
    if source in old:
        return old.replace(source, name, 1)
    return "%s-%s.%s" % (name, disk.target, disk.format)


def _mac(wanted: Wanted, source: Domain, host: HostView, number: int) -> str:
    """Another one on every host, and for every copy, and the same in check mode as for real. 52:54:00 is QEMU's own."""
    told = "%s %s %s %d" % (host.facts.host_uuid, source.uuid, wanted.name, number)
    digest = hashlib.sha256(told.encode("utf-8")).hexdigest()
    return "52:54:00:%s:%s:%s" % (digest[:2], digest[2:4], digest[4:6])


def as_cloned(wanted: Wanted, source: Domain, clone: Clone) -> Domain:
    """The copy as it will be defined, before the task's own options."""
    copies = {disk.target: disk for disk in clone.disks}
    disks = tuple(
        replace(disk, kind="file", source=copies[disk.target].path, backing=()) if disk.target in copies else disk
        for disk in source.disks
        if disk.target not in clone.dropped
    )
    return replace(
        source,
        name=clone.name,
        uuid=wanted.uuid or "",
        disks=disks,
        nics=tuple(replace(nic, mac=mac, target=None) for nic, mac in zip(source.nics, clone.macs)),
        metadata={key: value for key, value in source.metadata.items() if key not in (RECORD, MOVED_TO)},
        serial_log=clone.serial_log,
        firmware=replace(source.firmware, nvram=clone.nvram if source.firmware.nvram else None),
    )


def found_as_cloned(wanted: Wanted, found: DomainFound) -> DomainFound:
    """The same as if the copy were there already, off: all that the task says beside it is a change of that."""
    source = found.clone.config if found.clone is not None else None
    if source is None:
        return found
    config = as_cloned(wanted, source, clone_of(wanted, source, found.host))
    return replace(found, config=config, status=DomainStatus(state=SHUTOFF, persistent=True))


def clone_concerns(wanted: Wanted, found: DomainFound) -> Tuple[Concern, ...]:
    """Errors only."""
    seen = found.clone
    if seen is None or wanted.clone_from is None:
        return ()
    what = "clone_from.name %s" % wanted.clone_from
    if not seen.here:
        detail = "the images of %s are files of the host, and %s is another machine" % (what, found.host.facts.hostname)
        return (_error("clone-elsewhere", detail, "run the task on that host, with uri qemu:///system"),)
    if seen.config is None or seen.status is None:
        names = "host %s has no domain of that name" % found.host.facts.hostname
        return (_error("clone-source-missing", "%s: %s" % (what, names), "give one that is there"),)
    return tuple(_of_the_source(what, seen, seen.config, seen.status)) + tuple(
        _of_the_disks(wanted, found.host, seen, seen.config)
    )


def _error(name: str, detail: str, remedy: str) -> Concern:
    return Concern(name, ERROR, detail, remedy)


def _of_the_source(what: str, seen: CloneSource, config: Domain, status: DomainStatus) -> Iterator[Concern]:
    if moved_to(config):
        detail = "%s has moved to host %s; only its definition is here" % (what, moved_to(config))
        yield _error("clone-source-moved", detail, "run the task there")
    elif status.state != SHUTOFF:
        detail = "%s is %s, and its disks change while they are copied" % (what, status.state)
        yield _error("clone-source-runs", detail, "shut it down first; it may start again when the copy is there")
    elif status.managed_save:
        detail = "%s is saved: part of what its disks should hold is in its saved memory" % what
        yield _error("clone-source-saved", detail, "start it and shut it down first")
    for words in seen.odd:
        yield _error("clone-not-shareable", "%s: %s" % (what, words), "take it away first, or define the copy from xml")


def _of_the_disks(wanted: Wanted, host: HostView, seen: CloneSource, config: Domain) -> Iterator[Concern]:
    clone = clone_of(wanted, config, host)
    copied = {disk.target for disk in clone.disks}
    pool = host.pool(wanted.clone_pool) if wanted.clone_pool else None
    if wanted.clone_pool and (pool is None or pool.type not in DIRECTORY_POOLS or not pool.active):
        detail = "clone_from.pool %s is no active directory pool" % wanted.clone_pool
        yield _error("clone-pool", detail, "choose another")
        return
    for disk in config.disks:
        where = "disk %s (%s)" % (disk.target, disk.source)
        if disk.shareable:
            yield _error("clone-disk-shareable", "%s is shared with other guests" % where, "detach it first")
        elif disk.writable_image and disk.target not in copied:
            detail = "%s is no qcow2 or raw file in a directory pool; only those are copied" % where
            yield _error("clone-disk-kind", detail, "detach it first, or define the copy from xml")
    for one in clone.disks:
        if seen.images.get(one.source) is not None and seen.images[one.source].said:
            detail = "%s cannot be copied: %s" % (one.source, seen.images[one.source].said)
            yield _error("clone-disk-unreadable", detail, "see to it first")
    for path in seen.taken:
        yield _error("clone-target-taken", "%s exists already" % path, "remove it or move it away")
    yield from _room(clone, seen)


def _room(clone: Clone, seen: CloneSource) -> Iterator[Concern]:
    lacking: Dict[str, int] = {}
    for disk in clone.disks:
        folder = posixpath.dirname(disk.path)
        lacking[folder] = lacking.get(folder, 0) + seen.images.get(disk.source, _NOTHING).allocated
    for folder, size in sorted(lacking.items()):
        if size > seen.free.get(folder, size):
            detail = "the copies need %d MiB in %s, where %d MiB are free" % (
                size // MIB,
                folder,
                seen.free[folder] // MIB,
            )
            yield _error("clone-no-room", detail, "make room, or give another clone_from.pool")


def clone_steps(wanted: Wanted, found: DomainFound) -> List[Step]:
    source = found.clone.config if found.clone is not None else None
    if source is None or found.clone is None:
        return []
    clone = clone_of(wanted, source, found.host)
    steps = []
    if clone.disks:
        listed = ", ".join("%s to %s" % (disk.source, disk.path) for disk in clone.disks)
        steps.append(Step("copy_disks", "copy %s" % listed, {"clone": clone}))
    if found.clone.nvram and clone.nvram is not None:
        words = "copy the UEFI variables to %s" % clone.nvram
        steps.append(Step("copy_nvram", words, {"from": source.nvram, "to": clone.nvram}))
    words = "define domain %s as a copy of %s" % (wanted.name, source.name)
    steps.append(Step("define_copy", words, {"clone": clone}))
    return steps


def clone_warnings(found: DomainFound) -> Tuple[str, ...]:
    source: Optional[Domain] = found.clone.config if found.clone is not None else None
    said = []
    if source is not None and source.tpm is not None:
        said.append("The copy gets an empty TPM: what %s has sealed in its own stays there." % source.name)
    if source is not None and source.filesystems:
        said.append(
            "The copy sees the same folders of the host as %s: %s." % (source.name, ", ".join(source.filesystems))
        )
    return tuple(said)
