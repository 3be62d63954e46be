# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pinging the agent of a guest that changes its host; the two hosts are stand-ins, their agents answer or not on demand."""

from __future__ import annotations

import time
from typing import Any, Callable, List

import libvirt
import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import agent_ping
from ansible_collections.kvmops.fleet.plugins.module_utils.host.agent_ping import pinging
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor
from ansible_collections.kvmops.fleet.plugins.module_utils.model.probe import Probe, Shot

PROBE = Probe("agent", interval_ms=20, timeout_ms=1000)


class Side:
    """A connection and its one domain. has_guest: it runs here. slow_s: how long its agent takes to fail."""

    def __init__(self, has_guest: bool) -> None:
        self.has_guest, self.slow_s, self.asked = has_guest, 0.0, 0

    def lookupByName(self, name: str) -> Any:
        if not self.has_guest:
            raise libvirt.libvirtError("Domain not found")
        return self

    def isActive(self) -> bool:
        return True


@pytest.fixture(name="agent", autouse=True)
def fixture_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(dom: Side, command: str, timeout_s: int) -> str:
        dom.asked += 1
        if dom.slow_s:
            time.sleep(dom.slow_s)
            raise libvirt.libvirtError("Guest agent is not responding")
        return "{}"

    monkeypatch.setattr(agent_ping, "agent_command", answer)


def seen(here: Side, there: Side, then: Callable[[], None]) -> List[Shot]:
    began = time.monotonic()
    sides = [Hypervisor("a", "kvm1", here), Hypervisor("b", "kvm2", there)]
    with pinging(sides, "web1", PROBE) as one:
        until(lambda: len(one.seen.shots(began)) > 5)
        then()
        count = len(one.seen.shots(began))
        until(lambda: len(one.seen.shots(began)) > count + 5)
    return list(one.seen.shots(began))


def until(question: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not question():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_guest_is_followed_to_its_new_host() -> None:
    here, there = Side(True), Side(False)

    def moves() -> None:
        there.has_guest, here.has_guest = True, False

    shots = seen(here, there, moves)
    assert here.asked > 5 and there.asked > 3 and sum(shot.took_ms is None for shot in shots) <= 1


def test_beats_that_a_silent_agent_covers_are_lost_too() -> None:
    here = Side(True)

    def falls_silent() -> None:
        here.slow_s = 0.2

    shots = seen(here, Side(False), falls_silent)
    lost = [shot for shot in shots if shot.took_ms is None]
    assert len(lost) >= 6 and here.asked < len(shots), "it was asked once for several beats"
    assert [shot.at_ms for shot in shots] == sorted(shot.at_ms for shot in shots)
