# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the host takes for a confirmation of its new network, and what it does not."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import List

import pytest

FILE = Path(__file__).parents[4] / "roles" / "host_network" / "files" / "switch.py"
NOT_YET, BRING_BACK = 75, 76


@pytest.fixture(name="switch")
def fixture_switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The helper on a host where change number 1 is done and waits; `ran` are the commands that it ran."""
    spec = importlib.util.spec_from_file_location("switch", FILE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ran: List[str] = []
    for name in ("STATE", "PENDING", "BOOT_UNIT"):
        monkeypatch.setattr(module, name, str(tmp_path / name))
        (tmp_path / name).touch()
    monkeypatch.setattr(module, "FOLDER", str(tmp_path))
    monkeypatch.setattr(module, "run", lambda *words, check=True: ran.append(" ".join(words)))
    monkeypatch.setattr(module, "ran", ran, raising=False)
    module.write(module.STATE, {"id": "1", "state": "applied", "proof": "a secret of after the change"})
    return module


def test_a_question_alone_leaves_the_way_back_open(switch: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """It may have been asked over a connection of before the change, by a process that is late."""
    for _again in range(2):
        assert switch.main("confirm", "1") == BRING_BACK
        assert capsys.readouterr().out == "a secret of after the change\n"
    assert switch.main("confirm", "1", "not the proof") == BRING_BACK
    assert switch.read(switch.STATE)["state"] == "applied" and switch.ran == []
    assert Path(switch.PENDING).exists()


def test_the_proof_confirms(switch: ModuleType) -> None:
    assert switch.main("confirm", "1", "a secret of after the change") == 0
    assert switch.read(switch.STATE)["state"] == "confirmed"
    assert "systemctl stop kvmops-host-network-rollback.timer" in switch.ran
    assert not Path(switch.PENDING).exists()
    assert switch.main("confirm", "1") == 0


@pytest.mark.parametrize("state", [{"id": "0", "state": "confirmed"}, {"id": "1", "state": "applying"}, {}])
def test_a_question_before_the_change_is_told_to_wait(switch: ModuleType, state: dict[str, str]) -> None:
    switch.write(switch.STATE, state)
    assert switch.main("confirm", "1", "") == NOT_YET


def test_after_the_way_back_no_proof_helps(switch: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    switch.write(switch.STATE, {"id": "1", "state": "rolled back", "reason": "nobody came"})
    assert switch.main("confirm", "1", "a secret of after the change") == 1
    assert capsys.readouterr().out.startswith("nobody came\n")
