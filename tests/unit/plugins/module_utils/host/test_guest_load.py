# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measuring a guest must never be able to harm it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

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


def rate(guest: Guest) -> Optional[float]:
    return guest_load.Measuring(guest).load(128).dirty_mib_s


def test_the_rate_is_read_when_it_was_measured() -> None:
    measuring, measured = libvirt.VIR_DOMAIN_DIRTYRATE_MEASURING, libvirt.VIR_DOMAIN_DIRTYRATE_MEASURED
    guest = Guest([measuring, measured])
    assert rate(guest) == 12.0 and guest.asked == [(1, 0)]


def test_without_it_a_move_is_possible_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_load, "WITHIN_S", 0.1)
    assert rate(Guest([libvirt.VIR_DOMAIN_DIRTYRATE_MEASURING])) is None
    assert rate(Guest([0], refuses=True)) is None


MAPS = """\
55d0c0000000-55d0c0001000 r--p 00000000 00:2f 123                        /usr/bin/qemu-system-x86_64
%s
7fffff000000-7fffff001000 rw-p 00000000 00:00 0                          [stack]
"""
# Sixteen MiB from address 0x1000000 on: in one mapping, and in two side by side.
WHOLE = "01000000-02000000 rw-p 00000000 00:00 0"
SPLIT = "01000000-01800000 rw-p 00000000 00:00 0\n01800000-02000000 rw-s 00000000 00:00 0"
START, SIZE = 0x1000000, 16 * 1024**2


def content(folder: Path, maps: str, full: List[int], swapped: Sequence[int] = ()) -> Optional[float]:
    """A process whose pages of those numbers, counted from the start of the guest's memory, hold something."""
    (folder / "7").mkdir(exist_ok=True)
    (folder / "web1.pid").write_text("7\n")
    (folder / "7" / "maps").write_text(maps)
    with open(folder / "7" / "mem", "wb") as memory, open(folder / "7" / "pagemap", "wb") as marks:
        memory.truncate(START + SIZE)
        marks.truncate((START + SIZE) // guest_load.PAGE * 8)
        for kind, pages in ((guest_load.PRESENT, full), (guest_load.SWAPPED, swapped)):
            for page in pages:
                marks.seek((START // guest_load.PAGE + page) * 8)
                marks.write(kind.to_bytes(8, sys.byteorder))
        for page in full:
            memory.seek(START + page * guest_load.PAGE)
            memory.write(b"x")
    return guest_load.content_mib("web1", 16, str(folder), str(folder))


@pytest.mark.parametrize("maps", [WHOLE, SPLIT])
def test_pages_that_hold_something_are_counted(tmp_path: Path, maps: str) -> None:
    half, quarter = list(range(2048)), list(range(3072, 4096))
    assert content(tmp_path, MAPS % maps, half) == 8.0
    assert content(tmp_path, MAPS % maps, half, swapped=quarter) == 12.0
    assert content(tmp_path, MAPS % maps, []) == 0.0


def test_pages_that_are_present_and_empty_are_not(tmp_path: Path) -> None:
    assert content(tmp_path, MAPS % WHOLE, list(range(4096))) == 16.0
    (tmp_path / "7" / "mem").write_bytes(b"")
    with open(tmp_path / "7" / "mem", "wb") as memory:
        memory.truncate(START + SIZE)
    assert guest_load.content_mib("web1", 16, str(tmp_path), str(tmp_path)) == 0.0


def test_what_cannot_be_told_is_not_guessed(tmp_path: Path) -> None:
    assert content(tmp_path, MAPS % WHOLE.replace("02000000", "02001000"), []) is None
    assert content(tmp_path, MAPS % WHOLE.replace("rw-p", "---p"), []) is None
    assert guest_load.content_mib("nobody", 16, str(tmp_path), str(tmp_path)) is None
