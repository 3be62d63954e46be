# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host is: capacity, capabilities, networks and versions, as its libvirt shows them.

All sizes are MiB.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Optional, Tuple


@dataclass(frozen=True)
class Emulator:
    """One QEMU binary and architecture.

    domain_types: what libvirt says it can run (`kvm`, `qemu`), best first.
    machines: every machine type the binary knows -> its canonical name (`q35` -> `pc-q35-7.2`).
    """

    arch: str
    path: str
    domain_types: Tuple[str, ...] = ()
    machines: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class HostNetwork:
    """A libvirt network. forward: nat, bridge, route …, or None for an isolated one."""

    name: str
    uuid: str
    active: bool
    autostart: bool
    persistent: bool
    bridge: Optional[str] = None
    forward: Optional[str] = None


@dataclass(frozen=True)
class DomainOffer:
    """What one (emulator, machine, domain type) offers, from libvirt's domain capabilities.

    cpu_models: model -> usable, for mode custom. firmwares: bios, efi.
    """

    domain_type: str
    arch: str
    machine: str
    emulator: str
    max_vcpus: Optional[int] = None
    firmwares: Tuple[str, ...] = ()
    cpu_modes: Tuple[str, ...] = ()
    cpu_models: Mapping[str, bool] = field(default_factory=dict)
    tpm_backends: Tuple[str, ...] = ()


@dataclass(frozen=True)
class HostFacts:
    """One hypervisor.

    memory_free_mib: what the kernel could hand out now (free + buffers + cache).
    memory_guests_mib: what running guests use now at most (their balloon).
    memory_guests_max_mib: what running guests may claim.
    cpu_xml: the <cpu> element of the host's capabilities, for CPU comparison on another host.
    libvirt_version, qemu_version: major * 1,000,000 + minor * 1,000 + release.
    """

    hostname: str
    host_uuid: str
    arch: str
    cpus: int
    memory_total_mib: int
    memory_free_mib: int
    memory_guests_mib: int
    memory_guests_max_mib: int
    cpu_model: Optional[str]
    cpu_xml: str
    emulators: Tuple[Emulator, ...]
    libvirt_version: int
    qemu_version: int
    iommu: bool = False

    def emulator(self, arch: Optional[str] = None) -> Optional[Emulator]:
        """The binary for `arch` (the host's own when not given)."""
        for candidate in self.emulators:
            if candidate.arch == (arch or self.arch):
                return candidate
        return None

    @property
    def machines(self) -> Mapping[str, str]:
        """Machine types of the host's own architecture -> canonical names."""
        own = self.emulator()
        return own.machines if own else {}

    @property
    def domain_types(self) -> Tuple[str, ...]:
        own = self.emulator()
        return own.domain_types if own else ()

    def canonical_machine(self, machine: str, arch: Optional[str] = None) -> Optional[str]:
        """`q35` -> `pc-q35-7.2`; None when this host does not know the machine type."""
        found = self.emulator(arch)
        return found.machines.get(machine) if found else None


def version_text(number: int) -> str:
    """9000000 -> "9.0.0"."""
    return "%d.%d.%d" % (number // 1000000, number // 1000 % 1000, number % 1000)
