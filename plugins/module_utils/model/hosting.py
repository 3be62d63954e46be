# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a guest asks of the host that runs it, and what a host can give to that guest.

Beside what model/domain.py and model/host.py say of every domain and host: the things that only a move asks for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import FrozenSet, Mapping, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.host import DomainOffer


@dataclass(frozen=True)
class Demands:
    """From the XML that moves: the running one, else the persistent one.

    watchdogs: models, of the form of the XML that is sent. hugepages: size in KiB -> pages that the memory takes; size 0 means the host's default size.
    secrets: UUIDs of libvirt secrets. listens: addresses other than loopback and any, that a display listens on.
    threads: per core, of the CPU's topology. mirrors: disk targets that a block job copies. host_tpm: it is passed through.
    shared_memory: names of memory that is shared with others on its host.
    cpu_features: name -> policy. invariant_tsc: the guest was promised that its clock counter never changes its pace.
    """

    watchdogs: Tuple[str, ...] = ()
    hugepages: Mapping[int, int] = field(default_factory=dict)
    secrets: Tuple[str, ...] = ()
    listens: Tuple[str, ...] = ()
    threads: int = 1
    mirrors: Tuple[str, ...] = ()
    host_tpm: bool = False
    shared_memory: Tuple[str, ...] = ()
    cpu_features: Mapping[str, str] = field(default_factory=dict)

    @property
    def invariant_tsc(self) -> bool:
        return self.cpu_features.get("invtsc") in ("require", "force")


@dataclass(frozen=True)
class Hosting:
    """What one host can give to the guest. None: it was not asked, or cannot tell.

    offer: for the guest's type, architecture and machine. cpu_lacks: libvirt's words on why this host cannot give the
    guest its CPU. mac_users: address -> names of other domains that have it. free_pages: size in KiB -> free hugepages.
    secrets: UUIDs of those that libvirt keeps here. cards: names of the network cards. tsc_hz: pace of the CPU's clock
    counter. locks: virtlockd runs here (source), or would when a guest needs it (destination).
    """

    offer: Optional[DomainOffer] = None
    cpu_lacks: Optional[str] = None
    mac_users: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)
    free_pages: Optional[Mapping[int, int]] = None
    secrets: Optional[FrozenSet[str]] = None
    cards: Optional[FrozenSet[str]] = None
    tsc_hz: Optional[int] = None
    locks: Optional[bool] = None
