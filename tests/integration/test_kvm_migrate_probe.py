# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The probe of kvm_migrate against observers that share no code with it."""

from __future__ import annotations

import itertools
from typing import Any, Dict, List, Set, Tuple

import pytest

from .fleet import Lab, answers, guest, until
from .wire import client, echoes

HOSTS = ("kvm1", "kvm2", "kvm3")
ADDRESS = "10.77.0.101"
# Both observers note an answer when their process gets to run: on two processors that emulate guests, some milliseconds late.
SCHEDULING_MS = 60


def start_web1(lab: Lab, **more: Any) -> None:
    lab.one("kvm1", "kvm_domain", **guest("web1", 101, **more))
    until(lambda: answers(lab, 101), 60, "web1 answers")


def longest_gap(moments: List[float]) -> float:
    return max(b - a for a, b in itertools.pairwise(moments))


def moved(lab: Lab, **probe: Any) -> Dict[str, Any]:
    # Not slowed down: QEMU 7.2 without KVM may lose what a guest writes during many rounds, and the guest then answers nobody.
    told = lab.one("kvm1", "kvm_migrate", name="web1", host="kvm2", tls=False, probe=probe)
    assert told["changed"] and lab.owners("web1", HOSTS) == ["kvm2"]
    return told


def ids_of(told: Dict[str, Any]) -> Set[str]:
    return {concern["id"] for concern in told["concerns"]}


def total(told: Dict[str, Any], figure: str) -> int:
    return sum(told["metrics"]["impact"][window][figure] for window in ("before", "during", "after"))


def matched(seen: List[Any]) -> Tuple[List[int], int, List[float]]:
    """(the numbers of the requests, how many were answered, moments of the answers and of the last request) as the wire had
    them. A guest that answers no more has a gap up to the last request."""
    asked, answered, missed = seen
    assert missed == 0, "the observer itself was too slow"
    numbers = {number for number, dummy in asked}
    return (
        sorted(numbers),
        len({number for number, dummy in answered} & numbers),
        sorted([*(at for dummy, at in answered), max(at for dummy, at in asked)]),
    )


def check_icmp(told: Dict[str, Any], wire: List[Any]) -> None:
    """What the result says of the requests is what went over the bridge of the host that asked."""
    metrics = told["metrics"]
    numbers, answered, moments = matched(wire)
    # They are counted up from 1 in the lower half of the number.
    lacking = set(range(1, total(told, "sent") + 1)) - {number & 0xFFFF for number in numbers}
    assert total(told, "sent") == len(numbers) > 100, lacking
    assert abs(total(told, "received") - answered) <= 1, (total(told, "received"), answered)
    assert metrics["downtime_seen_ms"] == pytest.approx(longest_gap(moments) - 20, abs=SCHEDULING_MS)
    assert metrics["impact"]["lost"] == pytest.approx(len(numbers) - answered, abs=1)
    # libvirt's own figure begins when the guest is stopped and ends when it is told to go on.
    assert metrics["downtime_seen_ms"] >= metrics["downtime_ms"] - 2 * 20 - SCHEDULING_MS
    assert metrics["impact"]["before"]["lost"] == 0 and "probe-failed" not in ids_of(told)


@pytest.mark.parametrize(("sender", "host"), [("source", "kvm1"), ("destination", "kvm2")])
def test_icmp_tells_what_went_over_the_wire(clean: Lab, sender: str, host: str) -> None:
    start_web1(clean)
    with echoes(clean, host, ADDRESS) as wire:
        told = moved(clean, type="icmp", address=ADDRESS, interval_ms=20, **{"from": sender})
    check_icmp(told, wire)


def test_tcp_from_the_destination_is_on_one_clock(clean: Lab) -> None:
    """By the key of the mesh, through the gate that the role host_base installed."""
    start_web1(clean)
    told = moved(clean, type="tcp", address=ADDRESS, port=80, **{"from": "destination"})
    impact = told["metrics"]["impact"]
    assert not {"probe-failed", "probe-silent"} & ids_of(told), told["concerns"]
    assert impact["before"]["lost"] == 0
    # Two seconds before the move at 50 requests a second: a clock that is off would put them elsewhere.
    assert 60 <= impact["before"]["sent"] <= 220 and impact["after"]["sent"] >= 20
    assert told["metrics"]["downtime_seen_ms"] >= told["metrics"]["downtime_ms"] - 2 * 20 - SCHEDULING_MS


def test_a_peer_asks_nobody_but_guests(clean: Lab) -> None:
    """The destination itself is not for its peer's probes; the move goes on without."""
    start_web1(clean)
    told = moved(clean, type="tcp", address="127.0.0.1", port=22, **{"from": "destination"})
    refused = [concern for concern in told["concerns"] if concern["id"].startswith("probe")]
    assert [concern["id"] for concern in refused] == ["probe-failed"]
    assert "not the address of a guest" in refused[0]["detail"] and told["metrics"]["impact"] is None


def test_http_tells_what_another_client_sees(clean: Lab) -> None:
    """By the playbook, which shows the summary and leaves it as a statistic."""
    start_web1(clean)
    words = ["migrate_name=web1", "migrate_from=kvm1", "migrate_to=kvm2"]
    words += ["migrate_probe_type=http", "migrate_probe_url=http://%s/" % ADDRESS, "migrate_probe_expect=200"]
    with client(clean, "http://%s/" % ADDRESS) as elsewhere:
        told = clean.playbook("kvmops.fleet.migrate", "-e", " ".join(words))
    (move,) = told["global_custom_stats"]["kvmops_migrate"]["moves"]
    seen = move["metrics"]["downtime_seen_ms"]
    # Each of the two sees the pause to within one interval of its own (50 and 20 ms).
    assert seen == pytest.approx(longest_gap(elsewhere) - 20, abs=50 + 20 + SCHEDULING_MS)
    assert "clients were without an answer for %d ms" % seen in move["summary"][0]
    assert move["metrics"]["impact"]["before"]["received"] >= 30


def test_a_guest_that_does_not_answer_gives_a_warning_and_no_number(clean: Lab) -> None:
    start_web1(clean)
    for number, probe in enumerate(
        ({"type": "tcp", "address": ADDRESS, "port": 81}, {"type": "agent"}, {"type": "icmp", "address": "10.77.0.199"})
    ):
        here, there = ("kvm1", "kvm2") if number % 2 == 0 else ("kvm2", "kvm1")
        args = {"name": "web1", "host": there, "probe": dict(probe, before_s=1, after_s=1)}
        told = clean.one(here, "kvm_migrate", **args)
        of_the_probe = [concern["id"] for concern in told["concerns"] if concern["id"].startswith("probe")]
        assert told["changed"] and of_the_probe == ["probe-silent"]
        assert told["warnings"] and told["metrics"]["impact"] is None and told["metrics"]["downtime_seen_ms"] is None
        assert told["metrics"]["downtime_ms"] > 0
