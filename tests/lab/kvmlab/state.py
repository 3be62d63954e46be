"""What a lab that is up remembers about itself."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kvmlab.errors import LabError
from kvmlab.images import Images
from kvmlab.machine_shape import Image, Machine
from kvmlab.paths import REPOSITORY, LabPaths
from kvmlab.run import Process
from kvmlab.shape import Host, Shape


@dataclass
class Volume:
    """A small filesystem of its own inside a host."""

    mountpoint: str
    image: str
    device: str
    can_break: bool = False


@dataclass(frozen=True)
class Fault:
    """Something that was broken on purpose; `detail` is what its undoing needs, `text` is for people."""

    kind: str
    host: str
    detail: str
    text: str = field(default="", compare=False)


@dataclass
class HostRecord:
    """A host that was started: nspawn and the host's init, as the outer machine numbers them."""

    nspawn: Process | None = None
    init: Process | None = None
    link: str = ""
    volumes: list[Volume] = field(default_factory=list)

    @property
    def running(self) -> bool:
        """Whether the host is powered on."""
        return bool(self.init and self.init.alive())


@dataclass
class MachineRecord:
    """A machine that was created: its QEMU, the directory of its first disk, and what it may read by mount tag."""

    machine: Machine
    base: str
    shares: dict[str, str]
    known_hosts: str = ""
    qemu: Process | None = None
    # Not in the inventory while it is stopped; one that lost its power stays there, as a host does.
    listed: bool = False

    @property
    def running(self) -> bool:
        """Whether the machine is powered on."""
        return bool(self.qemu and self.qemu.alive())


@dataclass
class LabRecord:
    """Shape, origin and processes of a lab."""

    name: str
    shape: Shape
    bare: bool
    owner: str = str(REPOSITORY)
    lowers: dict[str, list[str]] = field(default_factory=dict)
    binds: dict[str, dict[str, str]] = field(default_factory=dict)
    hosts: dict[str, HostRecord] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    machines: dict[str, MachineRecord] = field(default_factory=dict)

    @property
    def paths(self) -> LabPaths:
        """Files of this lab."""
        return LabPaths(self.name)

    def save(self) -> None:
        """Write the record, so that `down` finds everything whatever happens next."""
        path = self.paths.record
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(asdict(self), indent=1))
        unfinished.rename(path)

    def host(self, name: str) -> Host:
        """The host of that name; LabError that lists those there are."""
        for host in self.shape.all_hosts:
            if host.name == name:
                return host
        names = " ".join(host.name for host in self.shape.all_hosts)
        raise LabError(f"lab {self.name!r} has no host {name!r}", f"its hosts: {names}")

    def running(self, name: str) -> Process:
        """The init process of a powered-on host."""
        record = self.hosts.get(self.host(name).name)
        if not record or not record.init or not record.running:
            raise LabError(f"host {name} is powered off", f"tests/lab/lab fault power-on {name}{self.flag}")
        return record.init

    def machine(self, name: str) -> MachineRecord:
        """The machine of that name; LabError that lists those there are."""
        if name not in self.machines:
            raise LabError(
                f"lab {self.name!r} has no machine {name!r}", f"its machines: {' '.join(self.machines) or 'none'}"
            )
        return self.machines[name]

    def on_switch(self, name: str) -> Host:
        """The host or machine of that name."""
        return self.machines[name].machine.host if name in self.machines else self.host(name)

    @property
    def flag(self) -> str:
        """What to add to a command to mean this lab."""
        return "" if self.paths == LabPaths("lab") else f" --name {self.name}"


def describe(name: str, shape: Shape, images: Images, *, bare: bool) -> LabRecord:
    """A lab that is to be started: every host stands on the bare root filesystem of its release."""
    lab = LabRecord(name, shape, bare)
    for host in shape.all_hosts:
        lab.lowers[host.name] = [str(images.roots[host.release])]
        lab.binds[host.name] = {
            "/srv/lab/apt": str(images.repositories[host.release]),
            "/srv/lab/guest": str(images.guest),
        }
        lab.hosts[host.name] = HostRecord(link=shape.link)
    return lab


def load(name: str) -> LabRecord | None:
    """The record of the lab of that name, if there is one."""
    path = LabPaths(name).record
    if not path.exists():
        return None
    try:
        return _record(json.loads(path.read_text()))
    except (ValueError, KeyError, TypeError) as error:
        raise LabError(
            f"{path} cannot be read: {error}", f"tests/lab/lab down --name {name} removes what is left"
        ) from None


def require(name: str) -> LabRecord:
    """The record of a lab that must be up."""
    record = load(name)
    if record is None:
        raise LabError(f"there is no lab {name!r}", "tests/lab/lab up starts one; tests/lab/lab status lists them")
    return record


def all_names(base: Path) -> list[str]:
    """Names of the labs that have left anything behind."""
    return sorted(path.name for path in base.iterdir() if path.is_dir()) if base.is_dir() else []


def _record(raw: dict[str, Any]) -> LabRecord:
    shape = raw.pop("shape")
    nas = Host(**shape["nas"]) if shape["nas"] else None
    hosts = {name: _host_record(value) for name, value in raw.pop("hosts").items()}
    plan = Shape(tuple(Host(**host) for host in shape["hosts"]), nas, shape["link"])
    faults = [Fault(**fault) for fault in raw.pop("faults")]
    machines = {name: _machine_record(value) for name, value in raw.pop("machines", {}).items()}
    return LabRecord(shape=plan, hosts=hosts, faults=faults, machines=machines, **raw)


def _machine_record(raw: dict[str, Any]) -> MachineRecord:
    machine, qemu = raw.pop("machine"), raw.pop("qemu")
    image = machine.pop("image")
    image["packages"] = tuple(image["packages"])
    return MachineRecord(
        machine=Machine(image=Image(**image), **machine), qemu=Process(**qemu) if qemu else None, **raw
    )


def _host_record(raw: dict[str, Any]) -> HostRecord:
    return HostRecord(
        nspawn=Process(**raw["nspawn"]) if raw["nspawn"] else None,
        init=Process(**raw["init"]) if raw["init"] else None,
        link=raw["link"],
        volumes=[Volume(**volume) for volume in raw["volumes"]],
    )
