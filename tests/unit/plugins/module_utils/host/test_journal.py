# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Notes and the lock, on real files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import far_side, journal
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import HERE
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.journal import LEAVING, Journal

UUID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture(name="_places", autouse=True)
def fixture_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far_side, "JOURNALS", str(tmp_path / "notes"))
    monkeypatch.setattr(journal, "LOCKS", str(tmp_path / "locks"))


def test_a_note_is_kept_with_inodes_read_and_forgotten(tmp_path: Path) -> None:
    image = tmp_path / "web1.qcow2"
    image.write_bytes(b"x")
    note = Journal("r", "web1", UUID, "live", "kvm1", "kvm2", "a", "b", created=(str(image),))
    kept = journal.keep(HERE, LEAVING, note, [str(image)])
    assert kept.made == {str(image): image.stat().st_ino}
    images, found = journal.survey(HERE, [], LEAVING, UUID)
    assert found == kept and images[str(image)].exists
    journal.forget(HERE, LEAVING, UUID)
    assert journal.survey(HERE, [], LEAVING, UUID) == ({}, None)


def test_a_damaged_note_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes" / LEAVING / (UUID + ".json")
    path.parent.mkdir(parents=True)
    path.write_text('{"created": [], "temporary": [], "phase": "elsewhere"}')
    with pytest.raises(HostError, match=str(path)):
        journal.survey(HERE, [], LEAVING, UUID)


def test_one_run_at_a_time_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    assert not journal.is_held(UUID) and not (tmp_path / "locks").exists()
    with journal.alone(UUID, "web1"):
        assert journal.is_held(UUID)
        with pytest.raises(HostError, match="another run is moving it now"), journal.alone(UUID, "web1"):
            pass
    path = tmp_path / "locks" / ("moving-%s.lock" % UUID)
    hold = "import fcntl,sys,time; f=open(sys.argv[1]); fcntl.flock(f,fcntl.LOCK_EX); print('held',flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", hold, str(path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    assert journal.is_held(UUID)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert not journal.is_held(UUID)
    with journal.alone(UUID, "web1"):
        pass
