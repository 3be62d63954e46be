# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wanted and found sides of kvm_domain's planner, made from what a case says and sound values for the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Mapping, Optional

import yaml

from ansible_collections.kvmops.fleet.plugins.module_utils.model.clone import CloneSource, ImageSeen
from ansible_collections.kvmops.fleet.plugins.module_utils.model.cloud_init import RECORD, SeedFound, record_of
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import (
    ACTIVE_STATES,
    Boot,
    Cpu,
    Disk,
    Domain,
    DomainStatus,
    Firmware,
    Nic,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_found import DomainFound, HostView
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import Wanted
from ansible_collections.kvmops.fleet.plugins.module_utils.model.host import Emulator, HostFacts, HostNetwork
from ansible_collections.kvmops.fleet.plugins.module_utils.model.hotplug import Room
from ansible_collections.kvmops.fleet.plugins.module_utils.model.source_image import SourceImage, WantedImage
from ansible_collections.kvmops.fleet.plugins.module_utils.model.storage import Pool, Volume
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.cloud_init_request import wanted_seed
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_request import wanted_domain
from ansible_collections.kvmops.fleet.plugins.module_utils.run.domain import OPTIONS

UUID = "11111111-2222-4333-8444-555555555555"
IMAGES = "/var/lib/libvirt/images"
MIB = 1024 * 1024

_FOLDER = Path(__file__).parent / "cases"
_FILES = [*sorted(_FOLDER.glob("domain*.yml")), _FOLDER / "cloud_init.yml", _FOLDER / "disk_image.yml"]
CASES = [case for path in _FILES for case in yaml.safe_load(path.read_text(encoding="utf-8"))]


def params_of(given: Mapping[str, Any], spec: Optional[Mapping[str, Any]] = None) -> Dict[str, Any]:
    """What AnsibleModule makes of the options: defaults and None filled in, at every depth."""
    spec = spec if spec is not None else {"uri": {"default": "qemu:///system"}, **OPTIONS}
    unknown = set(given) - set(spec)
    assert not unknown, "no such option: %s" % unknown
    params = {}
    for name, rule in spec.items():
        value = given.get(name, rule.get("default"))
        if value is not None and "options" in rule:
            inner = rule["options"]
            value = [params_of(one, inner) for one in value] if rule["type"] == "list" else params_of(value, inner)
        params[name] = value
    return params


def wanted_of(given: Mapping[str, Any], xml: Optional[Domain] = None) -> Wanted:
    return wanted_domain(params_of({"name": "web1", **given}), xml)


def host_of(given: Mapping[str, Any]) -> HostView:
    """kvm: whether it works. memory_total_mib, pools, networks, bridges."""
    types = ("kvm", "qemu") if given.get("kvm_offered", True) else ("qemu",)
    machines = {"q35": "pc-q35-7.2", "pc-q35-7.2": "pc-q35-7.2", "pc-q35-7.1": "pc-q35-7.1", "pc": "pc-i440fx-7.2"}
    machines["pc-i440fx-7.2"] = "pc-i440fx-7.2"
    facts = HostFacts(
        hostname="kvm1",
        host_uuid="0" * 32,
        arch="x86_64",
        cpus=4,
        memory_total_mib=given.get("memory_total_mib", 4096),
        memory_free_mib=2048,
        memory_guests_mib=0,
        memory_guests_max_mib=0,
        cpu_model=None,
        cpu_xml="",
        emulators=(Emulator("x86_64", "/usr/bin/qemu-system-x86_64", types, machines),),
        libvirt_version=9000000,
        qemu_version=7002000,
    )
    pools = (
        Pool("default", UUID, "dir", IMAGES, True, True, 10000, 9000),
        Pool("vg0", UUID, "logical", "/dev/vg0", True, True, 10000, 9000),
        Pool("cold", UUID, "dir", "/srv/cold", False, False),
    )
    network = HostNetwork("lan", UUID, active=True, autostart=True, persistent=True, bridge="virbr0", forward="nat")
    bridges = given.get("bridges", ["br0", "br1"])
    return HostView(
        facts=facts,
        pools=pools,
        networks=(network,),
        bridges=None if bridges is None else tuple(bridges),
        kvm_works=given.get("kvm", False),
    )


def domain_of(given: Mapping[str, Any]) -> Domain:
    """remembers: the option cloud_init that its seed was made of."""
    values = dict(
        {"name": "web1", "uuid": UUID, "type": "qemu", "memory_mib": 256, "vcpus": 1, "machine": "pc-q35-7.2"}, **given
    )
    values["disks"] = tuple(Disk(**disk) for disk in values.get("disks", ()))
    values["nics"] = tuple(Nic(**nic) for nic in values.get("nics", ()))
    if "remembers" in values:
        seed = wanted_seed(values.pop("remembers"), "web1")
        values["metadata"] = dict(values.get("metadata", {}), **{RECORD: record_of(seed.texts, "old")})
    values["graphics"] = tuple(values.get("graphics", ()))
    for name, kind in (("boot", Boot), ("cpu", Cpu), ("firmware", Firmware)):
        if name in values:
            values[name] = kind(**values[name])
    if "cpu" in values:
        cpu = values["cpu"]
        values["cpu"] = Cpu(cpu.mode, cpu.model, tuple(cpu.features))
    return Domain(**values)


def found_of(given: Optional[Mapping[str, Any]]) -> DomainFound:
    """state null (or nothing said): no such domain. volumes: path -> MiB. paths: those that exist.

    live: where the running domain differs from config. room: of model/hotplug.py. job: that runs on it.
    """
    given = given or {}
    host = host_of(given.get("host", {}))
    volumes = {
        path: Volume(_pool_of(path), path.rsplit("/", 1)[1], path, "qcow2", int(size * MIB), 0)
        for path, size in given.get("volumes", {}).items()
    }
    common: Dict[str, Any] = dict(
        host=host,
        volumes=volumes,
        paths=None if given.get("remote") else _Paths(given.get("paths", ())),
        rename_source_exists=given.get("rename_source_exists", False),
        clone=_clone_source(given["clone"]) if "clone" in given else None,
        source_images=None if given.get("remote") else _source_images(given.get("source_images", {})),
        uuid_owner=given.get("uuid_owner"),
        seed=SeedFound(**dict({"here": True, "tool": "xorrisofs", "salt": "new"}, **given.get("seed", {}))),
        shared_with={path: tuple(names) for path, names in given.get("shared_with", {}).items()},
    )
    state = given.get("state")
    if state is None:
        return DomainFound(**common)
    status = DomainStatus(
        state="shutoff" if state == "saved" else state,
        persistent=given.get("persistent", True),
        autostart=given.get("autostart", False),
        managed_save=state == "saved",
        job=given.get("job"),
        snapshots=given.get("snapshots", 0),
        checkpoints=given.get("checkpoints", 0),
        id=1 if state in ACTIVE_STATES or given.get("kept") else None,
    )
    config = domain_of(given.get("config", {}))
    live = domain_of({**given.get("config", {}), **given.get("live", {})}) if status.active else None
    return DomainFound(status=status, config=config, live=live, room=Room(**given.get("room", {})), **common)


def _pool_of(path: str) -> str:
    return "vg0" if path.startswith("/dev/vg0/") else "default"


def _clone_source(given: Mapping[str, Any]) -> CloneSource:
    """state: null: there is no such domain. images: path -> MiB, or the reason why it cannot be copied."""
    here = not given.get("remote", False)
    if given.get("state") is None:
        return CloneSource(here=here)
    state = given["state"]
    status = DomainStatus("shutoff" if state == "saved" else state, True, managed_save=state == "saved")
    images = {
        path: ImageSeen(said=about) if isinstance(about, str) else ImageSeen(allocated=about * MIB)
        for path, about in given.get("images", {}).items()
    }
    return CloneSource(
        here=here,
        status=status,
        config=domain_of(dict({"name": "gold"}, **given.get("config", {}))),
        odd=tuple(given.get("odd", ())),
        images=images,
        taken=tuple(given.get("taken", ())),
        free={folder: size * MIB for folder, size in given.get("free", {}).items()},
        nvram=given.get("nvram", False),
    )


def _source_images(given: Mapping[str, Any]) -> Dict[str, SourceImage]:
    images = {}
    for path, about in given.items():
        values = dict(about, size=about.get("size_mib", 0) * MIB, refers=tuple(about.get("refers", ())))
        values.pop("size_mib", None)
        images[path] = SourceImage(WantedImage(path, "qcow2"), **values)
    return images


class _Paths(Dict[str, bool]):
    """Every path is known: those not listed do not exist."""

    def __init__(self, there: Any) -> None:
        super().__init__(dict.fromkeys(there, True))

    def __missing__(self, path: str) -> bool:
        return False
