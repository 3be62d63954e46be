# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a run of kvm_p2v_image works: the pool's folder, the run's own folder, whom it tells how far it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Mapping, Sequence

from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_image import Paths
from ansible_collections.kvmops.fleet.plugins.module_utils.model.progress import Progress


@dataclass(frozen=True)
class World:
    """name, format: of the images. folder: of the pool. nbd: beginning of the paths of the images' sockets.

    users: path of an image -> domains that have it as a disk.
    """

    name: str
    format: str
    folder: str
    nbd: str
    tell: Callable[[Progress], None]
    users: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def paths(self, disk: str) -> Paths:
        return Paths(self.folder, self.name, disk, self.format)
