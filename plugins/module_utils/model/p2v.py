# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A physical machine that becomes a virtual one: its disks, what is used of them, what is wanted, how the copy goes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_import import ImportDisk, ImportSeen
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_ranges import Range, total
from ansible_collections.kvmops.fleet.plugins.module_utils.model.probe import Probe
from ansible_collections.kvmops.fleet.plugins.module_utils.model.progress import FOLDER

NONE, FREEZE, STOP, POWEROFF = "none", "freeze", "stop", "poweroff"
CUTOVERS = (NONE, FREEZE, STOP, POWEROFF)
# Of images that were imported and handed to a guest: there was no machine to leave.
GONE = "gone"
# How far the start of an agent came: not to the source, or there and not to the receiver.
START, DIAL = "start", "dial"


def run_id(key: str) -> str:
    """Letters and digits. Both ends make it of the run's public key."""
    return hashlib.sha256(key.encode("utf-8")).hexdigest()[:16]


def folder_of(name: str, parent: str = FOLDER) -> str:
    """Where a run keeps what lives as long as it does. A socket's path has at most 107 bytes."""
    raw = name.encode("utf-8")
    return "%s/p2v-%s" % (parent, name if len(raw) <= 48 else hashlib.sha256(raw).hexdigest()[:32])


def failed_in(folder: str, run: str) -> str:
    """Where whoever was to start the agent of that run says why it will not come. Of another run it is no news."""
    return "%s/failed-%s" % (folder, run)


@dataclass(frozen=True)
class SourceDisk:
    """name: the kernel's (sda). size, sector: bytes. serial, wwn, model: as the disk tells; None when it does not."""

    name: str
    size: int
    sector: int = 512
    serial: Optional[str] = None
    wwn: Optional[str] = None
    model: Optional[str] = None

    @property
    def identity(self) -> Dict[str, Any]:
        """What must be the same in a second run: another disk of the same kernel name is not this one."""
        return {"serial": self.serial, "wwn": self.wwn}


def imported_disk(seen: ImportSeen) -> SourceDisk:
    return SourceDisk(seen.wanted.disk, seen.size, seen.sector, seen.serial, seen.wwn, seen.model)


@dataclass(frozen=True)
class Area:
    """A stretch of a disk. what: "ext4 /". how: from what its used ranges are known, "all", or "skipped: REASON"."""

    what: str
    offset: int
    length: int
    used_bytes: int
    how: str


@dataclass(frozen=True)
class UsedMap:
    """used: what is to be copied of one disk. areas: where that comes from. rest_is_zero: the rest is not just anything."""

    used: Tuple[Range, ...]
    areas: Tuple[Area, ...] = ()
    rest_is_zero: bool = False

    @property
    def bytes(self) -> int:
        return total(self.used)


@dataclass(frozen=True)
class Source:
    """What the agent found. facts: its whole discovery, as it is returned to the user."""

    name: str
    boot_id: str
    disks: Tuple[SourceDisk, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def disk(self, name: str) -> Optional[SourceDisk]:
        return next((disk for disk in self.disks if disk.name == name), None)


@dataclass(frozen=True)
class Takeover:
    """command: started on the receiving host while the source stands still; its success says that the VM serves."""

    command: Tuple[str, ...]
    timeout_s: float


@dataclass(frozen=True)
class P2vWish:
    """name: of the images and of the run. disks: kernel names, or empty for all. serials: disk name -> what it must have.

    source: the machine's name in the inventory. cold: it was booted from rescue media, so its disks are at rest.
    imports: its disks as files or devices of this host, instead of a source.
    answer_timeout_s: so long the guest's first answer to the probe is awaited.
    """

    name: str
    pool: str
    format: str = "qcow2"
    disks: Tuple[str, ...] = ()
    serials: Mapping[str, str] = field(default_factory=dict)
    cutover: str = NONE
    max_downtime_s: float = 10.0
    max_passes: int = 20
    services: Tuple[str, ...] = ()
    takeover: Optional[Takeover] = None
    connections: int = 2
    bandwidth_mib_s: Optional[float] = None
    connect_timeout_s: float = 60.0
    key: Optional[str] = None
    gather_only: bool = False
    source: str = ""
    cold: bool = False
    imports: Tuple[ImportDisk, ...] = ()
    probe: Optional[Probe] = None
    answer_timeout_s: float = 300.0

    @property
    def run(self) -> str:
        """By which the agent's connections are known as this run's: its key, where there is one."""
        return run_id(self.key or self.name)


@dataclass(frozen=True)
class Pass:
    """One round over the disks. bytes: read on the source and checked here. seconds: copy and verification together.

    rest: bytes written on the source meanwhile, which the next round has to copy. wire: bytes that came over the link.
    verify_s: of the seconds, those in which the images were read back.
    """

    number: int
    what: str
    bytes: int
    wire: int
    seconds: float
    rest: int
    verify_s: float = 0.0

    @property
    def rate(self) -> float:
        """Bytes per second."""
        return self.bytes / self.seconds if self.seconds > 0 else 0.0

    def as_dict(self) -> Dict[str, Any]:
        return {
            "number": self.number,
            "what": self.what,
            "bytes": self.bytes,
            "wire_bytes": self.wire,
            "seconds": round(self.seconds, 3),
            "verify_s": round(self.verify_s, 3),
            "rest_bytes": self.rest,
        }


@dataclass(frozen=True)
class Target:
    """What is where the image of a disk shall be. path: of the image.

    exists: something bears its name. head: of the finished image's manifest; None when there is none. untouched: the file is
    as it was published. part_head: of an unfinished image's manifest. used_by: domains that have the image as a disk.
    """

    path: str
    exists: bool = False
    head: Optional[Mapping[str, Any]] = None
    untouched: bool = False
    part_head: Optional[Mapping[str, Any]] = None
    used_by: Tuple[str, ...] = ()


@dataclass(frozen=True)
class P2vFound:
    """disks: those of the request. maps, targets, differing: by disk name; differing is what the image does not hold yet.

    free: bytes in the pool. done: a finished image of this request is there, and the source has been left.
    """

    source: Optional[Source]
    disks: Tuple[SourceDisk, ...] = ()
    maps: Mapping[str, UsedMap] = field(default_factory=dict)
    targets: Mapping[str, Target] = field(default_factory=dict)
    differing: Mapping[str, Tuple[Range, ...]] = field(default_factory=dict)
    free: int = 0
    done: bool = False
