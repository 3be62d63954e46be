# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a migration is: the wish, the two ends as found, and what was measured."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Domain, DomainStatus
from ansible_collections.kvmops.fleet.plugins.module_utils.model.host import HostFacts
from ansible_collections.kvmops.fleet.plugins.module_utils.model.hosting import Demands, Hosting
from ansible_collections.kvmops.fleet.plugins.module_utils.model.image import ImageFacts
from ansible_collections.kvmops.fleet.plugins.module_utils.model.journal import Journal
from ansible_collections.kvmops.fleet.plugins.module_utils.model.prediction import Load
from ansible_collections.kvmops.fleet.plugins.module_utils.model.probe import Probe
from ansible_collections.kvmops.fleet.plugins.module_utils.model.progress import Progress
from ansible_collections.kvmops.fleet.plugins.module_utils.model.storage import Pool

MIB = 1024**2

LIVE = "live"
OFFLINE = "offline"
AUTO = "auto"

SHARED = "shared"
COPY = "copy"


@dataclass(frozen=True)
class Wish:
    """What the task says. None: not said.

    host: how messages and the default URIs call the destination. mode: auto, live, offline.
    storage: auto, shared, copy. timeout_s: of the live phase; on_timeout: abort or pause.
    tls: memory and disks of a live move are encrypted; None: where both hosts have certificates. tls_destination: the name
    that the destination's certificate bears.
    network_map: network, bridge or card of the source -> its name on the destination. pool_map: pool or directory of the
    source -> pool of the destination that takes the disks copied from there.
    schedule: what replaces parts of the policy's. allow_postcopy: the consent. link_mib_s: what the link to the destination
    carries.
    """

    name: str
    host: str
    dest_uri: str
    migrate_uri: Optional[str] = None
    mode: str = AUTO
    storage: str = AUTO
    max_downtime_ms: Optional[int] = None
    bandwidth_mib_s: Optional[int] = None
    timeout_s: Optional[int] = None
    on_timeout: str = "abort"
    tls: Optional[bool] = None
    tls_destination: Optional[str] = None
    keep_source: str = "nothing"
    snapshots: str = "refuse"
    probe: Optional[Probe] = None
    network_map: Mapping[str, str] = field(default_factory=dict)
    pool_map: Mapping[str, str] = field(default_factory=dict)
    policy: str = "balanced"
    schedule: Optional[Mapping[str, Any]] = None
    allow_postcopy: bool = False
    link_mib_s: Optional[float] = None


@dataclass(frozen=True)
class End:
    """One side as it was found.

    domain, status: of the domain with the wished name; None when there is none. active_domain: the running
    configuration, whose disks may differ from `domain` (the persistent one); None when it is off.
    same_uuid_name: the name under which this side knows the UUID of the domain to move, if any.
    networks: names of active ones. bridges: names; None when this libvirt cannot tell.
    images: what is at the paths that the domain names, or will have there. hosting: what this host can give to the guest.
    disk_users: path -> names of other domains here that use it. certificates: file of QEMU's TLS for migration -> whether
    it is there; None when it was not asked, or when the hosts keep them elsewhere. userfaultfd: QEMU may use it, which post-copy
    needs on the destination; None when it was not asked.
    """

    side: str
    facts: HostFacts
    domain: Optional[Domain] = None
    status: Optional[DomainStatus] = None
    active_domain: Optional[Domain] = None
    same_uuid_name: Optional[str] = None
    pools: Tuple[Pool, ...] = ()
    networks: FrozenSet[str] = frozenset()
    bridges: Optional[FrozenSet[str]] = None
    images: Mapping[str, ImageFacts] = field(default_factory=dict)
    disk_users: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)
    certificates: Optional[Mapping[str, bool]] = None
    userfaultfd: Optional[bool] = None
    hosting: Hosting = field(default_factory=Hosting)

    @property
    def effective(self) -> Optional[Domain]:
        """What moves: the running configuration, or the persistent one when the domain is off."""
        return self.active_domain or self.domain

    def pool_of(self, path: str) -> Optional[str]:
        """The name of the active directory pool that the file is or would be in."""
        folder = posixpath.dirname(path)
        for pool in self.pools:
            if pool.active and pool.path and posixpath.normpath(pool.path) == posixpath.normpath(folder):
                return pool.name
        return None


@dataclass(frozen=True)
class Found:
    """Both ends. sizes: disk target -> virtual size in bytes, as the source's hypervisor gives it.

    leaving, arriving: the notes of earlier moves of the guest, on the source and on the destination (model/journal.py).
    snapshots: names, parents first. external_snapshots: those of them that are not inside the images.
    busy: another run is moving the guest now, so that nothing of it is left behind.
    demands: of the guest that moves. block_jobs: disk target -> kind of the job that works on it.
    reached_at: addresses that the source finds for the host of migrate_uri; None when it was not asked.
    load: of the guest, measured.
    """

    source: End
    dest: End
    sizes: Mapping[str, int] = field(default_factory=dict)
    leaving: Optional[Journal] = None
    arriving: Optional[Journal] = None
    snapshots: Tuple[str, ...] = ()
    external_snapshots: Tuple[str, ...] = ()
    busy: bool = False
    demands: Demands = field(default_factory=Demands)
    block_jobs: Mapping[str, str] = field(default_factory=dict)
    reached_at: Optional[Tuple[str, ...]] = None
    load: Load = field(default_factory=Load)


