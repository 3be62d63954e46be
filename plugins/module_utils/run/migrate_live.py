# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a live move, and the way back when one fails."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, List, Mapping, Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.host import (
    domains,
    lifecycle,
    live_migration,
    pools,
    progress_file,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.host.live_migration import Order, Watched
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import PAUSED
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge, HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Found, Metrics, Wish, thin
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan, Step
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import overdue
from ansible_collections.kvmops.fleet.plugins.module_utils.run import migrate_closing
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_ends import Ends

# How long the two sides may need, after libvirt's call returned, until both agree who has the guest.
SETTLE_S = 35


def take(wish: Wish, ends: Ends, plan: Plan, found: Found) -> Mapping[str, Any]:
    """Take the steps in order. Gives metrics, samples and flags. Raises HostError; the source runs on then."""
    made: List[Mapping[str, Any]] = []
    told: Dict[str, Any] = {}
    try:
        for step in plan.steps:
            if step.action == "create-volume":
                _create(ends, step.args)
                made.append(step.args)
            elif step.action == "migrate":
                told = _migrate(wish, ends, step, found)
                made = []
            else:
                migrate_closing.take(wish, ends, step)
    except HostError:
        _take_back(ends, made)
        raise
    return told


def _create(ends: Ends, volume: Mapping[str, Any]) -> None:
    pools.create_volume(ends.dest, volume["pool"], volume["volume"], volume["size"], volume["format"])


def _migrate(wish: Wish, ends: Ends, step: Step, found: Found) -> Dict[str, Any]:
    persistent = found.source.status is None or found.source.status.persistent
    order = Order(
        dest_uri=wish.dest_uri,
        migrate_uri=wish.migrate_uri,
        copy=step.args["copy"],
        persistent=persistent,
        max_downtime_ms=wish.max_downtime_ms,
        bandwidth_mib_s=wish.bandwidth_mib_s,
    )
    dom = live_migration.there(ends.source, wish.name)
    subject = "%s to %s" % (wish.name, wish.host)
    with progress_file.telling("kvm_migrate", wish.name) as tell:
        late = overdue.rule(wish.timeout_s, wish.on_timeout)
        watched = live_migration.migrate(dom, order, lambda sample: tell(sample.progress(subject)), late)
    _settle(wish, ends, watched)
    # A guest that was paused on the way goes on by itself on some releases, on others it does not.
    if watched.stopped == "pause" and _active(ends.dest, wish.name) == PAUSED:
        lifecycle.resume(live_migration.there(ends.dest, wish.name))
    return {
        "metrics": _metrics(live_migration.completed(ends.dest, wish.name), watched, step).as_dict(),
        "samples": [sample.as_dict() for sample in thin(watched.samples)],
        "flags": live_migration.flags_of(order),
        "ended_by": watched.stopped,
    }


def _metrics(stats: Mapping[str, Any], watched: Watched, step: Step) -> Metrics:
    return Metrics(
        mode="live",
        total_ms=stats.get("time_elapsed", watched.wall_ms),
        wall_ms=watched.wall_ms,
        downtime_ms=stats.get("downtime"),
        downtime_net_ms=stats.get("downtime_net"),
        setup_ms=stats.get("setup_time"),
        memory_bytes=stats.get("memory_processed", 0),
        memory_total_bytes=stats.get("memory_total", 0),
        disk_bytes=watched.completed.get("disk_processed", 0),
        disk_data_bytes=step.args["allocated"],
        iterations=stats.get("memory_iteration"),
    )


def _settle(wish: Wish, ends: Ends, watched: Watched) -> None:
    """The truth is what both hosts say, not what the call returned. Raises unless the guest lives on the destination."""
    attempted = "move %s live to %s" % (wish.name, ends.dest.side)
    here, there = _active(ends.source, wish.name), _active(ends.dest, wish.name)
    if watched.error is None and there and not here:
        return
    with contextlib.suppress(HostError):
        live_migration.wait_until(
            lambda: bool(_active(ends.source, wish.name)) != bool(_active(ends.dest, wish.name)),
            SETTLE_S,
            attempted,
            ends.dest.side,
        )
    here, there = _active(ends.source, wish.name), _active(ends.dest, wish.name)
    if there and not here:
        return
    raise_for(wish, ends, watched, here, there, attempted)


def raise_for(
    wish: Wish, ends: Ends, watched: Watched, here: Optional[str], there: Optional[str], attempted: str
) -> None:
    """Say where the guest is now and what to do."""
    words = watched.error or "libvirt reported success, but the domain is not there"
    if watched.stopped:
        words = "timeout_s (%s) passed and the move was ended (%s); libvirt: %s" % (
            wish.timeout_s,
            watched.stopped,
            words,
        )
    if here and there:
        raise CannotConverge(
            attempted,
            "%s is %s on %s and %s on %s" % (wish.name, here, ends.source.side, there, ends.dest.side),
            "Look at both now and stop one of them",
        )
    if here:
        raise HostError(
            attempted,
            ends.source.side,
            words,
            "The guest is %s on %s as before. %s" % (here, ends.source.side, _advice(words)),
        )
    raise HostError(
        attempted,
        ends.source.side,
        words,
        "The guest runs on neither side: it stopped during the move. Its definition and disks are on %s; "
        "look at its log there, then start it." % ends.source.side,
    )


def _advice(words: str) -> str:
    if "No space left" in words:
        return "Free room on the destination, then run again."
    if "End of file" in words or "Input/output error" in words:
        return (
            "The destination's QEMU ended: read /var/log/libvirt/qemu and the daemon's journal there, then run again."
        )
    return "Mend the cause, then run again."


def _active(hv: Any, name: str) -> Optional[str]:
    """The state of the domain on that side when it is active there, else None."""
    dom = domains.find(hv, name)
    status = domains.status(dom) if dom is not None else None
    return status.state if status is not None and status.active else None


def _take_back(ends: Ends, made: List[Mapping[str, Any]]) -> None:
    """Remove the target volumes this run made; the guest never ran on them."""
    for volume in made:
        with contextlib.suppress(HostError):
            pools.delete_volume(ends.dest, volume["pool"], volume["volume"])
