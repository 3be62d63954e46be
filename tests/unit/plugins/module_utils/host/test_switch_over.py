# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The downtime between the last stop here and the first run there."""

from __future__ import annotations

from typing import Any, Callable, List, Tuple

import pytest

libvirt = pytest.importorskip("libvirt", reason="libvirt's Python binding (python3-libvirt) is not here")

from ansible_collections.kvmops.fleet.plugins.module_utils.host import switch_over  # noqa: E402
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor  # noqa: E402

STOP, RUN = libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_RESUMED


class Daemon:
    """Keeps who listens."""

    def __init__(self, deaf: bool = False) -> None:
        self.listeners: List[Tuple[Callable[..., None], Any]] = []
        self._deaf = deaf

    def domainEventRegisterAny(self, dom: Any, kind: int, act: Callable[..., None], opaque: Any) -> int:
        if self._deaf:
            raise libvirt.libvirtError("no events here")
        self.listeners.append((act, opaque))
        return 3

    def domainEventDeregisterAny(self, number: int) -> None:
        self.listeners.clear()

    def tell(self, name: str, event: int) -> None:
        for act, opaque in self.listeners:
            act(self, Named(name), event, 0, opaque)


class Named:
    def __init__(self, name: str) -> None:
        self._name = name

    def name(self) -> str:
        return self._name


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([("here", STOP), ("there", RUN)], 1000),
        ([("here", STOP), ("here", RUN), ("here", STOP), ("there", RUN), ("there", RUN)], 1000),
        ([("there", RUN), ("here", STOP)], None),
        ([("here", STOP)], None),
        ([], None),
    ],
)
def test_downtime(events: Any, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(switch_over.time, "monotonic", lambda: next(clock))
    hosts = {"here": Daemon(), "there": Daemon()}
    with switch_over.seeing(Hypervisor("a", "a", hosts["here"]), Hypervisor("b", "b", hosts["there"]), "web1") as seen:
        for host, event in events:
            hosts[host].tell("web9", event)
            hosts[host].tell("web1", event)
    assert seen.downtime_ms == expected
    assert not hosts["here"].listeners and not hosts["there"].listeners


def test_a_daemon_without_events_is_no_reason_to_stop() -> None:
    ends = Hypervisor("a", "a", Daemon(deaf=True)), Hypervisor("b", "b", Daemon())
    with switch_over.seeing(*ends, "web1") as seen:
        pass
    assert seen.downtime_ms is None
