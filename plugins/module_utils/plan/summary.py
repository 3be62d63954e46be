# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a move was, in a few lines for a person."""

from __future__ import annotations

from typing import Any, List, Mapping, Optional


def summary(
    name: str, source: str, dest: str, metrics: Optional[Mapping[str, Any]], transport: Optional[str] = None
) -> List[str]:
    """Two or three lines. metrics: those of the result; None when nothing was moved."""
    if not metrics:
        return ["%s lives on %s; nothing had to be moved." % (name, dest)]
    lines = [_first(name, source, dest, metrics), _cost(metrics, transport)]
    return lines + _seen(metrics.get("impact"))


def _first(name: str, source: str, dest: str, metrics: Mapping[str, Any]) -> str:
    moved = "%s moved from %s to %s in %s" % (name, source, dest, _seconds(metrics["total_ms"]))
    if metrics.get("downtime_ms") is None:
        return "%s; it was off." % moved if metrics.get("mode") == "offline" else "%s." % moved
    still = "it stood still for %s" % _short(metrics["downtime_ms"])
    seen = metrics.get("downtime_seen_ms")
    if seen is None:
        return "%s; %s." % (moved, still)
    return "%s; %s, and clients were without an answer for %s." % (moved, still, _short(seen))


def _cost(metrics: Mapping[str, Any], transport: Optional[str]) -> str:
    sent = ["%.0f MiB of memory" % (metrics["memory_bytes"] / 1024**2)] if metrics.get("memory_bytes") else []
    sent += ["%.0f MiB of disks" % (metrics["disk_data_bytes"] / 1024**2)] if metrics.get("disk_data_bytes") else []
    rounds = ", in %d rounds" % metrics["iterations"] if (metrics.get("iterations") or 0) > 1 else ""
    how = " over %s" % transport if transport else ""
    return "Sent %s%s at %.1f MiB/s%s." % (
        " and ".join(sent) or "next to nothing",
        how,
        metrics["throughput_mib_s"],
        rounds,
    )


def _seen(seen: Optional[Mapping[str, Any]]) -> List[str]:
    if not seen:
        return []
    during, before = seen["during"], seen["before"]
    words = "Clients lost %d of %d requests" % (seen["lost"], during["sent"] + seen["after"]["sent"])
    if during["p99_ms"] is None or before["p99_ms"] is None:
        return [words + "."]
    took = "99 %% of the answers took up to %.1f ms during the move and %.1f ms before it"
    return ["%s; %s." % (words, took % (during["p99_ms"], before["p99_ms"]))]


def _seconds(ms: float) -> str:
    return "%.1f s" % (ms / 1000.0)


def _short(ms: float) -> str:
    return "%d ms" % ms if ms < 10_000 else _seconds(ms)
