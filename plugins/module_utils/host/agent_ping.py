# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ask the guest agent at a steady beat, through libvirt, on whichever host has the guest."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Iterator, Optional, Sequence

from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor, agent_command, libvirt
from ansible_collections.kvmops.fleet.plugins.module_utils.host.probing import Seen
from ansible_collections.kvmops.fleet.plugins.module_utils.model.probe import Probe

_PING = '{"execute": "guest-ping"}'


class Pinging:
    """One ping at a time: libvirt queues a second one behind the first. While one has no answer, the beats it covers are lost too."""

    def __init__(self, sides: Sequence[Hypervisor], name: str, probe: Probe) -> None:
        self.seen = Seen()
        self._sides, self._name, self._probe = list(sides), name, probe
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """A daemon that hangs holds the thread and not us."""
        self._ended.set()
        self._thread.join(len(self._sides) * self._probe.timeout_ms / 1000.0 + 1)

    def _beat(self) -> None:
        interval, due = self._probe.interval_ms / 1000.0, time.monotonic()
        while not self._ended.wait(max(due - time.monotonic(), 0)):
            sent = time.monotonic()
            why = self._ping()
            took = time.monotonic() - sent
            self.seen.add(sent, None if why else took, why)
            due += interval
            while due < sent + took:
                if why:
                    self.seen.add(due, None, why)
                due += interval

    def _ping(self) -> Optional[str]:
        """None when it answered, else why not. The side that answered last is asked first."""
        why = ""
        for hv in list(self._sides):
            try:
                dom = hv.conn.lookupByName(self._name)
                if dom.isActive():
                    agent_command(dom, _PING, max(self._probe.timeout_ms // 1000, 1))
                    self._sides.sort(key=lambda side: side is not hv)
                    return None
            except libvirt.libvirtError as error:
                why = error.get_error_message() or str(error)
        return why or "it runs on neither host"


@contextlib.contextmanager
def pinging(sides: Sequence[Hypervisor], name: str, probe: Probe) -> Iterator[Pinging]:
    """Ping for as long as the block lasts."""
    one = Pinging(sides, name, probe)
    try:
        yield one
    finally:
        one.finish()
