# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What libvirt is told to do, and that every wait for it ends."""

from __future__ import annotations

import threading
from typing import Any, Dict, List, Optional, Sequence, Tuple

import pytest

libvirt = pytest.importorskip("libvirt", reason="libvirt's Python binding (python3-libvirt) is not here")

from ansible_collections.kvmops.fleet.plugins.module_utils.host import live_migration  # noqa: E402
from ansible_collections.kvmops.fleet.plugins.module_utils.host.live_migration import Order  # noqa: E402
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Sample  # noqa: E402
from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import Act  # noqa: E402

MIB = 1024**2


class Guest:
    """Migrates until it is told to end; `deaf`: it does not even end then."""

    def __init__(self, deaf: bool = False) -> None:
        self.done: List[Tuple[str, Any]] = []
        self.params: Dict[str, Any] = {}
        self.flags = 0
        self._deaf, self._ended = deaf, threading.Event()

    def name(self) -> str:
        return "web1"

    def connect(self) -> Guest:
        return self

    def domainEventRegisterAny(self, *words: Any) -> int:
        return 1

    def domainEventDeregisterAny(self, listener: int) -> None:
        pass

    def migrateToURI3(self, uri: str, params: Dict[str, Any], flags: int) -> None:
        self.params, self.flags = params, flags
        self._ended.wait(20)

    def jobStats(self, flags: int) -> Dict[str, Any]:
        numbers = {
            "memory_total": 9 * MIB,
            "memory_processed": 2 * MIB,
            "memory_normal_bytes": 3 * MIB,
            "memory_constant": 512,
        }
        return dict(numbers, type=2, memory_dirty_rate=256, memory_page_size=4096, auto_converge_throttle=20)

    def migrateSetMaxDowntime(self, value: int, flags: int) -> None:
        self.done.append(("downtime", value))

    def migrateSetMaxSpeed(self, value: int, flags: int) -> None:
        self.done.append(("bandwidth", value))

    def suspend(self) -> None:
        self.done.append(("pause", None))
        self._ended.set()

    def migrateStartPostCopy(self, flags: int) -> None:
        self.done.append(("postcopy", None))
        self._ended.set()

    def abortJob(self) -> None:
        self.done.append(("abort", None))
        if not self._deaf:
            self._ended.set()
            raise libvirt.libvirtError("it had ended already")


def run(guest: Guest, orders: Sequence[Sequence[Act]], order: Optional[Order] = None) -> live_migration.Watched:
    queue = list(orders)

    def steer(sample: Optional[Sample], elapsed_s: float) -> Sequence[Act]:
        return queue.pop(0) if queue else ()

    plain = order or Order("qemu+ssh://root@kvm2/system", None, max_downtime_ms=50)
    return live_migration.migrate(guest, plain, lambda sample: None, steer)


@pytest.mark.parametrize("end", ["pause", "postcopy", "abort"])
def test_orders_reach_libvirt_and_are_remembered(end: str) -> None:
    guest = Guest()
    orders = [Act("downtime", "slow", 70), Act("bandwidth", "share", 5)], [Act(end, "stalled")]
    watched = run(guest, orders)
    assert guest.done == [("downtime", 50), ("downtime", 70), ("bandwidth", 5), (end, None)]
    assert [act.what for act in watched.acts] == ["downtime", "bandwidth", end]
    assert (watched.stopped, watched.why) == (end, "stalled") and watched.error is None


def test_a_job_that_does_not_end_is_left_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_migration, "ABORTS_WITHIN_S", 0.3)
    watched = run(Guest(deaf=True), [[Act("abort", "stalled")]])
    assert watched.stopped == "abort" and "it was told to end and has not" in (watched.error or "")


def test_a_job_that_is_left_goes_on() -> None:
    guest = Guest()
    watched = run(guest, [[Act("leave", "it sends nothing")]])
    assert guest.done == [("downtime", 50)] and watched.error == "it sends nothing" and watched.stopped is None


def test_a_resume_is_not_asked_for_where_it_would_be_a_new_move(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag that libvirt's binding does not know counts as none."""
    monkeypatch.delattr(libvirt, "VIR_MIGRATE_POSTCOPY_RESUME")
    guest = Guest()
    watched = run(guest, [], Order("qemu+ssh://root@kvm2/system", None, postcopy=True, resume=True))
    assert guest.flags == 0 and "older than 8.5" in (watched.error or "")


def test_a_sample_holds_what_steering_asks_for() -> None:
    watched = run(Guest(), [(), [Act("abort", "enough")]])
    sample = watched.samples[0]
    assert (sample.memory_processed_mib, sample.sent_mib, sample.passed_mib) == (2, 3, 5)
    assert (sample.dirty_mib_s, sample.throttle_percent) == (1, 20)


def test_flags_and_parameters() -> None:
    order = Order(
        "qemu+ssh://root@kvm2/system",
        "tcp://kvm2",
        bandwidth_mib_s=9,
        connections=2,
        compression="zstd",
        throttle_percent=(30, 15),
        postcopy=True,
    )
    guest = Guest()
    run(guest, [(), [Act("abort", "enough")]], order)
    for name in ("PARALLEL", "COMPRESSED", "AUTO_CONVERGE", "POSTCOPY", "PEER2PEER", "LIVE"):
        assert guest.flags & getattr(libvirt, "VIR_MIGRATE_" + name), name
        assert "VIR_MIGRATE_" + name in live_migration.flags_of(order)
    assert not guest.flags & libvirt.VIR_MIGRATE_TLS
    wanted = {"compression": "zstd", "parallel.connections": 2, "bandwidth": 9}
    wanted.update({"auto_converge.initial": 30, "auto_converge.increment": 15})
    assert {key: guest.params[key] for key in wanted} == wanted
