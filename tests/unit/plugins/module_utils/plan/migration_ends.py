# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two ends of a migration from a few words of a case file; what a case does not say is a plain, healthy host."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import (
    Boot,
    Disk,
    Domain,
    DomainStatus,
    Firmware,
    Nic,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.host import DomainOffer, Emulator, HostFacts
from ansible_collections.kvmops.fleet.plugins.module_utils.model.hosting import Demands, Hosting
from ansible_collections.kvmops.fleet.plugins.module_utils.model.image import ImageFacts
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import End, Found, Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.prediction import Load
from ansible_collections.kvmops.fleet.plugins.module_utils.model.storage import Pool

UUID = "11111111-2222-3333-4444-555555555555"
MIB = 1024**2
IMAGES = "/var/lib/libvirt/images"
QEMU = "/usr/bin/qemu-system-x86_64"


def wish_of(words: Mapping[str, Any]) -> Wish:
    return Wish(**dict({"name": "web1", "host": "kvm2", "dest_uri": "qemu+ssh://root@kvm2/system"}, **words))


def found_of(case: Mapping[str, Any]) -> Found:
    domain = case.get("domain", {})
    source, dest = case.get("source", {}), case.get("dest", {})
    images = {path: _image(path, facts) for path, facts in case.get("images", {}).items()}
    there = {path: _image(path, facts) for path, facts in case.get("images_there", {}).items()}
    return Found(
        source=_end("kvm1", dict({"state": "running"}, **source), domain, images),
        dest=_end("kvm2", dict({"state": None}, **dest), domain, there),
        sizes={disk["target"]: disk.get("size_mib", 1024) * MIB for disk in domain.get("disks", [])},
        snapshots=tuple(case.get("snapshots", ())),
        external_snapshots=tuple(case.get("external_snapshots", ())),
        demands=Demands(**case.get("demands", {})),
        block_jobs=case.get("block_jobs", {}),
        reached_at=tuple(case["reached_at"]) if "reached_at" in case else None,
        load=Load(**case.get("load", {})),
    )


def _end(side: str, words: Mapping[str, Any], domain: Mapping[str, Any], images: Dict[str, ImageFacts]) -> End:
    state = words["state"]
    running = _domain(dict(domain, **words.get("domain", {}))) if state else None
    config = _domain(dict(domain, **words["next_boot"])) if "next_boot" in words else running
    status = _status(state, words) if state else None
    return End(
        side=side,
        facts=_facts(side, words),
        domain=config,
        status=status,
        active_domain=running if status is not None and status.active else None,
        same_uuid_name=words.get("same_uuid_name"),
        pools=tuple(_pool(path) for path in words.get("pools", [IMAGES]))
        + tuple(_pool(path, active=False) for path in words.get("inactive_pools", [])),
        networks=frozenset(words.get("networks", ["default"])),
        bridges=frozenset(words.get("bridges", ["br0"])),
        images=images,
        disk_users={path: tuple(users) for path, users in words.get("disk_users", {}).items()},
        certificates=words.get("certificates"),
        userfaultfd=words.get("userfaultfd"),
        hosting=_hosting(words.get("hosting", {})),
    )


def _hosting(words: Mapping[str, Any]) -> Hosting:
    parts = dict(words)
    if "offer" in parts:
        plain = {"domain_type": "qemu", "arch": "x86_64", "machine": "pc-q35-7.2", "emulator": QEMU}
        parts["offer"] = DomainOffer(**dict(plain, **parts["offer"]))
    for field in ("secrets", "cards"):
        if field in parts:
            parts[field] = frozenset(parts[field])
    return Hosting(**parts)


def _domain(words: Mapping[str, Any]) -> Domain:
    parts = dict({"name": "web1", "uuid": UUID, "type": "kvm", "memory_mib": 256, "vcpus": 1}, **words)
    parts["disks"] = tuple(_disk(disk) for disk in parts.get("disks", []))
    parts["nics"] = tuple(Nic(**nic) for nic in parts.get("nics", []))
    parts["boot"] = Boot(**parts.get("boot", {}))
    parts["firmware"] = Firmware(**parts.get("firmware", {}))
    for field in ("hostdevs", "filesystems"):
        parts[field] = tuple(parts.get(field, ()))
    return Domain(**parts)


def _disk(words: Mapping[str, Any]) -> Disk:
    parts = {key: value for key, value in words.items() if key != "size_mib"}
    parts["backing"] = tuple(parts.get("backing", ()))
    return Disk(**dict({"format": "qcow2"}, **parts))


def _status(state: str, words: Mapping[str, Any]) -> DomainStatus:
    known = ("autostart", "managed_save", "snapshots", "checkpoints", "job", "persistent", "reason")
    said = {key: words[key] for key in known if key in words}
    return DomainStatus(state=state, **dict({"persistent": True}, **said))


def _facts(side: str, words: Mapping[str, Any]) -> HostFacts:
    machines = words.get("machines", {"q35": "pc-q35-7.2", "pc-q35-7.2": "pc-q35-7.2"})
    types = tuple(words.get("domain_types", ["kvm", "qemu"]))
    return HostFacts(
        hostname=side,
        host_uuid=words.get("host_uuid", "uuid-of-%s" % side),
        arch="x86_64",
        cpus=2,
        memory_total_mib=words.get("memory_total_mib", 8192),
        memory_free_mib=words.get("memory_free_mib", 4096),
        memory_guests_mib=0,
        memory_guests_max_mib=0,
        cpu_model=None,
        cpu_xml="<cpu/>",
        emulators=(Emulator("x86_64", QEMU, types, machines),),
        libvirt_version=words.get("libvirt_version", 9000000),
        qemu_version=words.get("qemu_version", 7002000),
    )


def _pool(path: str, active: bool = True) -> Pool:
    name = "pool-%s" % path.rsplit("/", 1)[-1]
    return Pool(name=name, uuid="u", type="dir", path=path, active=active, autostart=True)


def _image(path: str, words: Optional[Mapping[str, Any]]) -> ImageFacts:
    given = dict(words or {})
    sizes = {key: given.pop(key + "_mib") * MIB for key in ("size", "allocated", "free") if key + "_mib" in given}
    plain = {"exists": True, "kind": "file", "directory": True, "free": 10240 * MIB, "size": 1024 * MIB}
    return ImageFacts(path=path, **dict(plain, **sizes, **given))
