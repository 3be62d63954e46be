# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The watchdog switches a frozen machine off once it was told to, whatever becomes of the agent; a file is the switch here."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.p2v_agent import watchdog


class Running:
    """A watchdog in a thread, with a freeze of nothing."""

    def __init__(self, trigger: Path) -> None:
        self.trigger = trigger
        self._ours, theirs = socket.socketpair()
        self._ours.settimeout(10)
        self._lines = self._ours.makefile("rb")
        self._thread = threading.Thread(target=watchdog.Watchdog(theirs, str(trigger)).run, daemon=True)
        self._thread.start()
        assert self.ask("freeze", points=[], limit_s=600) == {"ok": {"frozen": [], "cannot": []}}

    def ask(self, word: str, **said: Any) -> Any:
        self._ours.sendall(json.dumps(dict(said, do=word)).encode() + b"\n")
        return json.loads(self._lines.readline())

    def is_frozen(self) -> bool:
        return bool(self.ask("alive")["ok"]["frozen"])

    def hang_up(self) -> None:
        self._ours.shutdown(socket.SHUT_RDWR)

    def ends_within(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def close(self) -> None:
        self._lines.close()
        self._ours.close()


@pytest.fixture(name="trigger")
def fixture_trigger(tmp_path: Path) -> Path:
    path = tmp_path / "trigger"
    path.touch()
    return path


@pytest.fixture(name="running")
def fixture_running(trigger: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setattr(watchdog, "STAYS_ON_S", 1.0)
    made = Running(trigger)
    yield made
    made.close()


def test_the_answer_comes_before_the_machine_is_off_and_nothing_is_thawed(running: Running) -> None:
    assert running.ask("leave") == {"ok": {}} and running.trigger.read_text() == ""
    assert running.is_frozen()
    deadline = time.monotonic() + 10
    while not running.trigger.read_text() and time.monotonic() < deadline:
        assert running.is_frozen()
    assert running.trigger.read_text() == "o" and running.is_frozen()


def test_an_agent_that_is_gone_changes_nothing(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "LEAVES_AFTER_S", 60.0)
    assert running.ask("leave") == {"ok": {}}
    running.hang_up()
    deadline = time.monotonic() + 10
    while not running.trigger.read_text():
        assert time.monotonic() < deadline
    # It would thaw if it ended.
    assert not running.ends_within(0.3)


def test_a_machine_that_stays_on_is_thawed_in_the_end(running: Running) -> None:
    running.ask("leave")
    deadline = time.monotonic() + 10
    while running.trigger.read_text() != "o":
        assert time.monotonic() < deadline
    running.hang_up()
    assert running.ends_within(10)


def test_a_thaw_takes_the_order_back(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "LEAVES_AFTER_S", 60.0)
    running.ask("leave")
    assert running.ask("thaw") == {"ok": {}} and not running.is_frozen()
    running.hang_up()
    assert running.ends_within(10) and running.trigger.read_text() == ""


def test_a_machine_that_cannot_be_switched_off_says_so_and_is_thawed_as_before(running: Running) -> None:
    running.trigger.unlink()
    assert running.ask("leave")["error"]["errno"] == 2 and running.is_frozen()
    running.hang_up()
    assert running.ends_within(10)
