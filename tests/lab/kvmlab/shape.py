"""What a lab consists of: pure values, nothing is touched here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from kvmlab.errors import LabError

RELEASES = ("bookworm", "trixie")
NETWORK = "10.77.0"
PREFIX = 24
MAX_HOSTS = 20
NAS = "nas"
NAS_RELEASE = "bookworm"


@dataclass(frozen=True)
class Host:
    """One host: its name, Debian release and address."""

    name: str
    release: str
    address: str

    @property
    def mac(self) -> str:
        """Address of its bridge, derived from the IP address."""
        return f"02:4b:56:00:00:{int(self.address.rpartition('.')[2]):02x}"


@dataclass(frozen=True)
class Shape:
    """The hosts of a lab, in order; `link` is a rate as tc writes it, or empty for no limit."""

    hosts: tuple[Host, ...]
    nas: Host | None = None
    link: str = field(default="", compare=False)

    @property
    def all_hosts(self) -> tuple[Host, ...]:
        """Hypervisors and, when there is one, the storage host."""
        return (*self.hosts, self.nas) if self.nas else self.hosts

    def within(self, others: Sequence[Host]) -> bool:
        """Whether `others` begin with these hosts, so that what was made for them serves us too."""
        return tuple(others[: len(self.hosts)]) == self.hosts


def plan_shape(count: int, releases: str, shared_storage: str = "", link: str = "") -> Shape:
    """`count` hosts kvm1, kvm2 …; the releases are repeated when fewer than hosts are named."""
    if not 0 <= count <= MAX_HOSTS:
        raise LabError(f"--hosts {count}: between 0 and {MAX_HOSTS} hosts")
    names = [name.strip() for name in releases.split(",") if name.strip()]
    if not count:
        return Shape((), _nas(shared_storage), check_rate(link) if link else "")
    unknown = [name for name in names if name not in RELEASES]
    if unknown or not names:
        raise LabError(
            f"--os {releases!r}: unknown release {', '.join(unknown) or '(none)'}", f"known: {', '.join(RELEASES)}"
        )
    if len(names) > count:
        raise LabError(f"--os names {len(names)} releases for {count} hosts", "give --hosts as many, or fewer releases")
    hosts = tuple(Host(f"kvm{i + 1}", names[i % len(names)], f"{NETWORK}.{11 + i}") for i in range(count))
    return Shape(hosts, _nas(shared_storage), check_rate(link) if link else "")


def _nas(shared_storage: str) -> Host | None:
    return Host(NAS, NAS_RELEASE, f"{NETWORK}.10") if shared_storage == "nfs" else None


def check_name(name: str) -> str:
    """A lab's name, fit for directories, namespaces and control sockets."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,23}", name):
        raise LabError(f"--name {name!r}: lower-case letters, digits and '-', at most 24, a letter first")
    return name


def check_rate(rate: str) -> str:
    """A rate that tc understands, such as 200mbit."""
    if not re.fullmatch(r"[1-9][0-9]*(kbit|mbit|gbit)", rate):
        raise LabError(f"rate {rate!r}: a whole number and kbit, mbit or gbit, for example 200mbit")
    return rate
