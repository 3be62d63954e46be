# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The probe beside a P2V run, with the real prober, real images, and a server that stands still with its machine."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import probing
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import P2vWish, Takeover
from ansible_collections.kvmops.fleet.plugins.module_utils.model.probe import Probe
from ansible_collections.kvmops.fleet.plugins.module_utils.run import p2v_rounds

from .test_p2v import Place, wish

INTERVAL_MS = 20
STILL_S = 1.0
TRUE = Takeover(("/bin/true",), 10)


@pytest.fixture(name="place")
def fixture_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(p2v_rounds, "QUIET_S", 0.2)
    return Place(tmp_path)


@contextlib.contextmanager
def serving(serves: Callable[[], bool]) -> Iterator[int]:
    """The port of a server that accepts at any time, as a kernel does, and answers only when it serves."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as door:
        door.settimeout(0.02)
        ended, waiting = threading.Event(), []

        def work() -> None:
            while not ended.is_set():
                with contextlib.suppress(socket.timeout):
                    waiting.append(door.accept()[0])
                while serves() and waiting:
                    with contextlib.suppress(OSError), waiting.pop(0) as one:
                        one.sendall(b"here")

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield int(door.getsockname()[1])
        finally:
            ended.set()
            thread.join()
            for one in waiting:
                one.close()


def asked(port: int, **options: Any) -> P2vWish:
    probe = Probe("tcp", "127.0.0.1", port, expect="here", interval_ms=INTERVAL_MS, before_s=0.5, after_s=0.5)
    return wish(source="old1", probe=probe, **options)


def ids(told: Dict[str, Any]) -> List[str]:
    return [each["id"] for each in told["concerns"] if each["id"].startswith("p2v-probe")]


def test_a_rehearsal_measures_the_freeze_and_the_source_s_answers(place: Place) -> None:
    with serving(lambda: place.source is None or not place.source.frozen) as port:
        source = place.new_source(asked(port))
        still = threading.Event()
        source.before_request = lambda word: still.wait(STILL_S) if word == "thaw" else None
        told = place.go(asked(port), source)
    metrics, pause_ms = told["metrics"], told["pause_s"] * 1000
    assert pause_ms >= STILL_S * 1000
    assert metrics["downtime_seen_ms"] == pytest.approx(pause_ms, abs=150) and metrics["downtime_ms"] is None
    impact = metrics["impact"]
    assert impact["before"]["received"] >= 15 and impact["after"]["received"] >= 10
    assert impact["before"]["max_ms"] < impact["pause"]["max_ms"] and ids(told) == []
    assert any("Around the freeze clients were without an answer" in line for line in told["summary"])
    # Looking around is not what the copy took.
    assert metrics["total_s"] < sum(each["seconds"] for each in told["passes"]) + told["pause_s"] + 2


def test_a_takeover_is_measured_from_the_last_answer_of_the_one_to_the_first_of_the_other(place: Place) -> None:
    guest = threading.Event()
    away_s = 1.5

    def serves() -> bool:
        return guest.is_set() or place.source is None or not (place.source.frozen or place.source.off)

    with serving(serves) as port:
        source = place.new_source(asked(port, cutover="freeze", takeover=TRUE, answer_timeout_s=30.0))
        gone: List[float] = []

        def listens(word: str) -> None:
            if word == "freeze":
                gone.append(time.monotonic())
            if word == "poweroff":
                timer = threading.Timer(away_s, lambda: (gone.append(time.monotonic()), guest.set()))
                timer.start()

        source.before_request = listens
        told = place.go(asked(port, cutover="freeze", takeover=TRUE, answer_timeout_s=30.0), source)
    metrics = told["metrics"]
    assert metrics["downtime_ms"] == pytest.approx((gone[1] - gone[0]) * 1000, abs=150) and ids(told) == []
    assert metrics["impact"]["after"]["received"] >= 10
    assert any("from the last of the machine to the first of its guest" in line for line in told["summary"])


def test_a_source_that_is_left_without_a_guest_says_what_was_not_measured(place: Place) -> None:
    with serving(lambda: place.source is None or not place.source.frozen) as port:
        began = time.monotonic()
        told = place.go(asked(port, cutover="poweroff"))
    assert told["power"] == "off" and told["metrics"]["downtime_ms"] is None and ids(told) == ["p2v-probe-no-guest"]
    # It waits for nobody.
    assert time.monotonic() - began < told["metrics"]["total_s"] + 5


def test_a_guest_that_never_answers_is_waited_for_no_longer_than_was_said(place: Place) -> None:
    with serving(lambda: place.source is None or not place.source.frozen) as port:
        told = place.go(asked(port, cutover="freeze", takeover=TRUE, answer_timeout_s=1.0))
    assert ids(told) == ["p2v-probe-silent-after"] and told["metrics"]["downtime_ms"] is None
    assert told["metrics"]["downtime_seen_ms"] >= 900
    assert any("p2v-probe-silent-after" in warning for warning in told["warnings"])


@pytest.mark.parametrize(
    "prober", [("false",), ("sh", "-c", "read line; exit 3"), ("timeout", "-s", "KILL", "2", "sleep", "60")]
)
def test_a_prober_that_fails_is_a_concern_and_no_more(place: Place, monkeypatch: Any, prober: Any) -> None:
    monkeypatch.setattr(probing, "_PROBER", prober)
    told = place.go(asked(9, cutover="poweroff"))
    assert told["changed"] and told["power"] == "off" and ids(told) == ["p2v-probe-failed"]
    assert told["metrics"]["impact"] is None and told["metrics"]["downtime_ms"] is None


def test_a_prober_that_is_killed_while_the_source_stands_still_holds_nothing_up(place: Place, monkeypatch: Any) -> None:
    monkeypatch.setattr(probing, "_PROBER", ("timeout", "-s", "KILL", "2", *probing._PROBER))
    with serving(lambda: place.source is None or not place.source.frozen) as port:
        source = place.new_source(asked(port))
        still = threading.Event()
        source.before_request = lambda word: still.wait(3) if word == "thaw" else None
        told = place.go(asked(port), source)
    assert told["pause_s"] < 4 and ids(told) == ["p2v-probe-failed"]
    assert told["metrics"]["downtime_seen_ms"] is None and told["metrics"]["impact"]["before"]["received"] > 10


def test_a_takeover_that_fails_tells_what_clients_felt(place: Place) -> None:
    with serving(lambda: place.source is None or not place.source.frozen) as port:
        failing = Takeover(("/bin/sh", "-c", "sleep 1; exit 3"), 10)
        with pytest.raises(HostError, match="exit 3") as caught:
            place.go(asked(port, cutover="freeze", takeover=failing))
    told = caught.value.told
    assert told["metrics"]["downtime_seen_ms"] >= 900 and told["metrics"]["impact"]["after"]["received"] >= 10
    assert told["concerns"] == [] and "Around the freeze" in told["summary"][0]
