# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A domain that is to be copied, and what its copy will be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Domain, DomainStatus


@dataclass(frozen=True)
class ImageSeen:
    """An image of the source. allocated: bytes on its host. said: why it cannot be copied, empty when it can."""

    allocated: int = 0
    said: str = ""


@dataclass(frozen=True)
class CloneSource:
    """The domain to copy, as found; status and config None: there is none.

    here: whether the host's files are ours to read and write. odd: what of its definition belongs to it alone, in words.
    images: by path. taken: paths where something is already. free: bytes by folder. nvram: its variable store is there.
    """

    here: bool
    status: Optional[DomainStatus] = None
    config: Optional[Domain] = None
    odd: Tuple[str, ...] = ()
    images: Mapping[str, ImageSeen] = field(default_factory=dict)
    taken: Tuple[str, ...] = ()
    free: Mapping[str, int] = field(default_factory=dict)
    nvram: bool = False


@dataclass(frozen=True)
class DiskCopy:
    """source, path: absolute paths of image files. pool: that of the new one."""

    target: str
    source: str
    path: str
    format: str
    pool: str


@dataclass(frozen=True)
class Clone:
    """What the copy has of its own. macs: of its cards, in order. dropped: targets of drives that it does not get.

    nvram: path of its variable store, None when it has none. serial_log: None drops it.
    """

    source: str
    name: str
    disks: Tuple[DiskCopy, ...] = ()
    macs: Tuple[str, ...] = ()
    dropped: Tuple[str, ...] = ()
    uuid: Optional[str] = None
    nvram: Optional[str] = None
    serial_log: Optional[str] = None
