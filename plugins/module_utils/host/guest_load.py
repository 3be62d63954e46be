# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a running guest does to its memory, measured without touching it."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace
from typing import Any, List, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import guest_pages
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import libvirt
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import MIB
from ansible_collections.kvmops.fleet.plugins.module_utils.model.prediction import Load

# libvirt takes 1 to 60 s.
MEASURED_S = 1
# A guest that has written next to nothing by then is quiet.
QUIET_S = 0.15
# QEMU reads its samples a second time after that; on a busy host it takes a while.
WITHIN_S = 5.0
PAGE_SAMPLING = 0
# Of its pages QEMU samples so many per GiB (migration/dirtyrate.h, DIRTYRATE_DEFAULT_SAMPLE_PAGES).
QEMU_SAMPLES_PER_GIB = 512
# With fewer changed pages, or more of them new in the second half, chance decides what the working set seems to be.
FEWEST_PAGES = 64
MOST_LEFT = 0.8


class Measuring:
    """Starts at once; load() waits for the rest of a second, or less. memory_mib: size of the guest's memory.

    quiet_mib: when so little at most has changed after QUIET_S, that is known well enough.
    """

    def __init__(self, dom: Any, memory_mib: int, quiet_mib: float = 0.0) -> None:
        self._dom, self._memory_mib, self._quiet_mib = dom, memory_mib, quiet_mib
        self._since = time.monotonic()
        self._before = guest_pages.look(dom.name(), memory_mib * MIB)
        # QEMU is asked only where its sample is the larger one.
        small = memory_mib * QEMU_SAMPLES_PER_GIB <= guest_pages.SAMPLED_PAGES * 1024
        self._began = False if self._before is not None and small else self._start()

    def _start(self) -> bool:
        """Page sampling only, whatever the host offers: the other modes kill QEMU 7.2 where it emulates the processor."""
        try:
            self._dom.startDirtyRateCalc(MEASURED_S, PAGE_SAMPLING)
        except libvirt.libvirtError:
            return False  # libvirt before 7.2, or busy with the domain: a move is possible without knowing
        return True

    def load(self) -> Load:
        """Our own sample, of the same kind and the same second as QEMU's, is counted with it."""
        own = self._own()
        theirs = self._rate() if self._began else None
        if own is None or own.dirty_mib_s is None:
            return Load(dirty_mib_s=theirs)
        if theirs is None:
            return own
        weight, ours = self._memory_mib * QEMU_SAMPLES_PER_GIB / 1024.0, float(guest_pages.SAMPLED_PAGES)
        return replace(own, dirty_mib_s=(weight * theirs + ours * own.dirty_mib_s) / (weight + ours))

    def _rate(self) -> Optional[float]:
        threading.Event().wait(max(0.0, self._since + MEASURED_S - time.monotonic()))
        deadline = self._since + MEASURED_S + WITHIN_S
        while True:
            try:
                ((_dom, stats),) = self._dom.connect().domainListGetStats(
                    [self._dom], libvirt.VIR_DOMAIN_STATS_DIRTYRATE
                )
            except (libvirt.libvirtError, ValueError):
                return None
            if stats.get("dirtyrate.calc_status") == libvirt.VIR_DOMAIN_DIRTYRATE_MEASURED:
                return float(stats.get("dirtyrate.megabytes_per_second", 0))
            if time.monotonic() > deadline:
                return None
            threading.Event().wait(0.05)

    def _own(self) -> Optional[Load]:
        """From looks at the start, in the middle, at the end of the second; a quiet guest is not looked at for so long."""
        first = self._before
        early, early_s = self._look_at(QUIET_S)
        if first is None or early is None or len(early) != len(first):
            return None
        per_page = self._memory_mib / float(len(first))
        changed = _changed(first, early)
        if len(changed) * per_page <= self._quiet_mib:
            self._began = False
            return self._load(early, changed, per_page, early_s)
        middle, middle_s = self._look_at(MEASURED_S * 0.5)
        last, last_s = self._look_at(float(MEASURED_S))
        if middle is None or last is None or not len(first) == len(middle) == len(last):
            return None
        changed = _changed(first, last)
        working_set, written = saturation(len(_changed(first, middle)), len(changed), middle_s, last_s)
        return replace(
            self._load(last, changed, per_page, last_s),
            working_set_mib=None if working_set is None else working_set * per_page,
            written_mib_s=None if written is None else written * per_page,
        )

    def _look_at(self, seconds: float) -> Tuple[Optional[guest_pages.Sums], float]:
        """So long after the start; and when that really was."""
        threading.Event().wait(max(0.0, self._since + seconds - time.monotonic()))
        seen = guest_pages.look(self._dom.name(), self._memory_mib * MIB)
        return seen, time.monotonic() - self._since

    def _load(self, seen: guest_pages.Sums, changed: Sequence[int], per_page: float, seconds: float) -> Load:
        held = [number for number, page in enumerate(seen) if page not in (None, guest_pages.EMPTY)]
        return Load(
            dirty_mib_s=len(changed) * per_page / seconds,
            content_mib=per_page * sum(1 for page in seen if page != guest_pages.EMPTY),
            compresses_by=self._ratio(held),
            written_compresses_by=self._ratio([number for number in changed if number in set(held)]),
        )

    def _ratio(self, numbers: Sequence[int]) -> Optional[float]:
        return guest_pages.ratio(self._dom.name(), self._memory_mib * MIB, numbers)


def _changed(old: guest_pages.Sums, new: guest_pages.Sums) -> List[int]:
    return [number for number, (was, now) in enumerate(zip(old, new)) if was != now]


def saturation(half: int, whole: int, middle_s: float, end_s: float) -> Tuple[Optional[float], Optional[float]]:
    """(working set, written per second) in pages, from how many had changed in the middle and at the end.

    From D(t) = W (1 - e^(-d t / W)). (None, None) when too few changed, or as many in each half: then it is large.
    """
    if whole < FEWEST_PAGES or half <= 0 or not 1.6 < end_s / middle_s < 2.5:
        return None, None
    # With twice the time, the whole over the half is 1 + e^(-d t / W).
    left = min(1.0, max(0.02, whole / float(half) - 1.0))
    if left > MOST_LEFT:
        return None, None
    working_set = half / (1.0 - left)
    return working_set, -working_set * math.log(left) / middle_s
