# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measuring a guest must never be able to harm it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest

libvirt = pytest.importorskip("libvirt")

from ansible_collections.kvmops.fleet.plugins.module_utils.host import guest_load  # noqa: E402

PLUGINS = Path(guest_load.__file__).resolve().parents[2]


def test_no_other_mode_than_page_sampling_is_named_anywhere() -> None:
    """The modes dirty-bitmap and dirty-ring end a QEMU 7.2 that emulates its processor, and the guest with it."""
    for path in PLUGINS.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"DIRTY_BITMAP|DIRTY_RING|dirty-bitmap|dirty-ring|calc-dirty-rate", text), path
        calls = re.findall(r"startDirtyRateCalc\((.*)\)", text)
        assert all(arguments == "MEASURED_S, PAGE_SAMPLING" for arguments in calls), path
    assert guest_load.PAGE_SAMPLING == libvirt.VIR_DOMAIN_DIRTYRATE_MODE_PAGE_SAMPLING == 0


class Guest:
    """Answers as libvirt does. statuses: of the calculation, one after the other."""

    def __init__(self, statuses: List[int], refuses: bool = False) -> None:
        self.asked: List[Tuple[int, int]] = []
        self._statuses, self._refuses = statuses, refuses

    def startDirtyRateCalc(self, seconds: int, flags: int = 0) -> None:
        self.asked.append((seconds, flags))
        if self._refuses:
            raise libvirt.libvirtError("busy")

    def connect(self) -> Guest:
        return self

    def name(self) -> str:
        return "no-such-guest"

    def domainListGetStats(self, domains: List[Any], kind: int) -> List[Tuple[Any, Dict[str, int]]]:
        status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
        return [(self, {"dirtyrate.calc_status": status, "dirtyrate.megabytes_per_second": 12})]


def rate(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> Optional[float]:
    monkeypatch.setattr(guest_load, "WITHIN_S", 0.3)
    return guest_load.Measuring(guest).load(128).dirty_mib_s


def test_the_rate_is_read_when_it_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    measuring, measured = libvirt.VIR_DOMAIN_DIRTYRATE_MEASURING, libvirt.VIR_DOMAIN_DIRTYRATE_MEASURED
    guest = Guest([measuring, measured])
    assert rate(guest, monkeypatch) == 12.0 and guest.asked == [(1, 0)]


def test_without_it_a_move_is_possible_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rate(Guest([libvirt.VIR_DOMAIN_DIRTYRATE_MEASURING]), monkeypatch) is None
    assert rate(Guest([0], refuses=True), monkeypatch) is None


SMAPS = """\
55d0c0000000-55d0c0001000 r--p 00000000 00:2f 123                        /usr/bin/qemu-system-x86_64
Size:                  4 kB
Rss:                   4 kB
VmFlags: rd mr mw me
7f0000000000-7f0004000000 rw-p 00000000 00:00 0 %s
Size:              65536 kB
KernelPageSize:        4 kB
Rss:               20480 kB
VmFlags: rd wr mr mw me dd
7f0004000000-7f0008000000 rw-p 00000000 00:00 0 %s
Size:              65536 kB
Rss:                1024 kB
7f0009000000-7f0009001000 rw-p 00000000 00:00 0 [stack]
Rss:                   8 kB
"""


def resident(folder: Path, smaps: str, memory_mib: int) -> Optional[int]:
    (folder / "7").mkdir(exist_ok=True)
    (folder / "web1.pid").write_text("7\n")
    (folder / "7" / "smaps").write_text(smaps)
    return guest_load.resident_mib("web1", memory_mib, str(folder), str(folder))


def test_what_was_written_to_is_read_from_the_memory_map(tmp_path: Path) -> None:
    assert resident(tmp_path, SMAPS % ("", ""), 128) == 21
    assert resident(tmp_path, SMAPS % ("", ""), 64) == 20
    assert resident(tmp_path, SMAPS % ("/memfd:pc.ram", ""), 128) is None
    assert resident(tmp_path, SMAPS % ("", ""), 256) is None
    assert guest_load.resident_mib("nobody", 128, str(tmp_path), str(tmp_path)) is None
