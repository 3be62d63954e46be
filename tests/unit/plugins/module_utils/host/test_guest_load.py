# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measuring a guest must never be able to harm it."""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import pytest

libvirt = pytest.importorskip("libvirt", reason="libvirt's Python binding (python3-libvirt) is not here")

from ansible_collections.kvmops.fleet.plugins.module_utils.host import guest_load, guest_pages  # noqa: E402

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
    return guest_load.Measuring(guest, 128).load().dirty_mib_s


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
START, SIZE, PAGE = 0x1000000, 16 * 1024**2, guest_pages.PAGE


def process(folder: Path, maps: str, full: Sequence[int], swapped: Sequence[int] = (), text: bytes = b"x") -> None:
    """A process whose pages of those numbers, counted from the start of the guest's memory, hold something."""
    (folder / "7").mkdir(exist_ok=True)
    (folder / "web1.pid").write_text("7\n")
    (folder / "7" / "maps").write_text(MAPS % maps)
    with open(folder / "7" / "mem", "wb") as memory, open(folder / "7" / "pagemap", "wb") as marks:
        memory.truncate(START + SIZE)
        marks.truncate((START + SIZE) // PAGE * 8)
        for kind, pages in ((guest_pages.PRESENT, full), (guest_pages.SWAPPED, swapped)):
            for page in pages:
                marks.seek((START // PAGE + page) * 8)
                marks.write(kind.to_bytes(8, sys.byteorder))
        for page in full:
            memory.seek(START + page * PAGE)
            memory.write(text)


def content(folder: Path) -> Optional[float]:
    """The share of the sample that is not empty."""
    seen = guest_pages.look("web1", SIZE, str(folder), str(folder))
    return None if seen is None else sum(page != guest_pages.EMPTY for page in seen) / len(seen)


HALF, QUARTER = range(2048), range(3072, 4096)


@pytest.mark.parametrize("maps", [WHOLE, SPLIT])
def test_pages_that_hold_something_are_counted(tmp_path: Path, maps: str) -> None:
    process(tmp_path, maps, HALF)
    assert content(tmp_path) == 0.5
    process(tmp_path, maps, HALF, swapped=QUARTER)
    assert content(tmp_path) == 0.75
    process(tmp_path, maps, [])
    assert content(tmp_path) == 0.0


def test_pages_that_are_present_and_empty_are_not(tmp_path: Path) -> None:
    process(tmp_path, WHOLE, range(4096), text=b"")
    assert content(tmp_path) == 0.0


def test_what_cannot_be_told_is_not_guessed(tmp_path: Path) -> None:
    for maps in (WHOLE.replace("02000000", "02001000"), WHOLE.replace("rw-p", "---p")):
        process(tmp_path, maps, [])
        assert content(tmp_path) is None
    assert guest_pages.look("nobody", SIZE, str(tmp_path), str(tmp_path)) is None


def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: Sequence[str], **more: float) -> Any:
    """Of 16 MiB half is in use; looks: what is in it at each look."""
    texts = iter(looks)

    def look(name: str, size: int) -> Any:
        process(tmp_path, WHOLE, HALF, text=next(texts).encode())
        return real("web1", size, str(tmp_path), str(tmp_path))

    def ratio(name: str, size: int, numbers: Sequence[int]) -> Any:
        return real_ratio("web1", size, numbers, str(tmp_path), str(tmp_path))

    real, real_ratio = guest_pages.look, guest_pages.ratio
    monkeypatch.setattr(guest_pages, "look", look)
    monkeypatch.setattr(guest_pages, "ratio", ratio)
    guest = Guest([libvirt.VIR_DOMAIN_DIRTYRATE_MEASURED])
    load = guest_load.Measuring(guest, 16, **more).load()
    assert guest.asked == [], "QEMU's smaller sample was asked for"
    return load


def test_our_own_sample_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = measured(tmp_path, monkeypatch, "abcd", quiet_mib=7.0)
    assert load.content_mib == 8.0 and load.dirty_mib_s is not None
    # The same half in both halves of the second; unless the machine was so busy that they were no halves.
    assert load.working_set_mib is None or load.working_set_mib == pytest.approx(8.0, rel=0.03)
    # On a busy machine the second is longer, and the rate lower.
    assert 0.5 < load.dirty_mib_s < 8.1
    assert load.compresses_by > 20 and load.written_compresses_by > 20


def test_a_quiet_guest_is_not_looked_at_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third look would end the test: there is no third text."""
    load = measured(tmp_path, monkeypatch, "aa")
    assert load.dirty_mib_s == 0.0 and load.content_mib == 8.0 and load.working_set_mib is None
    assert load.compresses_by > 20 and load.written_compresses_by is None


def test_random_bytes_do_not_compress(tmp_path: Path) -> None:
    process(tmp_path, WHOLE, HALF)
    with open(tmp_path / "7" / "mem", "r+b") as memory:
        memory.seek(START)
        memory.write(random.Random(2).randbytes(SIZE // 2))
    where = (str(tmp_path), str(tmp_path))
    assert guest_pages.ratio("web1", SIZE, range(1000), *where) == 1.0
    assert guest_pages.ratio("web1", SIZE, range(10), *where) is None, "too few to tell"
    assert guest_pages.ratio("nobody", SIZE, range(1000), *where) is None


def test_the_working_set_shows_where_the_second_half_brings_little_new() -> None:
    working_set, written = guest_load.saturation(300, 400, 0.5, 1.0)
    assert working_set == pytest.approx(450) and written == pytest.approx(450 * 1.0986 * 2, rel=0.01)
    # All of it in the first half already.
    working_set, _written = guest_load.saturation(400, 400, 0.5, 1.0)
    assert working_set == pytest.approx(408, rel=0.01)


@pytest.mark.parametrize("seen", [(200, 400, 0.5, 1.0), (20, 30, 0.5, 1.0), (0, 100, 0.5, 1.0), (300, 400, 0.9, 1.0)])
def test_or_it_is_not_told(seen: Tuple[int, int, float, float]) -> None:
    assert guest_load.saturation(*seen) == (None, None)
