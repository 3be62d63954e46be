# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a domain is: its configuration and its state, as libvirt shows them.

All sizes are MiB unless the name says otherwise. `None` means absent from the XML.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Optional, Tuple

METADATA_NS = "urn:kvmops:fleet:1"

RUNNING = "running"
PAUSED = "paused"
SHUTOFF = "shutoff"
CRASHED = "crashed"
SHUTTING_DOWN = "in_shutdown"
SUSPENDED = "pmsuspended"
NOSTATE = "nostate"

# libvirt: qemu_conf.c, nvramDir of the system daemon.
NVRAM_FOLDER = "/var/lib/libvirt/qemu/nvram"

# A definition that was kept when the guest left has this child of our metadata, and a disk with such a path, whose file
# is never there; see model/kept_xml.py.
MOVED_TO = "moved_to"
GUARD = "/var/lib/kvmops/%s-has-moved-to-%s"

# Reasons of a state that a migration made. During post-copy the guest runs on the destination, which fetches its memory
# from the paused half on the source; both halves bear the reason.
MIGRATION, POSTCOPY, POSTCOPY_FAILED = "migration", "postcopy", "postcopy-failed"

ACTIVE_STATES = frozenset([RUNNING, PAUSED, SHUTTING_DOWN, SUSPENDED, NOSTATE])


@dataclass(frozen=True)
class Disk:
    """A disk, CD-ROM or floppy.

    kind: file, block, network, volume, dir, nvme, vhostuser (the XML's `type`).
    source: a path; for network `protocol://host[:port]/name`; for volume `pool/volume`; for nvme
    `PCI address/namespace`; None = empty drive.
    optional: the guest starts without it, or arrives without it, where the file is missing.
    backing: sources below the first one, top down, when the XML names them. boot_order: 1 is tried first; None: not said.
    """

    target: str
    device: str = "disk"
    bus: Optional[str] = None
    kind: str = "file"
    source: Optional[str] = None
    format: Optional[str] = None
    readonly: bool = False
    shareable: bool = False
    cache: Optional[str] = None
    discard: Optional[str] = None
    serial: Optional[str] = None
    optional: bool = False
    backing: Tuple[str, ...] = ()
    boot_order: Optional[int] = None

    @property
    def writable_image(self) -> bool:
        return self.device in ("disk", "lun") and self.source is not None and not self.readonly


@dataclass(frozen=True)
class Nic:
    """kind: bridge, network, direct, user … source: the bridge, network or device name. link: up, down; None means up."""

    mac: Optional[str]
    kind: str
    source: Optional[str] = None
    model: Optional[str] = None
    portgroup: Optional[str] = None
    target: Optional[str] = None
    link: Optional[str] = None


@dataclass(frozen=True)
class Firmware:
    """kind: bios or efi. loader, nvram: paths. template: the variable store it was made from."""

    kind: str = "bios"
    loader: Optional[str] = None
    nvram: Optional[str] = None
    template: Optional[str] = None


@dataclass(frozen=True)
class Boot:
    """Direct kernel boot: paths on the host and the kernel's command line."""

    kernel: Optional[str] = None
    initrd: Optional[str] = None
    cmdline: Optional[str] = None


@dataclass(frozen=True)
class Cpu:
    """mode: host-passthrough, host-model, maximum, custom; model and features only for custom."""

    mode: Optional[str] = None
    model: Optional[str] = None
    features: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Domain:
    """The configuration of one domain.

    memory_mib, vcpus: the most it can have without a boot. current_memory_mib, current_vcpus: what it has, when that is said.
    """

    name: str
    uuid: str
    type: str
    memory_mib: int
    vcpus: int
    current_memory_mib: Optional[int] = None
    current_vcpus: Optional[int] = None
    arch: str = "x86_64"
    machine: Optional[str] = None
    emulator: Optional[str] = None
    firmware: Firmware = field(default_factory=Firmware)
    boot: Boot = field(default_factory=Boot)
    cpu: Cpu = field(default_factory=Cpu)
    disks: Tuple[Disk, ...] = ()
    nics: Tuple[Nic, ...] = ()
    graphics: Tuple[str, ...] = ()
    tpm: Optional[str] = None
    hostdevs: Tuple[str, ...] = ()
    filesystems: Tuple[str, ...] = ()
    hugepages: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    serial_log: Optional[str] = None

    @property
    def memory_now_mib(self) -> int:
        """What it has of the memory that it can have."""
        return self.memory_mib if self.current_memory_mib is None else self.current_memory_mib

    @property
    def vcpus_now(self) -> int:
        return self.vcpus if self.current_vcpus is None else self.current_vcpus

    @property
    def nvram(self) -> Optional[str]:
        """Path of the UEFI variables. libvirt chooses it, and writes it into the running configuration only."""
        if self.firmware.kind != "efi":
            return None
        return self.firmware.nvram or "%s/%s_VARS.fd" % (NVRAM_FOLDER, self.name)

    @property
    def images(self) -> Tuple[Disk, ...]:
        """The disks whose content is the guest's own data."""
        return tuple(disk for disk in self.disks if disk.writable_image)


@dataclass(frozen=True)
class DomainStatus:
    """What a domain is doing on one host.

    state: one of the words above. job: the name of a running libvirt job, or None. reason: of a state that a migration
    made: one of MIGRATION (paused), POSTCOPY and POSTCOPY_FAILED (paused or running); else None.
    """

    state: str
    persistent: bool
    autostart: bool = False
    managed_save: bool = False
    snapshots: int = 0
    checkpoints: int = 0
    job: Optional[str] = None
    id: Optional[int] = None
    reason: Optional[str] = None

    @property
    def active(self) -> bool:
        return self.state in ACTIVE_STATES

    @property
    def split(self) -> bool:
        """Whether this is one half of a guest in post-copy, under way or broken."""
        return self.reason in (POSTCOPY, POSTCOPY_FAILED)


def save_path(name: str) -> str:
    """Where libvirt keeps the saved memory of a guest that is off (libvirt: qemuDomainManagedSavePath)."""
    return "/var/lib/libvirt/qemu/save/%s.save" % name


def tpm_folder(uuid: str) -> str:
    """Where the state of an emulated TPM lies (libvirt: swtpmStorageDir)."""
    return "/var/lib/libvirt/swtpm/%s" % uuid


def moved_to(domain: Domain) -> Optional[str]:
    """The host to which the guest has gone, of a definition that was only kept and cannot start; None for any other."""
    host = domain.metadata.get(MOVED_TO)
    guarded = host and any(disk.source == GUARD % (domain.name, host) for disk in domain.disks)
    return host if guarded else None
