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
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import disk_errors
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor, flag, libvirt, said
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import MIB, Sample
from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import (
    ABORT,
    BANDWIDTH,
    DOWNTIME,
    EXTEND,
    LEAVE,
    PAUSE,
    POSTCOPY,
    Act,
)

POLL_S = 0.25
# QEMU closes its connections when it is told to; a daemon that does not answer is dropped by keepalive after 30 s.
ABORTS_WITHIN_S = 40


@dataclass(frozen=True)
class Order:
    """What libvirt is asked to do. copy: disk targets to mirror; empty means none (and then no storage flag is set:
    with the flag and an empty list libvirt copies every writable disk). Rates in MiB/s. tls: encrypted; tls_destination:
    the name in the destination's certificate. connections: in parallel for memory; 0 means the one that always is.
    dest_xml, persistent_xml: the running and the persistent configuration there, when they differ from those here.
    compression: zstd, zlib, xbzrle or None. throttle_percent: with auto-converge the first and each further slowdown.
    resume: the post-copy that broke off, instead of a new move (libvirt 8.5).
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
    compression: Optional[str] = None
    throttle_percent: Optional[Tuple[int, int]] = None
    postcopy: bool = False
    resume: bool = False


@dataclass
class Watched:
    """What was seen. error: libvirt's words when it failed. acts: what was done to the running job. stopped: how we ended
    it (abort, pause, postcopy), if we did; why, remedy: see Act.

    completed: the source's statistics of the finished job, which its libvirt sends as an event. disk_errors: see disk_errors.py.
    """

    samples: List[Sample] = field(default_factory=list)
    acts: List[Act] = field(default_factory=list)
    completed: Dict[str, Any] = field(default_factory=dict)
    disk_errors: List[Tuple[str, str]] = field(default_factory=list)
    error: Optional[str] = None
    stopped: Optional[str] = None
    why: Optional[str] = None
    remedy: str = ""
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
    if order.compression:
        names.append("VIR_MIGRATE_COMPRESSED")
    if order.throttle_percent:
        names.append("VIR_MIGRATE_AUTO_CONVERGE")
    if order.postcopy:
        names.append("VIR_MIGRATE_POSTCOPY")
    if order.resume:
        names.append("VIR_MIGRATE_POSTCOPY_RESUME")
    return names


# What is to be done now, from the newest sample (None: the job does not tell) and the seconds since the start.
Steer = Callable[[Optional[Sample], float], Sequence[Act]]


def migrate(dom: Any, order: Order, on_sample: Callable[[Sample], None], steer: Steer) -> Watched:
    """Run to the end, sampling the job. Never raises for a failed migration: see Watched.error.

    Every wait is bounded: calls by the connection's keepalive, the job by what `steer` decides, its end by ABORTS_WITHIN_S.
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
    with disk_errors.noting(dom, watched.disk_errors):
        worker.start()
        _attend(dom, worker, began, watched, on_sample, steer)
    watched.wall_ms = int((time.monotonic() - began) * 1000)
    with contextlib.suppress(libvirt.libvirtError):
        conn.domainEventDeregisterAny(listener)
    return watched


def _attend(
    dom: Any,
    worker: threading.Thread,
    began: float,
    watched: Watched,
    on_sample: Callable[[Sample], None],
    steer: Steer,
) -> None:
    """Until the call that migrates has returned, was told to end and has not, or is left to itself."""
    give_up_at: Optional[float] = None
    while worker.is_alive():
        worker.join(POLL_S)
        elapsed = time.monotonic() - began
        sample = sample_of(dom, int(elapsed * 1000))
        if not worker.is_alive():
            break
        if sample is not None:
            watched.samples.append(sample)
            on_sample(sample)
        for act in steer(sample, elapsed):
            if act.what == LEAVE:
                watched.error = act.why
                return
            _do(dom, act, watched)
            if act.what == ABORT and give_up_at is None:
                give_up_at = elapsed + ABORTS_WITHIN_S
        if give_up_at is not None and elapsed > give_up_at:
            watched.error = "it was told to end and has not within %d s" % ABORTS_WITHIN_S
            break


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
    if order.compression:
        params[libvirt.VIR_MIGRATE_PARAM_COMPRESSION] = order.compression
    if order.throttle_percent:
        params[libvirt.VIR_MIGRATE_PARAM_AUTO_CONVERGE_INITIAL] = order.throttle_percent[0]
        params[libvirt.VIR_MIGRATE_PARAM_AUTO_CONVERGE_INCREMENT] = order.throttle_percent[1]
    if order.resume and not flag("VIR_MIGRATE_POSTCOPY_RESUME"):
        watched.error = "python3-libvirt here is older than 8.5 and cannot ask for it"
        return
    try:
        dom.migrateToURI3(order.dest_uri, params, flag(*flags_of(order)))
    except libvirt.libvirtError as error:
        watched.error = error.get_error_message() or str(error)


def _do(dom: Any, act: Act, watched: Watched) -> None:
    """Only one of abort, pause and post-copy is the end of the move: the first, or an abort after a pause."""
    hands: Dict[str, Callable[[], Any]] = {
        DOWNTIME: lambda: dom.migrateSetMaxDowntime(act.value, 0),
        EXTEND: lambda: dom.migrateSetMaxDowntime(act.value, 0),
        BANDWIDTH: lambda: dom.migrateSetMaxSpeed(act.value, 0),
        POSTCOPY: lambda: dom.migrateStartPostCopy(0),
        PAUSE: dom.suspend,
        ABORT: dom.abortJob,
    }
    watched.acts.append(act)
    if act.what in (ABORT, PAUSE, POSTCOPY):
        watched.stopped, watched.why, watched.remedy = act.what, act.why, act.remedy
    # When libvirt refuses, it ended by itself in the same moment; the caller looks at both ends anyway.
    with contextlib.suppress(libvirt.libvirtError):
        hands[act.what]()


def interrupt_postcopy(dom: Any) -> None:
    """Let QEMU on the source give up the connection to the other half: a post-copy can be resumed only after that (libvirt 8.5)."""
    only_that = flag("VIR_DOMAIN_ABORT_JOB_POSTCOPY")
    # It refuses when QEMU has given up by itself.
    with contextlib.suppress(libvirt.libvirtError):
        if only_that:
            dom.abortJobFlags(only_that)


def sample_of(dom: Any, at_ms: int) -> Optional[Sample]:
    """The running job, or None when there is none (yet, or any more)."""
    try:
        stats = dom.jobStats(0)
    except libvirt.libvirtError:
        return None
    if stats.get("type", 0) == 0:
        return None
    page_mib = stats.get("memory_page_size", 4096) / MIB
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
        memory_normal_mib=round(stats.get("memory_normal_bytes", 0) / MIB, 2),
        dirty_mib_s=round(stats.get("memory_dirty_rate", 0) * page_mib, 2),
        throttle_percent=stats.get("auto_converge_throttle", 0),
        memory_empty_mib=round(stats.get("memory_constant", 0) * page_mib, 2),
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
