# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The metrics of a live move, from what libvirt counted on both hosts."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.kvmops.fleet.plugins.module_utils.host.live_migration import Watched
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import LIVE, Metrics

MIB = 1024**2


def live_metrics(stats: Mapping[str, Any], watched: Watched, disk_data_bytes: int = 0, mode: str = LIVE) -> Metrics:
    """stats: the destination's, of the finished job. They hold no disks: the source tells of those as the job ends; a run
    that missed that takes its last look. disk_data_bytes: what the images held, where that is known."""
    last = watched.samples[-1] if watched.samples else None
    seen = int(last.disk_processed_mib * MIB) if last else 0
    return Metrics(
        mode=mode,
        total_ms=stats.get("time_elapsed", watched.wall_ms),
        wall_ms=watched.wall_ms,
        downtime_ms=stats.get("downtime"),
        downtime_net_ms=stats.get("downtime_net"),
        setup_ms=stats.get("setup_time"),
        memory_bytes=stats.get("memory_processed", 0),
        memory_total_bytes=stats.get("memory_total", 0),
        disk_bytes=watched.completed.get("disk_processed", seen),
        disk_data_bytes=disk_data_bytes,
        iterations=stats.get("memory_iteration"),
    )
