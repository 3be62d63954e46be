# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Start a live migration, watch it, end it. One libvirt call each; what they mean is decided elsewhere.

Always peer to peer: the source daemon drives it and goes on when this process dies (libvirt docs/migration.rst).
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Sequence

from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor, flag, libvirt, said
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import MIB, Sample

POLL_S = 0.25


@dataclass(frozen=True)
class Order:
    """What libvirt is asked to do. copy: disk targets to mirror; empty means none (and then no storage flag is set:
    with the flag and an empty list libvirt copies every writable disk). Rates in MiB/s. tls: encrypted; tls_destination:
    the name in the destination's certificate. connections: in parallel for memory; 0 means the one that always is.
    dest_xml, persistent_xml: the running and the persistent configuration there, when they differ from those here.
    """

    dest_uri: str
    migrate_uri: Optional[str]
    copy: Sequence[str] = ()
    persistent: bool = True
    max_downtime_ms: Optional[int] = None
    bandwidth_mib_s: Optional[int] = None
    tls: bool = False
    tls_destination: Optional[str] = None
    connections: int = 0
    dest_xml: Optional[str] = field(default=None, repr=False)
    persistent_xml: Optional[str] = field(default=None, repr=False)


@dataclass
class Watched:
    """What was seen. error: libvirt's words when it failed. stopped: why we ended it (a timeout), if we did.

    completed: the source's statistics of the finished job, which its libvirt sends as an event.
    """

    samples: List[Sample] = field(default_factory=list)
    completed: Dict[str, Any] = field(default_factory=dict)
    error: Optional[str] = None
    stopped: Optional[str] = None
    wall_ms: int = 0


def flags_of(order: Order) -> List[str]:
    """The names of the libvirt flags, for the result and for `migrate`."""
    names = ["VIR_MIGRATE_LIVE", "VIR_MIGRATE_PEER2PEER", "VIR_MIGRATE_ABORT_ON_ERROR"]
    if order.persistent:
        names += ["VIR_MIGRATE_PERSIST_DEST", "VIR_MIGRATE_UNDEFINE_SOURCE"]
    if order.copy:
        names.append("VIR_MIGRATE_NON_SHARED_DISK")
    if order.tls:
        names.append("VIR_MIGRATE_TLS")
    if order.connections:
        names.append("VIR_MIGRATE_PARALLEL")
    return names


def migrate(
    dom: Any, order: Order, on_sample: Callable[[Sample], None], overdue: Callable[[float], Optional[str]]
) -> Watched:
    """Run to the end, sampling the job. Never raises for a failed migration: see Watched.error.

    overdue(elapsed seconds) gives None, "abort" or "pause" each time the job is looked at.
    """
    watched = Watched()
    began = time.monotonic()
    worker = threading.Thread(target=_call, args=(dom, order, watched), daemon=True)
    with said("listen for the end of the migration of %s" % dom.name(), "the source"):
        conn, listener = dom.connect(), _listen(dom, watched)
    if order.max_downtime_ms is not None:
        # Kept by QEMU until the next migration sets its own.
        with said("set the maximum downtime of %s" % dom.name(), "the source"):
            dom.migrateSetMaxDowntime(order.max_downtime_ms, 0)
    worker.start()
    while worker.is_alive():
        worker.join(POLL_S)
        elapsed = time.monotonic() - began
        sample = sample_of(dom, int(elapsed * 1000))
        if sample is not None and worker.is_alive():
            watched.samples.append(sample)
            on_sample(sample)
        act = overdue(elapsed) if worker.is_alive() else None
        if act is not None and watched.stopped is None:
            watched.stopped = act
            _stop(dom, act)
    watched.wall_ms = int((time.monotonic() - began) * 1000)
    with contextlib.suppress(libvirt.libvirtError):
        conn.domainEventDeregisterAny(listener)
    return watched


def _listen(dom: Any, watched: Watched) -> int:
    def on_completed(conn: Any, domain: Any, stats: Dict[str, Any], opaque: Any) -> None:
        watched.completed.update(stats)

    return int(dom.connect().domainEventRegisterAny(dom, libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, on_completed, None))


