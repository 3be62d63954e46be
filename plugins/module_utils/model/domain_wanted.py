# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a task says about a domain. `None` means it says nothing: what is there is left alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.cloud_init import WantedSeed
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Boot, Cpu
from ansible_collections.kvmops.fleet.plugins.module_utils.model.source_image import WantedImage

PRESENT = "present"
RUNNING = "running"
SHUTDOWN = "shutdown"
DESTROYED = "destroyed"
PAUSED = "paused"
SAVED = "saved"
ABSENT = "absent"

STATES = (PRESENT, RUNNING, SHUTDOWN, DESTROYED, PAUSED, SAVED, ABSENT)


@dataclass(frozen=True)
class WantedBacking:
    """The image below a new one, by path or by name in the same pool; its format is always given, never probed."""

    format: str
    name: Optional[str] = None
    path: Optional[str] = None


@dataclass(frozen=True)
class WantedDisk:
    """A disk: a volume (pool, name), a path of the host, or a network source. All None: an empty drive.

    path: an empty string empties a drive. size_mib: the volume is created with it when it is not there, and grown to it.
    image: what it is then a copy of. optional: a guest starts without it where it is missing.
    """

    pool: Optional[str] = None
    name: Optional[str] = None
    path: Optional[str] = None
    source: Optional[str] = None
    format: Optional[str] = None
    size_mib: Optional[int] = None
    device: str = "disk"
    bus: Optional[str] = None
    target: Optional[str] = None
    readonly: Optional[bool] = None
    shareable: Optional[bool] = None
    cache: Optional[str] = None
    discard: Optional[str] = None
    serial: Optional[str] = None
    backing: Optional[WantedBacking] = None
    image: Optional[WantedImage] = None
    optional: bool = False


@dataclass(frozen=True)
class WantedNic:
    """kind: bridge or network. source: its name. link: up or down."""

    kind: str
    source: str
    mac: Optional[str] = None
    model: Optional[str] = None
    link: Optional[str] = None


@dataclass(frozen=True)
class Wanted:
    """One domain as the task describes it. disks and nics, when given, are the whole list.

    machine: an alias (`q35`) is satisfied by any version of that family. firmware: bios or efi.
    boot: an empty string removes, None leaves alone. metadata: an empty value removes the key.
    memory_mib, vcpus: what it has. max_memory_mib, max_vcpus: the most that it can have without a boot.
    apply_live: change a running guest at once where that is possible.
    domain_type: kvm, qemu; None chooses for a new domain and leaves an existing one alone.
    wait_timeout_s: for a shutdown as a whole; agent_timeout_s, acpi_timeout_s: for its ways.
    drops_seed: the domain is to have no cloud-init seed; without a seed and without this it is not managed.
    rename_from, clone_from: names of domains. clone_pool: where the copies of its disks go; None: beside them.
    xml: the whole definition instead of the options above it.
    """

    name: str
    state: str = PRESENT
    uuid: Optional[str] = None
    domain_type: Optional[str] = None
    memory_mib: Optional[int] = None
    max_memory_mib: Optional[int] = None
    vcpus: Optional[int] = None
    max_vcpus: Optional[int] = None
    cpu: Optional[Cpu] = None
    machine: Optional[str] = None
    firmware: Optional[str] = None
    boot: Optional[Boot] = None
    disks: Optional[Tuple[WantedDisk, ...]] = None
    nics: Optional[Tuple[WantedNic, ...]] = None
    graphics: Optional[str] = None
    tpm: Optional[str] = None
    serial_log: Optional[str] = None
    metadata: Optional[Mapping[str, str]] = None
    seed: Optional[WantedSeed] = None
    drops_seed: bool = False
    rename_from: Optional[str] = None
    clone_from: Optional[str] = None
    clone_pool: Optional[str] = None
    xml: Optional[str] = None
    autostart: Optional[bool] = None
    apply_live: bool = False
    force: bool = False
    wait_timeout_s: int = 120
    agent_timeout_s: Optional[int] = None
    acpi_timeout_s: Optional[int] = None
    remove_storage: bool = False

    @property
    def describes(self) -> bool:
        """Whether there is enough to make a new domain."""
        return self.xml is not None or (
            self.memory_mib is not None
            and (self.disks is not None or (self.boot is not None and bool(self.boot.kernel)))
        )
