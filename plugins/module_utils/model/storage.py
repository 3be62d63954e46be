# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Storage pools and the volumes in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple


@dataclass(frozen=True)
class Pool:
    """path: the target directory or device; None for pools without one (rbd …). Sizes are 0 while it is inactive."""

    name: str
    uuid: str
    type: str
    path: Optional[str]
    active: bool
    autostart: bool
    capacity_mib: int = 0
    available_mib: int = 0


@dataclass(frozen=True)
class Volume:
    """path: what a domain's disk names. format: qcow2, raw, …; None when libvirt does not say (block pools).

    capacity_bytes: what the guest sees. allocation_bytes: what the host spends.
    backing: path of the image below, when there is one.
    """

    pool: str
    name: str
    path: str
    format: Optional[str]
    capacity_bytes: int
    allocation_bytes: int
    backing: Optional[str] = None
    backing_format: Optional[str] = None


@dataclass(frozen=True)
class NewVolume:
    """A volume to be created. backing_format is always given with backing: a format is never probed.

    owner: user and group, as numbers; None leaves it to libvirt.
    """

    pool: str
    name: str
    format: str
    capacity_bytes: int
    backing: Optional[str] = None
    backing_format: Optional[str] = None
    owner: Optional[Tuple[int, int]] = None