@dataclass(frozen=True)
class DiskMove:
    """What happens to one disk.

    way: shared (both hosts see it), copy. exists: an image of that name is already there. dest_path: where it is on the
    destination, when that is another path.
    """

    target: str
    path: str
    way: str
    format: Optional[str] = None
    size: int = 0
    allocated: int = 0
    exists: bool = False
    dest_path: Optional[str] = None

    @property
    def arrives_at(self) -> str:
        return self.dest_path or self.path

    def as_dict(self) -> Dict[str, Any]:
        return {
            "target": self.target,
            "source": self.path,
            "destination": self.arrives_at,
            "storage": self.way,
            "format": self.format,
            "size_mib": self.size // MIB,
            "allocated_mib": self.allocated // MIB,
        }


@dataclass(frozen=True)
class Sample:
    """The job at one moment. at_ms: since the start. phase: setup, disk, memory. Remaining and processed: MiB. Rates: MiB/s.

    memory_processed_mib: on the wire; memory_normal_mib: pages with content, before compression; memory_empty_mib: pages
    without, which go as a mark each. dirty_mib_s: as QEMU sees it from round to round. throttle_percent: how much
    auto-converge slows the guest down now.
    """

    at_ms: int
    phase: str
    memory_processed_mib: float = 0.0
    memory_remaining_mib: float = 0.0
    memory_rate_mib_s: float = 0.0
    disk_processed_mib: float = 0.0
    disk_remaining_mib: float = 0.0
    disk_rate_mib_s: float = 0.0
    iteration: int = 0
    memory_normal_mib: float = 0.0
    dirty_mib_s: float = 0.0
    throttle_percent: int = 0
    memory_empty_mib: float = 0.0

    @property
    def sent_mib(self) -> float:
        """Pages of the guest's memory that went over, before compression."""
        return self.memory_normal_mib or self.memory_processed_mib

    @property
    def passed_mib(self) -> float:
        """Pages that need no more sending, unless the guest writes to them."""
        return self.sent_mib + self.memory_empty_mib

    def as_dict(self) -> Dict[str, Any]:
        return dict(self.__dict__)

    def progress(self, subject: str) -> Progress:
        """The same for a person who waits: disks while there are any to copy, then memory."""
        disk = self.phase == "disk"
        return Progress(
            subject=subject,
            phase=self.phase,
            done_mib=self.disk_processed_mib if disk else self.memory_processed_mib,
            remaining_mib=self.disk_remaining_mib if disk else self.memory_remaining_mib,
            rate_mib_s=self.disk_rate_mib_s if disk else self.memory_rate_mib_s,
            elapsed_s=self.at_ms / 1000.0,
        )


@dataclass(frozen=True)
class Metrics:
    """What a finished move cost. Field by field from libvirt's completed job statistics where it has them.

    total_ms: libvirt's time_elapsed for a live move, our own clock for an offline one. wall_ms: our own clock around
    the whole step. downtime_ms: libvirt's `downtime`; for an offline move None, since the guest was off before.
    downtime_net_ms: the same without the control messages between the hosts. memory_bytes: transferred.
    disk_bytes: what went through the copy; libvirt counts holes too. disk_data_bytes: what the images held.
    wire_bytes: what an offline move handed to ssh; resent_bytes: the part that an earlier move, cut short, had sent.
    throughput_mib_s: (memory_bytes + disk_data_bytes) over total_ms.
    """

    mode: str
    total_ms: int
    wall_ms: int
    downtime_ms: Optional[int] = None
    downtime_net_ms: Optional[int] = None
    setup_ms: Optional[int] = None
    memory_bytes: int = 0
    memory_total_bytes: int = 0
    disk_bytes: int = 0
    disk_data_bytes: int = 0
    iterations: Optional[int] = None
    wire_bytes: Optional[int] = None
    resent_bytes: Optional[int] = None

    @property
    def throughput_mib_s(self) -> float:
        return round((self.memory_bytes + self.disk_data_bytes) / MIB / max(self.total_ms / 1000.0, 0.001), 2)

    def as_dict(self) -> Dict[str, Any]:
        return dict(self.__dict__, throughput_mib_s=self.throughput_mib_s)


def thin(samples: List[Sample], most: int = 240) -> Tuple[Sample, ...]:
    """At most `most` samples, evenly chosen, the last one always kept."""
    if len(samples) <= most:
        return tuple(samples)
    stride = len(samples) / float(most - 1)
    chosen = [samples[int(index * stride)] for index in range(most - 1)]
    return tuple(chosen) + (samples[-1],)
