# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The probe of kvm_migrate against observers that share no code with it."""

from __future__ import annotations

import itertools
from typing import Any, List

import pytest

from .fleet import Lab, answers, guest, until
from .wire import client

HOSTS = ("kvm1", "kvm2", "kvm3")
ADDRESS = "10.77.0.101"
# Both observers note an answer when their process gets to run: on two processors that emulate guests, some milliseconds late.
SCHEDULING_MS = 60


def start_web1(lab: Lab, **more: Any) -> None:
    lab.one("kvm1", "kvm_domain", **guest("web1", 101, **more))
    until(lambda: answers(lab, 101), 60, "web1 answers")


def longest_gap(moments: List[float]) -> float:
    return max(b - a for a, b in itertools.pairwise(moments))


def test_http_tells_what_another_client_sees(clean: Lab) -> None:
    """By the playbook, which shows the summary and leaves it as a statistic."""
    start_web1(clean)
    words = ["migrate_name=web1", "migrate_from=kvm1", "migrate_to=kvm2", "migrate_bandwidth_mib_s=16"]
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
