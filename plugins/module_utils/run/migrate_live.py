# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a live move, and the way back when one fails."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.kvmops.fleet.plugins.module_utils.host import (
    domains,
    lifecycle,
    live_migration,
    pools,
    progress_file,
    switch_over,
    transfer_xml,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.host.live_migration import Order, Steer, Watched
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import PAUSED
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError, KvmError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.journal import CLOSING, HANDING_OVER
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import (
    MIB,
    Found,
    Metrics,
    Sample,
    Wish,
    thin,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import PAUSE, POSTCOPY, Act
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan, Step
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import prediction
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.policies import ramp
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.settlement import (
    ABSENT,
    MOVED,
    STAYED,
    may_take_back,
    verdict,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.way import Way
from ansible_collections.kvmops.fleet.plugins.module_utils.run import migrate_closing, migrate_probe
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_ends import Ends
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_journal import Notes
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_metrics import live_metrics
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_pilot import Pilot
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_settle import both_say, settle


def take(wish: Wish, ends: Ends, plan: Plan, found: Found, notes: Notes, way: Way) -> Mapping[str, Any]:
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
                told = _migrate(wish, ends, step, found, way, notes)
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


def _noting(steer: Steer, dom: Any, notes: Notes) -> Steer:
    """Before the guest is paused on the way, note it: should this run die then, the next one lets it go on."""

    def noted(sample: Optional[Sample], elapsed_s: float) -> Sequence[Act]:
        acts = steer(sample, elapsed_s)
        if PAUSE in [act.what for act in acts]:
            with contextlib.suppress(HostError):
                notes.pausing(domains.status(dom).state)
        return acts

    return noted


def _migrate(wish: Wish, ends: Ends, step: Step, found: Found, way: Way, notes: Notes) -> Dict[str, Any]:
    dom = live_migration.there(ends.source, wish.name)
    order = _order(wish, dom, step, found, way)
    subject = "%s to %s" % (wish.name, wish.host)
    with migrate_probe.probing(wish, ends) as probed:
        with progress_file.telling("kvm_migrate", wish.name) as tell:
            steer = _noting(Pilot(wish, way).steer, dom, notes)
            probed.begins()
            with switch_over.seeing(ends.source, ends.dest, wish.name) as seen_over:
                watched = live_migration.migrate(dom, order, lambda sample: tell(sample.progress(subject)), steer)
            probed.ends()
        try:
            settle(wish, ends, watched)
        finally:
            _resume(wish, ends, watched, found)
        stats = live_migration.completed(ends.dest, wish.name)
        if "downtime" not in stats and watched.stopped == POSTCOPY:
            stats = dict(_seen(watched, found, seen_over.downtime_ms), **stats)
        metrics = live_metrics(stats, watched, step.args["allocated"])
        # A guest that was paused, or fetched its memory afterwards, was held up by more than the switch-over.
        stood_ms = metrics.downtime_ms if watched.stopped is None else None
        seen, samples, noticed = probed.told([sample.as_dict() for sample in thin(watched.samples)], stood_ms)
    return {
        "metrics": dict(metrics.as_dict(), **seen),
        "samples": samples,
        "noticed": noticed,
        "flags": live_migration.flags_of(order),
        "transport": "tls" if order.tls else "tcp",
        "ended_by": watched.stopped,
        "acts": [act.as_dict() for act in watched.acts],
        "prediction": _predicted(way, watched, metrics),
    }


def _order(wish: Wish, dom: Any, step: Step, found: Found, way: Way) -> Order:
    chosen, schedule, redirect = way.chosen, way.schedule, step.args["redirect"]
    persistent = found.source.status is None or found.source.status.persistent
    return Order(
        dest_uri=wish.dest_uri,
        migrate_uri=wish.migrate_uri,
        copy=step.args["copy"],
        persistent=persistent,
        max_downtime_ms=ramp(schedule)[0],
        bandwidth_mib_s=chosen.bandwidth_mib_s,
        tls=chosen.tls,
        tls_destination=wish.tls_destination,
        connections=chosen.connections,
        compression=chosen.compression,
        throttle_percent=(schedule.throttle_start_percent, schedule.throttle_step_percent)
        if chosen.auto_converge
        else None,
        postcopy=chosen.postcopy,
        dest_xml=transfer_xml.definition(dom, redirect, inactive=False) if redirect.changes else None,
        persistent_xml=transfer_xml.definition(dom, redirect, inactive=True)
        if redirect.changes and persistent
        else None,
    )


def _resume(wish: Wish, ends: Ends, watched: Watched, found: Found) -> None:
    """A guest that was paused on the way goes on by itself on some releases, on others it does not; nor after a failure."""
    was = found.source.status.state if found.source.status is not None else None
    if was == PAUSED or PAUSE not in [act.what for act in watched.acts]:
        return
    here, there = both_say(wish, ends)
    outcome = verdict(here, there)
    if outcome == MOVED and there == PAUSED:
        lifecycle.resume(live_migration.there(ends.dest, wish.name))
    elif outcome == STAYED and here == PAUSED and there == ABSENT:
        lifecycle.resume(live_migration.there(ends.source, wish.name))


def _predicted(way: Way, watched: Watched, metrics: Metrics) -> Dict[str, Any]:
    """Beside what was measured. Without a known link, from what the first round showed of it."""
    task = prediction.with_measured_link(way.task, watched.samples)
    foretold = way.prediction if task == way.task else prediction.predict(task, way.schedule, way.chosen)
    return prediction.compared(foretold, metrics)


def _seen(watched: Watched, found: Found, downtime_ms: Optional[int]) -> Dict[str, Any]:
    """In libvirt's words, what was seen of a post-copy, of which the destination keeps no statistics."""
    domain, seen = found.source.effective, dict(watched.completed)
    if watched.samples:
        last = watched.samples[-1]
        seen.update(memory_processed=int(last.memory_processed_mib * MIB), memory_iteration=last.iteration)
    if downtime_ms is not None:
        seen["downtime"] = downtime_ms
    return dict(seen, memory_total=domain.memory_mib * MIB if domain else 0)


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
