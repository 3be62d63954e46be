# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When the guest stopped here and when it ran there, by the events of both hosts.

Of a post-copy move libvirt keeps no statistics that outlive it: the destination has none, and the source forgets the domain.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any, Callable, Iterator, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor, libvirt


class SwitchOver:
    """Moments by this process's clock, in seconds; an event from afar comes later by one way of the network."""

    def __init__(self) -> None:
        self._stopped: Optional[float] = None
        self._ran: Optional[float] = None

    def stopped_here(self) -> None:
        """The last stop counts: a guest may have been paused and resumed before."""
        if self._ran is None:
            self._stopped = time.monotonic()

    def ran_there(self) -> None:
        if self._ran is None and self._stopped is not None:
            self._ran = time.monotonic()

    @property
    def downtime_ms(self) -> Optional[int]:
        """None when one of the two was not seen."""
        return None if self._stopped is None or self._ran is None else int((self._ran - self._stopped) * 1000)


@contextlib.contextmanager
def seeing(source: Hypervisor, dest: Hypervisor, name: str) -> Iterator[SwitchOver]:
    """Listen on both sides while the block runs. What cannot be listened to is not seen."""
    seen = SwitchOver()

    def on_event(conn: Any, dom: Any, event: int, detail: int, awaited: Tuple[int, Callable[[], None]]) -> None:
        if dom.name() == name and event == awaited[0]:
            awaited[1]()

    listeners = []
    for hv, awaited in (
        (source, (libvirt.VIR_DOMAIN_EVENT_SUSPENDED, seen.stopped_here)),
        (dest, (libvirt.VIR_DOMAIN_EVENT_RESUMED, seen.ran_there)),
    ):
        with contextlib.suppress(libvirt.libvirtError):
            kind = libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE
            listeners.append((hv, hv.conn.domainEventRegisterAny(None, kind, on_event, awaited)))
    try:
        yield seen
    finally:
        for hv, number in listeners:
            with contextlib.suppress(libvirt.libvirtError):
                hv.conn.domainEventDeregisterAny(number)
