# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a live move, and the way back when one fails."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, List, Mapping

from ansible_collections.kvmops.fleet.plugins.module_utils.host import (
    lifecycle,
    live_migration,
    pools,
    progress_file,
    transfer_xml,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.host.live_migration import Order, Watched
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import PAUSED
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError, KvmError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.journal import CLOSING, HANDING_OVER
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Found, Metrics, Wish, thin
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan, Step
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import overdue
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.settlement import may_take_back
from ansible_collections.kvmops.fleet.plugins.module_utils.run import migrate_closing, migrate_probe
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_ends import Ends
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_journal import Notes
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_settle import both_say, settle


def take(wish: Wish, ends: Ends, plan: Plan, found: Found, notes: Notes) -> Mapping[str, Any]:
    """Take the steps in order. Gives metrics, samples and flags. Raises HostError; the source runs on then."""
    made: List[Mapping[str, Any]] = []
    told: Dict[str, Any] = {}
    try:
        for step in plan.steps:
            if step.action == "create-volume":
                _create(ends, step.args)
                made.append(step.args)
            elif step.action == "migrate":
                notes.made([volume["path"] for volume in made])
                notes.phase(HANDING_OVER)
                told = _migrate(wish, ends, step, found)
                notes.phase(CLOSING)
                made = []
            else:
                migrate_closing.take(wish, ends, step)
    except KvmError:
        if notes.journal.phase != CLOSING and _take_back(wish, ends, made):
            notes.end()
        raise
    notes.end()
    return told


def _create(ends: Ends, volume: Mapping[str, Any]) -> None:
    pools.create_volume(ends.dest, volume["pool"], volume["volume"], volume["size"], volume["format"])


def _migrate(wish: Wish, ends: Ends, step: Step, found: Found) -> Dict[str, Any]:
    persistent = found.source.status is None or found.source.status.persistent
    dom, redirect = live_migration.there(ends.source, wish.name), step.args["redirect"]
    order = Order(
        dest_uri=wish.dest_uri,
        migrate_uri=wish.migrate_uri,
        copy=step.args["copy"],
        persistent=persistent,
        max_downtime_ms=wish.max_downtime_ms,
        bandwidth_mib_s=wish.bandwidth_mib_s,
        tls=wish.tls,
        tls_destination=wish.tls_destination,
        connections=step.args["connections"],
        dest_xml=transfer_xml.definition(dom, redirect, inactive=False) if redirect.changes else None,
        persistent_xml=transfer_xml.definition(dom, redirect, inactive=True)
        if redirect.changes and persistent
        else None,
    )
    subject = "%s to %s" % (wish.name, wish.host)
    with migrate_probe.probing(wish, ends) as probed:
        with progress_file.telling("kvm_migrate", wish.name) as tell:
            late = overdue.rule(wish.timeout_s, wish.on_timeout)
            probed.begins()
            watched = live_migration.migrate(dom, order, lambda sample: tell(sample.progress(subject)), late)
            probed.ends()
        settle(wish, ends, watched)
        # A guest that was paused on the way goes on by itself on some releases, on others it does not.
        if watched.stopped == "pause" and both_say(wish, ends)[1] == PAUSED:
            lifecycle.resume(live_migration.there(ends.dest, wish.name))
        seen, samples, noticed = probed.told([sample.as_dict() for sample in thin(watched.samples)])
    return {
        "metrics": dict(_metrics(live_migration.completed(ends.dest, wish.name), watched, step).as_dict(), **seen),
        "samples": samples,
        "noticed": noticed,
        "flags": live_migration.flags_of(order),
        "transport": "tls" if wish.tls else "tcp",
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


def _take_back(wish: Wish, ends: Ends, made: List[Mapping[str, Any]]) -> bool:
    """Remove the target volumes of this run, if the guest surely never ran on them. Whether nothing of it is left."""
    if not may_take_back(*both_say(wish, ends)):
        return False
    left = len(made)
    for volume in made:
        with contextlib.suppress(HostError):
            pools.delete_volume(ends.dest, volume["pool"], volume["volume"])
            left -= 1
    return left == 0
