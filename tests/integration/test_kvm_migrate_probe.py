# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The probe of kvm_migrate against observers that share no code with it."""

from __future__ import annotations

import itertools
from typing import Any, Dict, List, Tuple

import pytest

from .fleet import Lab, answers, guest, until
from .wire import echoes

HOSTS = ("kvm1", "kvm2", "kvm3")
ADDRESS = "10.77.0.101"
# The kernel stamps a packet when it passes the bridge, the prober when its process gets to run. On two processors that
# emulate guests at the same time, that is some milliseconds later.
SCHEDULING_MS = 60


def start_web1(lab: Lab, **more: Any) -> None:
    lab.one("kvm1", "kvm_domain", **guest("web1", 101, **more))
    until(lambda: answers(lab, 101), 60, "web1 answers")


def moved(lab: Lab, **probe: Any) -> Dict[str, Any]:
    told = lab.one("kvm1", "kvm_migrate", name="web1", host="kvm2", bandwidth_mib_s=16, probe=probe)
    assert told["changed"] and lab.owners("web1", HOSTS) == ["kvm2"]
    return told


def longest_gap(moments: List[float]) -> float:
    return max(b - a for a, b in itertools.pairwise(moments))


def total(told: Dict[str, Any], figure: str) -> int:
    return sum(told["metrics"]["impact"][window][figure] for window in ("before", "during", "after"))


def matched(seen: List[Any]) -> Tuple[int, int, List[float]]:
    """(requests, answered ones, moments of the answers) as the wire had them."""
    asked, answered = seen
    numbers = {number for number, dummy in asked}
    return len(asked), len({number for number, dummy in answered} & numbers), sorted(at for dummy, at in answered)


def test_icmp_tells_what_went_over_the_wire(clean: Lab) -> None:
    start_web1(clean)
    with echoes(clean, "kvm1", ADDRESS) as wire:
        told = moved(clean, type="icmp", address=ADDRESS, interval_ms=20)
    metrics = told["metrics"]
    asked, answered, moments = matched(wire)
    assert total(told, "sent") == asked > 200
    assert abs(total(told, "received") - answered) <= 1, (total(told, "received"), answered)
    assert metrics["downtime_seen_ms"] == pytest.approx(longest_gap(moments) - 20, abs=SCHEDULING_MS)
    assert metrics["impact"]["lost"] == pytest.approx(asked - answered, abs=1)
    # libvirt's own figure begins when the guest is stopped and ends when it is told to go on.
    assert metrics["downtime_seen_ms"] >= metrics["downtime_ms"] - 2 * 20 - SCHEDULING_MS
    assert metrics["impact"]["before"]["lost"] == 0 and not told["concerns"]
