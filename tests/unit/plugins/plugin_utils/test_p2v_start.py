# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who starts the agent, when, with what key, and what is said when it does not start."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Dict, List

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host.guest_lock import start_of_process
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import run_id
from ansible_collections.kvmops.fleet.plugins.plugin_utils import p2v_start

RECEIVER = p2v_start.Receiver("10.0.0.1", 22, ["ssh-ed25519 AAAA root@kvm1", "", "ssh-rsa BBBB"])


def told(phase: str, started: Any) -> str:
    stat = Path("/proc/self/stat").read_text()
    return json.dumps({"phase": phase, "pid": os.getpid(), "started": started}) + "\n" + stat


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (told("wait", start_of_process(os.getpid())), True),
        (told("copy", start_of_process(os.getpid())), False),
        (told("wait", 1), False),
        ("", False),
        ("[1]\nx", False),
    ],
)
def test_only_a_living_run_that_waits_gets_an_agent(answer: str, expected: bool) -> None:
    assert p2v_start.waits(answer) is expected


def test_the_key_is_one_that_openssh_takes(tmp_path: Path) -> None:
    key = p2v_start.new_key()
    path = tmp_path / "key"
    path.write_text(key["private"])
    path.chmod(0o600)
    said = subprocess.run(["ssh-keygen", "-y", "-f", str(path)], check=True, capture_output=True, text=True).stdout
    assert said.split()[:2] == key["public"].split()
    assert p2v_start.new_key()["public"] != key["public"]


def test_the_agent_knows_the_receiver_and_trusts_nobody_else() -> None:
    key = p2v_start.new_key()
    made = p2v_start.settings(key, RECEIVER, 3, ["sda"])
    assert made["files"]["known_hosts"] == "10.0.0.1 ssh-ed25519 AAAA\n10.0.0.1 ssh-rsa BBBB\n"
    assert made["run"] == run_id(key["public"]) and made["connections"] == 3 and made["disks"] == ["sda"]
    assert "StrictHostKeyChecking=yes" in made["dial"] and key["private"] not in str(made["dial"])
    assert made["dial"][-2:] == ["root@10.0.0.1", "kvmops-p2v"]
    other = p2v_start.Receiver("10.0.0.1", 2222, ["ssh-rsa BBBB"])
    assert p2v_start.settings(key, other, 2, [])["files"]["known_hosts"] == "[10.0.0.1]:2222 ssh-rsa BBBB\n"


class Asked:
    def __init__(self, answers: List[str], rc: int = 0, out: str = "", err: str = "") -> None:
        self.answers, self.reply = answers, (rc, out, err)
        self.bundles: List[bytes] = []
        self.unreached = ""
        self.steps: List[str] = []
        self.failed: List[Dict[str, str]] = []

    def look(self) -> str:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def reach(self) -> None:
        self.steps.append("reach")
        if self.unreached:
            raise OSError(self.unreached)

    def prepare(self) -> Dict[str, Any]:
        self.steps.append("prepare")
        return {"run": "x", "receiver": ["10.0.0.1", 2222]}

    def start(self, bundle: bytes) -> Any:
        self.steps.append("start")
        self.bundles.append(bundle)
        return self.reply

    def starter(self) -> p2v_start.Starter:
        return p2v_start.Starter(self.look, self.start, self.failed.append, self.prepare, self.reach)


WAITS = told("wait", start_of_process(os.getpid()))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(p2v_start, "ASK_EVERY_S", 0.01)


def test_it_is_started_once_when_the_module_waits() -> None:
    asked = Asked(["", told("copy", 1), WAITS])
    with asked.starter() as starter:
        starter._thread.join(10)
    assert len(asked.bundles) == 1 and b'"run": "x"' in asked.bundles[0]
    assert starter.said is None and asked.failed == []


def test_it_is_not_started_for_a_module_that_ends_before() -> None:
    asked = Asked([""])
    with asked.starter():
        pass
    assert asked.bundles == []


def test_the_way_to_the_source_is_opened_while_the_module_is_on_its_way() -> None:
    asked, on_its_way = Asked([""]), threading.Event()

    def look() -> str:
        # The module waits only once both are done.
        on_its_way.wait(10)
        return WAITS

    asked.look = look  # type: ignore[method-assign]
    with asked.starter() as starter:
        deadline = time.monotonic() + 10
        while len(asked.steps) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert sorted(asked.steps) == ["prepare", "reach"]
        on_its_way.set()
        starter._thread.join(10)
    assert asked.steps[2:] == ["start"]


def test_a_source_that_cannot_be_reached_is_asked_once_and_told_of(tmp_path: Path) -> None:
    asked = Asked([WAITS])
    asked.unreached = "Failed to connect to the host via ssh: No route to host"
    with asked.starter() as starter:
        starter._thread.join(10)
    assert asked.bundles == [] and asked.failed == [{"stage": "start", "said": asked.unreached, "port": "2222"}]


@pytest.mark.parametrize(("content", "seconds"), [("x wait", 0.4), ('{"phase": "wait"}', 0.0), (None, 0.4)])
def test_the_question_waits_for_the_module_for_a_moment(tmp_path: Path, content: Any, seconds: float) -> None:
    path = tmp_path / "progress"
    if content is not None:
        path.write_text(content + "\n")
    began = time.monotonic()
    script = p2v_start.SOON % path + "cat %s 2>/dev/null; true" % path
    done = subprocess.run(["sh", "-c", script], check=True, capture_output=True)
    assert seconds <= time.monotonic() - began
    assert done.stderr == b"" and done.stdout.decode() == (content + "\n" if content else "")


CLOSED = "ssh: connect to host 10.0.0.1 port 2222: Connection timed out"


def test_why_it_did_not_start_is_told_to_the_module() -> None:
    line = json.dumps({"agent": "failed", "said": CLOSED, "from": "10.0.0.9"})
    asked = Asked([WAITS], 0, '{"agent": "connected"}\n' + line + "\n", "noise")
    with asked.starter() as starter:
        starter._thread.join(10)
    assert starter.said == CLOSED
    assert asked.failed == [{"stage": "dial", "said": CLOSED, "from": "10.0.0.9", "port": "2222"}]


@pytest.mark.parametrize(
    ("rc", "err", "said"),
    [(255, "ssh: connect to host old1 port 22: No route to host", None), (127, "", "exit 127")],
)
def test_a_source_that_was_not_reached_is_told_as_such(rc: int, err: str, said: Any) -> None:
    asked = Asked([WAITS], rc, "", err)
    with asked.starter() as starter:
        starter._thread.join(10)
    assert asked.failed == [{"stage": "start", "said": said or err, "port": "2222"}]


def test_an_agent_that_ends_well_is_no_failure() -> None:
    assert "said" not in p2v_start.end_of(0, '{"agent": "connected"}\n{"agent": "ended"}\n', "a warning")


def test_a_run_that_does_not_wait_any_more_gets_no_note() -> None:
    asked = Asked([WAITS, told("copy", start_of_process(os.getpid()))], 255, "", "Connection reset")
    with asked.starter() as starter:
        starter._thread.join(10)
    assert starter.said == "Connection reset" and asked.failed == []