def _call(dom: Any, order: Order, watched: Watched) -> None:
    params: Dict[str, Any] = {}
    if order.migrate_uri:
        params[libvirt.VIR_MIGRATE_PARAM_URI] = order.migrate_uri
        if order.copy:
            params[libvirt.VIR_MIGRATE_PARAM_DISKS_URI] = order.migrate_uri
    if order.copy:
        params[libvirt.VIR_MIGRATE_PARAM_MIGRATE_DISKS] = list(order.copy)
    if order.bandwidth_mib_s:
        params[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = order.bandwidth_mib_s
    if order.tls and order.tls_destination:
        params[libvirt.VIR_MIGRATE_PARAM_TLS_DESTINATION] = order.tls_destination
    if order.connections:
        params[libvirt.VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS] = order.connections
    if order.dest_xml:
        params[libvirt.VIR_MIGRATE_PARAM_DEST_XML] = order.dest_xml
    if order.persistent_xml:
        params[libvirt.VIR_MIGRATE_PARAM_PERSIST_XML] = order.persistent_xml
    try:
        dom.migrateToURI3(order.dest_uri, params, flag(*flags_of(order)))
    except libvirt.libvirtError as error:
        watched.error = error.get_error_message() or str(error)


def _stop(dom: Any, act: str) -> None:
    try:
        if act == "abort":
            dom.abortJob()
        else:
            dom.suspend()
    except libvirt.libvirtError:
        return  # it ended by itself in the same moment; the caller looks at both ends anyway


def sample_of(dom: Any, at_ms: int) -> Optional[Sample]:
    """The running job, or None when there is none (yet, or any more)."""
    try:
        stats = dom.jobStats(0)
    except libvirt.libvirtError:
        return None
    if stats.get("type", 0) == 0:
        return None
    return Sample(
        at_ms=at_ms,
        phase=_phase(stats),
        memory_processed_mib=round(stats.get("memory_processed", 0) / MIB, 2),
        memory_remaining_mib=round(stats.get("memory_remaining", 0) / MIB, 2),
        memory_rate_mib_s=round(stats.get("memory_bps", 0) / MIB, 2),
        disk_processed_mib=round(stats.get("disk_processed", 0) / MIB, 2),
        disk_remaining_mib=round(stats.get("disk_remaining", 0) / MIB, 2),
        disk_rate_mib_s=round(stats.get("disk_bps", 0) / MIB, 2),
        iteration=stats.get("memory_iteration", 0),
    )


def _phase(stats: Dict[str, Any]) -> str:
    if stats.get("disk_remaining", 0):
        return "disk"
    return "memory" if stats.get("memory_total", 0) else "setup"


def there(hv: Hypervisor, name: str) -> Any:
    """The virDomain, which must be there. Raises HostError."""
    with said("find domain %s" % name, hv.side, "It was removed meanwhile; run again."):
        return hv.conn.lookupByName(name)


def completed(dest: Hypervisor, name: str) -> Dict[str, Any]:
    """libvirt's statistics of the finished job, as the destination keeps them (virsh domjobinfo --completed).

    They hold no disk numbers: those only the source knows, see Watched.completed.
    """
    flags = flag("VIR_DOMAIN_JOB_STATS_COMPLETED", "VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED")
    with said("read the statistics of the finished migration of %s" % name, dest.side):
        return dict(dest.conn.lookupByName(name).jobStats(flags))


def disk_sizes(dom: Any, targets: Sequence[str], side: str) -> Dict[str, int]:
    """Virtual size in bytes of each disk target."""
    sizes = {}
    for target in targets:
        with said("read the size of disk %s" % target, side):
            sizes[target] = dom.blockInfo(target, 0)[0]
    return sizes


def wait_until(question: Callable[[], bool], seconds: float, attempted: str, side: str) -> None:
    """Ask until yes. Raises HostError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not question():
        if time.monotonic() > deadline:
            raise HostError(attempted, side, "not so after %s s" % seconds)
        time.sleep(0.1)
