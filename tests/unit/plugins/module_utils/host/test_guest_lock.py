# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lock and the record of a run, with real processes that hold them and die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import guest_lock, progress_file
from ansible_collections.kvmops.fleet.plugins.module_utils.model import progress
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge, HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.move_record import MoveRecord, Standing
from ansible_collections.kvmops.fleet.plugins.module_utils.model.progress import Progress

RECORD = MoveRecord(host="kvm2", uuid="u", mode="live")

# Another run: takes the lock, writes its record and its progress, says so, and waits to be killed.
_RUN = """
import sys
from ansible_collections.kvmops.fleet.plugins.module_utils.host import guest_lock, progress_file
from ansible_collections.kvmops.fleet.plugins.module_utils.model.move_record import MoveRecord
from ansible_collections.kvmops.fleet.plugins.module_utils.model.progress import Progress
guest_lock.FOLDER = progress_file.FOLDER = sys.argv[1]
progress_file.path_of = lambda module, name: sys.argv[1] + "/progress.json"
with guest_lock.holding("web1") as held, progress_file.telling("kvm_migrate", "web1") as tell:
    held.write(MoveRecord(host="kvm2", uuid="u", mode="live"))
    tell(Progress("web1 to kvm2", "memory", 1, 3, 1, 1))
    print("holding", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(name="folder")
def fixture_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(guest_lock, "FOLDER", str(tmp_path))
    monkeypatch.setattr(progress_file, "FOLDER", str(tmp_path))
    monkeypatch.setattr(progress_file, "path_of", lambda module, name: str(tmp_path / "progress.json"))
    return tmp_path


def another_run(folder: Path) -> subprocess.Popen[str]:
    run = subprocess.Popen(
        [sys.executable, "-c", _RUN, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in sys.path if path)),
    )
    assert run.stdout is not None and run.stdout.readline() == "holding\n"
    return run


def test_one_at_a_time_and_nothing_is_left(folder: Path) -> None:
    with guest_lock.holding("web1") as held, guest_lock.holding("web2"):
        held.write(RECORD)
        assert guest_lock.standing("web1").alive and guest_lock.standing("web1").record.host == "kvm2"  # type: ignore[union-attr]
        with pytest.raises(guest_lock.Taken), guest_lock.holding("web1"):
            pass
        assert guest_lock.standing("web1").alive, "who did not get it takes nothing away"
    assert list(folder.iterdir()) == [] and guest_lock.standing("web1") == Standing()


def test_the_longest_name_has_a_lock_too(folder: Path) -> None:
    with guest_lock.holding("ü" * 125) as held, guest_lock.holding("ü" * 124 + "x"):
        held.write(RECORD)
        assert guest_lock.standing("ü" * 125).alive and not guest_lock.standing("ü" * 124 + "x").alive
    assert list(folder.iterdir()) == []


def test_where_nobody_may_write_there_is_no_move(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_lock, "FOLDER", str(folder / "file"))
    (folder / "file").write_text("")
    with pytest.raises(HostError) as failure, guest_lock.holding("web1"):
        pass
    assert "lock web1" in str(failure.value) and "Run as root" in str(failure.value)


def test_a_failure_leaves_nothing_but_when_nobody_knows_how_it_ended(folder: Path) -> None:
    with pytest.raises(HostError), guest_lock.holding("web1") as held:
        held.write(RECORD)
        raise HostError("move", "kvm1", "no")
    assert list(folder.iterdir()) == []
    with pytest.raises(CannotConverge), guest_lock.holding("web1") as held:
        held.write(RECORD)
        raise CannotConverge("move", "unknown", "look")
    assert [path.name for path in folder.iterdir()] == ["kvm_migrate-web1.run"]


def test_a_killed_run_leaves_its_record_and_no_lock(folder: Path) -> None:
    run = another_run(folder)
    with pytest.raises(guest_lock.Taken), guest_lock.holding("web1"):
        pass
    assert guest_lock.standing("web1").alive
    run.send_signal(signal.SIGKILL)
    run.wait(10)
    standing = guest_lock.standing("web1")
    assert standing.record is not None and standing.record.pid == run.pid and not standing.alive
    with guest_lock.holding("web1"):
        assert guest_lock.standing("web1") == standing, "it is read before it is written over"
    assert guest_lock.standing("web1") == Standing()


def test_a_pid_that_was_given_anew_is_not_that_run(folder: Path) -> None:
    with guest_lock.holding("web1") as held:
        held.write(RECORD)
        path = folder / "kvm_migrate-web1.run"
        path.write_text(path.read_text().replace('"started": ', '"started": 1'))
        assert not guest_lock.standing("web1").alive


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": "kvm2"}', '{"pid": null}'])
def test_a_broken_record_is_none(folder: Path, text: str) -> None:
    (folder / "kvm_migrate-web1.run").write_text(text)
    assert guest_lock.standing("web1") == Standing()


def test_a_zombie_is_no_living_run() -> None:
    stat = "12 (a (b) c) %s 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 8417 0 0"
    assert progress.start_of(stat % "S") == 8417 and progress.start_of(stat % "Z") is None
    assert progress.start_of("") is None


def test_progress_of_a_dead_run_is_removed_by_the_next(folder: Path) -> None:
    run = another_run(folder)
    run.send_signal(signal.SIGKILL)
    run.wait(10)
    assert (folder / "progress.json").exists()
    with progress_file.telling("kvm_migrate", "web1") as tell:
        assert not (folder / "progress.json").exists()
        tell(Progress("web1 to kvm2", "disk", 1, 3, 1, 1))
        assert '"pid": %d' % os.getpid() in (folder / "progress.json").read_text()
    assert not (folder / "progress.json").exists()
