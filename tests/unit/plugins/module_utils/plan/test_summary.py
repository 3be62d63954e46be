# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lines for a person."""

from __future__ import annotations

from typing import Any, Dict

from ansible_collections.kvmops.fleet.plugins.module_utils.plan.summary import summary

LIVE: Dict[str, Any] = {
    "mode": "live",
    "total_ms": 12340,
    "downtime_ms": 84,
    "downtime_seen_ms": None,
    "impact": None,
    "memory_bytes": 300 * 1024**2,
    "disk_data_bytes": 0,
    "iterations": 4,
    "throughput_mib_s": 24.3,
}


def window(sent: int, p99: float) -> Dict[str, Any]:
    return {"sent": sent, "p99_ms": p99}


def test_a_live_move_without_a_probe() -> None:
    assert summary("db1", "kvm1", "kvm2", LIVE, "tls") == [
        "db1 moved from kvm1 to kvm2 in 12.3 s; it stood still for 84 ms.",
        "Sent 300 MiB of memory over tls at 24.3 MiB/s, in 4 rounds.",
    ]


def test_a_live_move_with_one() -> None:
    seen = {"before": window(100, 2.0), "during": window(1140, 9.5), "after": window(100, 2.0), "lost": 3}
    lines = summary("db1", "kvm1", "kvm2", dict(LIVE, downtime_seen_ms=120, impact=seen), "tcp")
    assert "clients were without an answer for 120 ms" in lines[0]
    assert lines[2] == (
        "Clients lost 3 of 1240 requests; 99 % of the answers took up to 9.5 ms during the move and 2.0 ms before it."
    )


def test_an_offline_move() -> None:
    offline = {
        "mode": "offline",
        "total_ms": 800,
        "downtime_ms": None,
        "disk_data_bytes": 5 * 1024**2,
        "throughput_mib_s": 6.2,
    }
    assert summary("db1", "kvm1", "kvm2", offline, "ssh") == [
        "db1 moved from kvm1 to kvm2 in 0.8 s; it was off.",
        "Sent 5 MiB of disks over ssh at 6.2 MiB/s.",
    ]


def test_nothing_to_do() -> None:
    assert summary("db1", "kvm1", "kvm2", None) == ["db1 lives on kvm2; nothing had to be moved."]
