# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the agent asks other programs and the kernel."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import List

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.p2v_agent import discovery, processes, tracing


def test_programs_are_asked_at_once_and_their_answers_keep_their_places() -> None:
    all_there = threading.Barrier(3)

    def asked(number: int) -> int:
        all_there.wait(10)
        return number

    assert processes.at_once([lambda: asked(1), lambda: asked(2), lambda: asked(3)]) == [1, 2, 3]


def test_a_failure_of_one_is_raised() -> None:
    with pytest.raises(processes.Failed, match="cat /no/such/file"):
        processes.at_once([lambda: 1, lambda: processes.run(["cat", "/no/such/file"])])


@pytest.mark.parametrize(("error", "kept"), [(0, True), (15_999_999, True), (16_000_000, False), (None, None)])
def test_a_clock_whose_error_has_grown_to_its_limit_is_kept_by_nobody(
    monkeypatch: pytest.MonkeyPatch, error: int, kept: bool
) -> None:
    monkeypatch.setattr(processes, "clock_error_us", lambda: error)
    assert discovery.clock() is kept


def test_the_kernel_tells_the_error_of_its_clock() -> None:
    assert 0 <= processes.clock_error_us() <= discovery.UNSYNCHRONISED_US


@pytest.mark.parametrize(("number", "fails"), [(errno.EBUSY, False), (errno.EACCES, True)])
def test_an_instance_that_somebody_reads_is_nobodys_leftover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, fails: bool
) -> None:
    folder = tmp_path / "instances"
    for name in ("kvmops-p2v-read-0", "kvmops-p2v-dead-0", "somebody-elses"):
        (folder / name).mkdir(parents=True)
    tried: List[str] = []

    def remove(path: str) -> None:
        tried.append(os.path.basename(path))
        if "read" in path:
            raise OSError(number, os.strerror(number))
        os.rmdir(path)

    monkeypatch.setattr(tracing, "remove", remove)
    tracker = tracing.Tracker(str(tmp_path), "run", [])
    if fails:
        with pytest.raises(OSError, match="Permission denied"):
            tracker._clear_old()
        return
    tracker._clear_old()
    assert sorted(tried) == ["kvmops-p2v-dead-0", "kvmops-p2v-read-0"]
    assert sorted(path.name for path in folder.iterdir()) == ["kvmops-p2v-read-0", "somebody-elses"]
