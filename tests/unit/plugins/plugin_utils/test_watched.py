# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the controller shows of a run's progress file, read by the very command that it sends to the host."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host.guest_lock import start_of_process
from ansible_collections.kvmops.fleet.plugins.module_utils.model.progress import Progress
from ansible_collections.kvmops.fleet.plugins.plugin_utils.watched import LOOK, line_of, with_cause

NOW = datetime(2026, 1, 2, 3, 4, 5)
PROGRESS = Progress("web1 to kvm2", "memory", done_mib=10, remaining_mib=30, rate_mib_s=2, elapsed_s=5)


def look(path: Path) -> str:
    words = LOOK % shlex.quote(str(path))
    return subprocess.run(["sh", "-c", words], capture_output=True, text=True, check=False).stdout


def told(path: Path, pid: int, started: object) -> str:
    path.write_text(json.dumps(dict(PROGRESS.__dict__, pid=pid, started=started)) + "\n")
    return look(path)


def test_a_living_run_is_shown_with_its_expected_end(tmp_path: Path) -> None:
    line = line_of(told(tmp_path / "a b.json", os.getpid(), start_of_process(os.getpid())), NOW)
    assert line == "web1 to kvm2  memory  25 %  2.0 MiB/s  30 MiB left  15 s left, ends at 03:04:20"


def test_a_dead_run_is_not(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    started = start_of_process(ended.pid)
    ended.wait()
    assert line_of(told(tmp_path / "x.json", ended.pid, started), NOW) is None
    assert line_of(told(tmp_path / "x.json", os.getpid(), 1), NOW) is None, "its number was given to another process"
    assert line_of(json.dumps(PROGRESS.__dict__) + "\n", NOW) is None, "nobody's"


def test_no_file_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        line_of(look(tmp_path / "none.json"), NOW)


def test_no_end_is_told_when_nothing_moves() -> None:
    assert Progress("x", "memory", 1, 1, 0, 1).line_until(None).endswith("1 MiB left  -")


def test_no_result_is_told_with_what_it_means() -> None:
    done = {"failed": True, "_ansible_parsed": False, "msg": "Module result deserialization failed.", "rc": 137}
    told = with_cause(done, "web1", "kvm1")
    assert told["msg"].startswith("The run for web1 on kvm1 ended without a result (exit status 137)")
    assert "Run the same task again" in told["msg"] and told["msg"].endswith("Module result deserialization failed.")
    assert {**told, "msg": ""} == {**done, "msg": ""}


@pytest.mark.parametrize(
    "done",
    [
        {"failed": True, "_ansible_parsed": True, "msg": "refused"},
        {"failed": True, "_ansible_parsed": False, "msg": "The module interpreter '/x' was not found."},
        {"changed": False},
    ],
)
def test_other_results_stay_as_they_are(done: dict[str, object]) -> None:
    assert with_cause(done, "web1", "kvm1") is done
