# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a running guest does to its memory, measured without touching it."""

from __future__ import annotations

import re
import threading
import time
from typing import Any, Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import libvirt
from ansible_collections.kvmops.fleet.plugins.module_utils.model.prediction import Load

# libvirt takes 1 to 60 s.
MEASURED_S = 1
# QEMU reads its samples a second time after that; on a busy host it takes a while.
WITHIN_S = 5.0
PAGE_SAMPLING = 0

RUNTIME = "/run/libvirt/qemu"


class Measuring:
    """Starts at once, and is ready a second later: load() waits for the rest."""

    def __init__(self, dom: Any) -> None:
        self._dom = dom
        self._since = time.monotonic()
        self._began = self._start()

    def _start(self) -> bool:
        """Page sampling only, whatever the host offers: the other modes kill QEMU 7.2 where it emulates the processor."""
        try:
            self._dom.startDirtyRateCalc(MEASURED_S, PAGE_SAMPLING)
        except libvirt.libvirtError:
            return False  # libvirt before 7.2, or busy with the domain: a move is possible without knowing
        return True

    def load(self, memory_mib: int) -> Load:
        """What was measured. memory_mib: size of the guest's memory."""
        return Load(self._rate() if self._began else None, resident_mib(self._dom.name(), memory_mib))

    def _rate(self) -> Optional[float]:
        threading.Event().wait(max(0.0, self._since + MEASURED_S - time.monotonic()))
        deadline = self._since + MEASURED_S + WITHIN_S
        while time.monotonic() < deadline:
            try:
                ((_dom, stats),) = self._dom.connect().domainListGetStats(
                    [self._dom], libvirt.VIR_DOMAIN_STATS_DIRTYRATE
                )
            except (libvirt.libvirtError, ValueError):
                return None
            if stats.get("dirtyrate.calc_status") == libvirt.VIR_DOMAIN_DIRTYRATE_MEASURED:
                return float(stats.get("dirtyrate.megabytes_per_second", 0))
            threading.Event().wait(0.05)
        return None


def resident_mib(name: str, memory_mib: int, runtime: str = RUNTIME, proc: str = "/proc") -> Optional[int]:
    """How much of the guest's memory was ever written to, from the memory map of its QEMU. None: it cannot be told."""
    try:
        with open("%s/%s.pid" % (runtime, name), encoding="ascii") as file:
            pid = int(file.read())
        with open("%s/%d/smaps" % (proc, pid), encoding="ascii", errors="replace") as file:
            return _resident_of(file.read(), memory_mib)
    except (OSError, ValueError):
        return None


def _resident_of(smaps: str, memory_mib: int) -> Optional[int]:
    """Of the anonymous mappings that together are the guest's memory; the kernel may have split it."""
    rows = re.findall(
        r"^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \S+ *(\S*)\n(?:[A-Z]\w+:.*\n)*?Rss: +(\d+) kB", smaps, re.MULTILINE
    )
    size = resident = 0
    end = None
    for start, stop, path, rss in rows:
        if path:
            end = None
            continue
        if start != end:
            size = resident = 0
        size += int(stop, 16) - int(start, 16)
        resident += int(rss)
        end = stop
        if size == memory_mib * 1024**2:
            return resident // 1024
    return None
