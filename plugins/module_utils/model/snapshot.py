# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a snapshot of a domain is, and what may be wanted of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Domain, DomainStatus

PRESENT, ABSENT, REVERTED = "present", "absent", "reverted"
STATES = (PRESENT, ABSENT, REVERTED)
AUTO, INTERNAL, EXTERNAL = "auto", "internal", "external"
KINDS = (AUTO, INTERNAL, EXTERNAL)


@dataclass(frozen=True)
class Snapshot:
    """A record of libvirt.

    kind: internal (the data is inside the images) or external (the guest writes to new files since).  created: seconds since
    1970.  state: what the domain was, in libvirt's words (running, paused, shutoff, disk-snapshot).  memory: whether its
    memory is part of it.  disks: targets that are part of it.  current: the one that the guest builds on.
    """

    name: str
    kind: str
    created: int
    state: str
    parent: Optional[str] = None
    description: Optional[str] = None
    memory: bool = False
    disks: Tuple[str, ...] = ()
    current: bool = False

    def as_dict(self) -> Dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "created": self.created,
            "state": self.state,
            "parent": self.parent,
            "description": self.description,
            "memory": self.memory,
            "disks": list(self.disks),
            "current": self.current,
        }


@dataclass(frozen=True)
class SnapshotWish:
    """keep, keep_names: after this one is made, of those whose name fits the shell pattern only the newest `keep` stay."""

    domain: str
    snapshot: str
    state: str = PRESENT
    kind: str = AUTO
    quiesce: bool = False
    description: Optional[str] = None
    keep: Optional[int] = None
    keep_names: Optional[str] = None


@dataclass(frozen=True)
class SnapshotFound:
    """domain: the running configuration of a running domain, else the next boot's; None when there is no such domain.
    snapshots: parents first.  agent: whether the guest agent answers.  libvirt: its version as libvirt encodes it."""

    domain: Optional[Domain]
    status: Optional[DomainStatus]
    snapshots: Tuple[Snapshot, ...]
    agent: bool
    libvirt: int

    def named(self, name: str) -> Optional[Snapshot]:
        for each in self.snapshots:
            if each.name == name:
                return each
        return None
