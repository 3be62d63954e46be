# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a question of the preflight is asked about, and what it answers."""

from __future__ import annotations

from typing import Callable, Iterable, NamedTuple, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import COPY, LIVE, DiskMove, End, Found, Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import Schedule


class Case(NamedTuple):
    """One move. domain: the configuration that moves. mode: live or offline. moves: what is planned for its disks.

    wish.tls is decided. schedule: of a live move.
    """

    wish: Wish
    found: Found
    domain: Domain
    mode: str
    moves: Tuple[DiskMove, ...]
    schedule: Optional[Schedule] = None

    @property
    def source(self) -> End:
        return self.found.source

    @property
    def dest(self) -> End:
        return self.found.dest

    @property
    def live(self) -> bool:
        return self.mode == LIVE

    @property
    def copies(self) -> Tuple[DiskMove, ...]:
        return tuple(move for move in self.moves if move.way == COPY)


Answers = Iterable[Concern]
Question = Callable[[Case], Answers]
