# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A post-copy that broke off goes on: by itself, or because libvirt is asked to resume it."""

from __future__ import annotations

import time
from typing import Optional, Sequence

from ansible_collections.kvmops.fleet.plugins.module_utils.host import live_migration, progress_file
from ansible_collections.kvmops.fleet.plugins.module_utils.host.live_migration import Order, Watched
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Sample, Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import LEAVE, Act
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import postcopy, settlement
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_ends import Ends
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_settle import both_say, settle

# QEMU sends all the time while it can; only when it does not, libvirt is asked, and again and again.
STANDS_STILL_S, ASK_AGAIN_S = 5, 5
# After a cut, TCP asks again at intervals that double, up to two minutes. By then the old connection lives again, or is dead.
GOES_ON_S = 130
# Then QEMU on the source is told to give it up. How long libvirt may refuse after that: the destination learns of it by TCP, too.
REFUSES_S = 150
# A resume that was begun and sends nothing: QEMU on the destination does not answer its libvirt.
HANGS_S = 60
HUNG = "libvirt took the resume, and QEMU on the destination does not answer it"


def take(wish: Wish, ends: Ends, tls: bool) -> None:
    """Return when the guest lives on the destination. Raises HostError or CannotConverge; both halves are then as before.

    What can go on by itself is not interrupted: not before it sent nothing for GOES_ON_S.
    """
    dom = live_migration.there(ends.source, wish.name)
    order = Order(
        wish.dest_uri,
        wish.migrate_uri,
        persistent=bool(dom.isPersistent()),
        tls=tls,
        tls_destination=wish.tls_destination,
        postcopy=True,
        resume=True,
    )
    sent, watched = Sent(), Watched(error="one of its halves did not answer, and libvirt was not asked")
    with progress_file.telling("kvm_migrate", wish.name) as tell:

        def on_sample(sample: Sample) -> None:
            sent.see(sample)
            tell(sample.progress("%s to %s" % (wish.name, wish.host)))

        while sent.nothing_for_s() < GOES_ON_S + REFUSES_S and _both_are_there(wish, ends):
            sample = live_migration.sample_of(dom, 0)
            if sample is not None:
                on_sample(sample)
            if sent.nothing_for_s() >= STANDS_STILL_S:
                if sent.nothing_for_s() >= GOES_ON_S:
                    live_migration.interrupt_postcopy(dom)
                watched = live_migration.migrate(dom, order, on_sample, Hang().steer)
                if watched.error in (None, HUNG):
                    break
            time.sleep(ASK_AGAIN_S)
    _tell(wish, ends, watched)


class Sent:
    """How long nothing was sent, by what libvirt says of the job."""

    def __init__(self) -> None:
        self._most, self._since = -1.0, time.monotonic()

    def see(self, sample: Sample) -> None:
        if sample.memory_processed_mib != self._most:
            self._most, self._since = sample.memory_processed_mib, time.monotonic()

    def nothing_for_s(self) -> float:
        return time.monotonic() - self._since


class Hang:
    """Leaves a resume to itself that sends nothing. It is never ended: that would be the end of the guest."""

    def __init__(self) -> None:
        self._most, self._since_s = -1.0, 0.0

    def steer(self, sample: Optional[Sample], elapsed_s: float) -> Sequence[Act]:
        if sample is not None and sample.memory_processed_mib != self._most:
            self._most, self._since_s = sample.memory_processed_mib, elapsed_s
        if elapsed_s - self._since_s < HANGS_S:
            return ()
        return (Act(LEAVE, HUNG),)


def _both_are_there(wish: Wish, ends: Ends) -> bool:
    return all(word in settlement.HALVES for word in both_say(wish, ends))


def _tell(wish: Wish, ends: Ends, watched: Watched) -> None:
    """Where the guest is; and of two halves that are still two, what libvirt said and a person can do."""
    here, there = both_say(wish, ends)
    if watched.error is None or not (here in settlement.HALVES and there in settlement.HALVES):
        settle(wish, ends, watched)
        return
    source, dest = ends.source.side, ends.dest.side
    where, dummy = settlement.told(settlement.BROKEN_OFF, here, there, source, dest)
    attempted = "Could not resume the post-copy of %s from %s to %s: %s" % (wish.name, source, dest, watched.error)
    why = HUNG if watched.error == HUNG else None
    raise CannotConverge(attempted, where, postcopy.by_hand(wish, source, dest, why))
