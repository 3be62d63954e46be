# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a running guest does to its memory, measured without touching it."""

from __future__ import annotations

import threading
import time
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
        theirs = self._rate() if self._began else None
        ours, content = self._own()
        if theirs is None or ours is None:
            return Load(theirs if ours is None else ours, content)
        weight = self._memory_mib * QEMU_SAMPLES_PER_GIB / 1024.0
        own = float(guest_pages.SAMPLED_PAGES)
        return Load((weight * theirs + own * ours) / (weight + own), content)

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

    def _own(self) -> Tuple[Optional[float], Optional[float]]:
        """MiB/s written to, and MiB that are not empty."""
        if self._before is None:
            return None, None
        threading.Event().wait(max(0.0, self._since + MEASURED_S - time.monotonic()))
        seconds = time.monotonic() - self._since
        after = guest_pages.look(self._dom.name(), self._memory_mib * MIB)
        if after is None or len(after) != len(self._before):
            return None, None
        per_page = self._memory_mib / float(len(after))
        changed = sum(1 for old, new in zip(self._before, after) if old != new)
        full = sum(1 for page in after if page != guest_pages.EMPTY)
        return changed * per_page / seconds, full * per_page
