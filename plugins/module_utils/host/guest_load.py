# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a running guest does to its memory, measured without touching it."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace
from typing import Any, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import guest_pages
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import libvirt
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import MIB
from ansible_collections.kvmops.fleet.plugins.module_utils.model.prediction import Load

# libvirt takes 1 to 60 s.
MEASURED_S = 1
# QEMU reads its samples a second time after that; on a busy host it takes a while.
WITHIN_S = 5.0
PAGE_SAMPLING = 0
# Of its pages QEMU samples so many per GiB (migration/dirtyrate.h, DIRTYRATE_DEFAULT_SAMPLE_PAGES).
QEMU_SAMPLES_PER_GIB = 512
# With fewer changed pages, or more of them new in the second half, chance decides what the working set seems to be.
FEWEST_PAGES = 64
MOST_LEFT = 0.8


class Measuring:
    """Starts at once, and is ready a second later: load() waits for the rest. memory_mib: size of the guest's memory."""

    def __init__(self, dom: Any, memory_mib: int) -> None:
        self._dom, self._memory_mib = dom, memory_mib
        self._since = time.monotonic()
        self._began = self._start()
        self._before = guest_pages.look(dom.name(), memory_mib * MIB)

    def _start(self) -> bool:
        """Page sampling only, whatever the host offers: the other modes kill QEMU 7.2 where it emulates the processor."""
        try:
            self._dom.startDirtyRateCalc(MEASURED_S, PAGE_SAMPLING)
        except libvirt.libvirtError:
            return False  # libvirt before 7.2, or busy with the domain: a move is possible without knowing
        return True

    def load(self) -> Load:
        """QEMU's sample is small; a larger one of our own, of the same kind and the same second, is counted with it."""
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
        """From three looks: at the start, in the middle, at the end of the second."""
        looks = [self._before]
        times = [0.0]
        for part in (0.5, 1.0):
            threading.Event().wait(max(0.0, self._since + MEASURED_S * part - time.monotonic()))
            looks.append(guest_pages.look(self._dom.name(), self._memory_mib * MIB))
            times.append(time.monotonic() - self._since)
        first, middle, last = looks
        if first is None or middle is None or last is None or len({len(look) for look in looks if look}) != 1:
            return None
        per_page = self._memory_mib / float(len(last))
        half = sum(1 for old, new in zip(first, middle) if old != new)
        whole = sum(1 for old, new in zip(first, last) if old != new)
        working_set, written = saturation(half, whole, times[1], times[2])
        return Load(
            dirty_mib_s=whole * per_page / times[2],
            content_mib=per_page * sum(1 for page in last if page != guest_pages.EMPTY),
            working_set_mib=None if working_set is None else working_set * per_page,
            written_mib_s=None if written is None else written * per_page,
        )


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
