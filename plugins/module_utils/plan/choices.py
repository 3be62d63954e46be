# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a live move goes: what the schedule leaves open is chosen from both ends and what was measured, with the reason."""

from __future__ import annotations

from typing import Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.host import version_text
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Found, Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.prediction import Task
from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import (
    ALWAYS,
    AUTO,
    EXTEND,
    NEVER,
    NONE,
    PAUSE,
    XBZRLE,
    Choice,
    Chosen,
    Schedule,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import encryption, formulas, postcopy
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.course import BUFFERED_MIB
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.prediction import (
    compressing_mib_s,
    working_set_of,
)

# libvirt NEWS 9.4.0: zlib and zstd over parallel connections.
COMPRESSES_SINCE = 9004000
# Of the link's rate; a guest that writes less converges within a few rounds.
CONVERGES_BELOW = 0.9
# Below, the CPU time is spent for nothing.
WORTH_COMPRESSING = 1.1
# Of the longest stop that is allowed. Measured at 200 Mbit/s, a guest that writes half of what the link sends: compressed, the
# stop was 340 ms with QEMU allowed 40 to 60; over one connection 180 ms.
MOST_BUFFERED = 0.4
# When the link's rate is not known, it is taken to carry 100 Mbit/s at least.
SLOWEST_LINK_MIB_S = 11.0


def choose(wish: Wish, found: Found, schedule: Schedule, task: Task) -> Chosen:
    """wish.tls must be decided. Each choice gives its reason."""
    tls = bool(wish.tls)
    compression, compressed = _compression(wish, found, schedule, task)
    connections, parallel = _connections(wish, found, schedule, compression)
    bandwidth, limited = _bandwidth(wish, schedule)
    throttled, converge = _auto_converge(schedule, task)
    allowed = postcopy.is_allowed(wish)
    return Chosen(
        tls=tls,
        connections=connections,
        compression=compression,
        auto_converge=throttled,
        postcopy=allowed,
        bandwidth_mib_s=bandwidth,
        choices=(
            encryption.choice(wish, found),
            parallel,
            compressed,
            converge,
            Choice("post-copy" if allowed else "no post-copy", _postcopy_why(wish)),
            limited,
        ),
    )


def _compression(wish: Wish, found: Found, schedule: Schedule, task: Task) -> Tuple[Optional[str], Choice]:
    wanted = schedule.compression
    if wanted == NONE:
        return None, Choice("no compression", "the schedule says so")
    if wanted != AUTO:
        return wanted, Choice(wanted, "the schedule says so")
    against = _against_compression(wish, found, schedule, task)
    if against is not None:
        return None, Choice("no compression", against)
    why = "the link (%s: %.1f MiB/s) is slower than %d threads compress (about %.0f MiB/s)"
    threads = _threads(schedule)
    return "zstd", Choice("zstd", why % (task.link_from, task.link_mib_s or 0, threads, compressing_mib_s(threads)))


def _against_compression(wish: Wish, found: Found, schedule: Schedule, task: Task) -> Optional[str]:
    for end in (found.source, found.dest):
        version = end.facts.libvirt_version
        if version < COMPRESSES_SINCE:
            return "%s has libvirt %s; it needs 9.4.0 on both hosts" % (end.side, version_text(version))
    if task.link_mib_s is None:
        return "the rate of the link is not known, and a fast one would be slowed down; say link_mib_s"
    if task.link_mib_s >= compressing_mib_s(_threads(schedule)):
        return "the link (%.1f MiB/s) is faster than compressing" % task.link_mib_s
    if task.compresses_by is not None and task.compresses_by < WORTH_COMPRESSING:
        return "the memory becomes hardly smaller: %.2f times, in a sample" % task.compresses_by
    more = BUFFERED_MIB * _threads(schedule) / task.link_mib_s * 1000
    if more > MOST_BUFFERED * schedule.pause_most_ms:
        words = "it needs %d connections, whose sockets would add %d ms to a stop of at most %d ms"
        return words % (_threads(schedule), more, schedule.pause_most_ms)
    if encryption.is_parallel_broken(found):
        return "between these versions of QEMU memory goes over one connection"
    if postcopy.is_allowed(wish) and not postcopy.goes_parallel(found):
        return "post-copy was allowed, which these versions of QEMU cannot do over several connections"
    return None


def _threads(schedule: Schedule) -> int:
    return max(schedule.connections, encryption.CONNECTIONS)


def _connections(wish: Wish, found: Found, schedule: Schedule, compression: Optional[str]) -> Tuple[int, Choice]:
    """In parallel for memory; 0 means the one that always is."""
    if encryption.is_parallel_broken(found):
        return 0, Choice(
            "one connection", "between these versions QEMU drops what comes over several (QEMU issue 2720)"
        )
    if compression not in (None, XBZRLE):
        return _threads(schedule), Choice("%d connections" % _threads(schedule), "compression needs several")
    if wish.tls:
        why = "QEMU is likely to crash after 64 GB over a single encrypted one (QEMU issue 1937)"
        return _threads(schedule), Choice("%d connections" % _threads(schedule), why)
    if schedule.connections:
        return schedule.connections, Choice("%d connections" % schedule.connections, "the schedule says so")
    return 0, Choice("one connection", "several bring nothing where the link is the limit, and cost CPU time")


def _bandwidth(wish: Wish, schedule: Schedule) -> Tuple[Optional[int], Choice]:
    share, most = schedule.bandwidth_share_percent, wish.bandwidth_mib_s
    if share < 100 and wish.link_mib_s is not None:
        part = max(1, int(wish.link_mib_s * share / 100))
        if most is None or part < most:
            return part, Choice("at most %d MiB/s" % part, "%d %% of link_mib_s" % share)
    if most is not None:
        return most, Choice("at most %d MiB/s" % most, "bandwidth_mib_s says so")
    if share < 100:
        return None, Choice("%d %% of the link" % share, "set once its rate is measured, in the first round")
    return None, Choice("the whole link", "neither the schedule nor bandwidth_mib_s limits it")


def _auto_converge(schedule: Schedule, task: Task) -> Tuple[bool, Choice]:
    if schedule.auto_converge in (ALWAYS, NEVER):
        slow = schedule.auto_converge == ALWAYS
        return slow, Choice("auto-converge" if slow else "no auto-converge", "the schedule says so")
    needed, why = _is_slowing_needed(schedule, task)
    return needed, Choice("auto-converge" if needed else "no auto-converge", why)


def _is_slowing_needed(schedule: Schedule, task: Task) -> Tuple[bool, str]:
    dirty, link = task.dirty_mib_s, task.link_mib_s
    if dirty is None:
        return (
            True,
            "how fast the guest writes is not known; QEMU slows it down only if that is more than half of what is sent",
        )
    if link is None:
        if dirty < CONVERGES_BELOW * SLOWEST_LINK_MIB_S:
            return False, "the guest writes %.1f MiB/s, less than any link carries" % dirty
        return True, "the guest writes %.1f MiB/s, and the rate of the link is not known" % dirty
    if dirty < CONVERGES_BELOW * link:
        return False, "the guest writes %.1f MiB/s, and the link carries %.1f" % (dirty, link)
    working_set = working_set_of(task)
    remaining = formulas.least_stop_mib(working_set, link, task.written_mib_s or dirty) or working_set
    stop = formulas.stop_s(remaining, link) * 1000
    rate = "the guest writes %.1f MiB/s, and the link carries %.1f: " % (dirty, link)
    if (EXTEND in schedule.at_stall or PAUSE in schedule.at_stall) and stop <= schedule.pause_most_ms:
        return False, rate + "a stop of at most %d ms ends the move, and %d are allowed" % (
            stop,
            schedule.pause_most_ms,
        )
    return True, rate + "a stop of up to %d ms would be needed, and %d are allowed" % (stop, schedule.pause_most_ms)


def _postcopy_why(wish: Wish) -> str:
    if not postcopy.is_allowed(wish):
        return "it was not consented to (allow_postcopy); when it fails, the guest is lost"
    return "allow_postcopy" if wish.allow_postcopy else "on_timeout is postcopy"
