# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a running guest does to its memory, measured without touching it."""

from __future__ import annotations

import os
import re
import struct
import threading
import time
from typing import Any, Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import libvirt
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import MIB
from ansible_collections.kvmops.fleet.plugins.module_utils.model.prediction import Load

# libvirt takes 1 to 60 s.
MEASURED_S = 1
# QEMU reads its samples a second time after that; on a busy host it takes a while.
WITHIN_S = 5.0
PAGE_SAMPLING = 0

RUNTIME = "/run/libvirt/qemu"
PAGE = 4096
EMPTY = bytes(PAGE)
# One standard deviation is at most 1.6 % of the memory then.
SAMPLED_PAGES = 1024
# Documentation/admin-guide/mm/pagemap.rst of the kernel: one such word per page.
_MARK = struct.Struct("=Q")
PRESENT, SWAPPED = 1 << 63, 1 << 62


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
        return Load(self._rate() if self._began else None, content_mib(self._dom.name(), memory_mib))

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


def content_mib(name: str, memory_mib: int, runtime: str = RUNTIME, proc: str = "/proc") -> Optional[float]:
    """How much of the guest's memory is not empty, from a sample of its pages. None: it cannot be told.

    An empty page is sent as a mark. Pages that were never written to are not read: the kernel might have to make them.
    """
    try:
        with open("%s/%s.pid" % (runtime, name), encoding="ascii") as file:
            process = "%s/%d" % (proc, int(file.read()))
        with open(process + "/maps", encoding="ascii", errors="replace") as file:
            start = _start_of(file.read(), memory_mib * MIB)
        if start is None:
            return None
        with open(process + "/pagemap", "rb", buffering=0) as marks, open(
            process + "/mem", "rb", buffering=0
        ) as memory:
            return memory_mib * _share(start, memory_mib * MIB, marks.fileno(), memory.fileno())
    except (OSError, ValueError):
        return None


def _start_of(maps: str, size: int) -> Optional[int]:
    """Where the guest's memory begins in QEMU's: mappings side by side, as the kernel may have split it."""
    rows = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) rw", maps, re.MULTILINE)
    begin = end = 0
    for start, stop in [(int(start, 16), int(stop, 16)) for start, stop in rows]:
        if stop - start == size:
            return start
        begin, end = (begin if start == end else start), stop
        if end - begin == size:
            return begin
    return None


def _share(start: int, size: int, marks: int, memory: int) -> float:
    pages = size // PAGE
    looked = min(pages, SAMPLED_PAGES)
    full = 0
    for number in range(looked):
        page = (start + size * number // looked) // PAGE
        (mark,) = _MARK.unpack(os.pread(marks, _MARK.size, page * _MARK.size))
        if mark & SWAPPED or (mark & PRESENT and os.pread(memory, PAGE, page * PAGE) != EMPTY):
            full += 1
    return full / float(looked)
