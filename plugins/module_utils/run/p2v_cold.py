# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One pass over disks that nobody uses, and the proof that nobody did."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_agent import Agent
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import (
    NONE,
    POWEROFF,
    P2vFound,
    P2vWish,
    Pass,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_ranges import Range
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_copy import Copier
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_rounds import powered_off

_AGAIN = "Run again: what came is kept, and what differs is copied."


class OnePass:
    """agent: its disks were told to rest at boot_id. passes: at most one."""

    def __init__(self, wish: P2vWish, found: P2vFound, agent: Agent, copier: Copier, boot_id: str) -> None:
        self.wish, self.agent, self.copier = wish, agent, copier
        self._boot_id = boot_id
        self._sizes = {disk.name: disk.size for disk in found.disks}
        self.passes: List[Pass] = []

    def go(
        self,
        wanted: Mapping[str, Sequence[Range]],
        publish: Callable[[], None],
        mark_left: Callable[[Optional[str]], None],
    ) -> None:
        """mark_left is called with the way of the cutover before the source is powered off. Raises HostError."""
        began = time.monotonic()
        moved = self.copier.copy({name: list(ranges) for name, ranges in wanted.items()})
        self._rested()
        self.passes.append(Pass(1, "copy", moved.bytes, moved.wire, time.monotonic() - began, 0, moved.verify_s))
        publish()
        if self.wish.cutover == NONE:
            return
        mark_left(self.wish.cutover)
        if self.wish.cutover != POWEROFF:
            return
        try:
            powered_off(self.agent, self._not_off, self._not_off)
        except HostError:
            mark_left(None)
            raise

    def _not_off(self, said: str) -> HostError:
        remedy = "The images are finished. Power it off by hand before the VM starts."
        return HostError("power it off", self.agent.side, said, remedy)

    def _rested(self) -> None:
        """Raises HostError when the disks are not what they were when the copy began."""
        told = self.agent.rested()
        attempted = "make images of %s" % self.wish.name
        if told.boot_id != self._boot_id:
            raise HostError(attempted, self.agent.side, "it was started anew meanwhile", _AGAIN)
        for name, size in self._sizes.items():
            now = told.sizes.get(name, size)
            if now != size:
                raise HostError(
                    attempted, self.agent.side, "%s has %d bytes now and had %d" % (name, now, size), _AGAIN
                )
            if told.written.get(name):
                said = "%d bytes were written to %s while it was copied" % (told.written[name], name)
                remedy = "Find what writes there: a mount, swap space, an array that is rebuilt. %s" % _AGAIN
                raise HostError(attempted, self.agent.side, said, remedy)

    def as_dict(self) -> Dict[str, Any]:
        power = "off" if self.wish.cutover == POWEROFF else "on"
        return {
            "passes": [each.as_dict() for each in self.passes],
            "prediction": None,
            "pause_s": None,
            "power": None if self.wish.imports else power,
            "cannot_freeze": [],
        }
