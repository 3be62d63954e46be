# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Let a host probe a guest while something happens to it; the program that asks is host/prober.py."""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import threading
import time
from array import array
from typing import Any, Dict, Iterator, List, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import prober
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import Place, talking
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.probe import Probe, Shot

# As for host/far_side.py: the other end reads this many bytes of program text, then runs it on what follows.
_BOOTSTRAP = "import sys;b=sys.stdin.buffer;exec(compile(b.read(int(b.readline())),'prober','exec'));main()"
# The gate of the role host_base knows it by the mark and the number, and runs its own copy instead.
_PROBER = ("python3", "-c", _BOOTSTRAP, "kvmops-prober", str(prober.PROTOCOL))
# A login over ssh, and a name server that does not answer.
READY_WITHIN_S = 20
LAST_WORDS_S = 5
CLOCK_ROUNDS = 5
NO_TIME = float("nan")


class Seen:
    """What was seen so far. offset_s: the clock it was told on minus CLOCK_MONOTONIC of this host. Safe to read while it grows.

    last_answer_s: moment of the newest answer, on the clock it was told on.
    """

    def __init__(self) -> None:
        self._sent, self._took = array("d"), array("d")
        self._lock = threading.Lock()
        self.why_lost: Optional[str] = None
        self.offset_s = 0.0
        self.last_answer_s = float("-inf")

    def add(self, sent_s: float, took_s: Optional[float], why: Optional[str]) -> None:
        with self._lock:
            self._sent.append(sent_s)
            self._took.append(NO_TIME if took_s is None else took_s)
            self.why_lost = self.why_lost or why
            if took_s is not None:
                self.last_answer_s = max(self.last_answer_s, sent_s + took_s)

    def shots(self, origin_s: float) -> Tuple[Shot, ...]:
        """In the order of sending, times since origin_s (of this host's CLOCK_MONOTONIC)."""
        with self._lock:
            pairs = list(zip(self._sent, self._took))
        zero = origin_s + self.offset_s
        shots = [Shot((sent - zero) * 1000.0, None if math.isnan(took) else took * 1000.0) for sent, took in pairs]
        return tuple(sorted(shots, key=lambda shot: shot.at_ms))


class Asking:
    """A prober that runs. seen: what it told. finish(): end the beat and wait for the answers that are open."""

    def __init__(self, process: Any, place: Place, probe: Probe) -> None:
        self.seen = Seen()
        self._process, self._place, self._probe = process, place, probe
        self._told: Dict[str, Any] = {}
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        text = inspect.getsource(prober).encode("utf-8")
        self._write(b"%d\n%s%s\n" % (len(text), text, json.dumps(probe.request()).encode("utf-8")))
        self._wait_for("ready", READY_WITHIN_S)
        if place.ssh is not None:
            self.seen.offset_s = self._clock_offset()

    @property
    def has_ended(self) -> bool:
        """It asks no more: it failed, or has sent as many requests as one prober does."""
        return "end" in self._told or "error" in self._told

    def finish(self) -> None:
        """What was not told by then is not told; a prober that ended before it had to is the reason then."""
        try:
            self._write(b"e\n")
            self._wait_for("end", self._probe.timeout_ms / 1000.0 + 5)
        except HostError as error:
            self.seen.why_lost = str(error)

    def _clock_offset(self) -> float:
        """That host's clock minus ours: from the exchange with the shortest way, taken to be equal in both directions."""
        best: List[Tuple[float, float]] = []
        for dummy in range(CLOCK_ROUNDS):
            self._told.pop("clock", None)
            asked = time.monotonic()
            self._write(b"c\n")
            there = self._wait_for("clock", READY_WITHIN_S)
            way = time.monotonic() - asked
            best.append((way, there - (asked + way / 2)))
        return min(best)[1]

    def _write(self, data: bytes) -> None:
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except OSError as error:
            # It ended; what it said last is the reason.
            self._reader.join(LAST_WORDS_S)
            raise self._failed(self._told.get("error", str(error)))

    def _read(self) -> None:
        words = ""
        for line in self._process.stdout:
            try:
                told = json.loads(line)
            except ValueError:
                words = line.decode("utf-8", "replace").strip() or words
                continue
            if isinstance(told, list):
                self.seen.add(*told)
                continue
            with self._news:
                self._told.update(told)
                self._news.notify_all()
        with self._news:
            self._told.setdefault("error", words or "it ended")
            self._news.notify_all()

    def _wait_for(self, word: str, seconds: float) -> float:
        with self._news:
            self._news.wait_for(lambda: word in self._told or "error" in self._told, seconds)
            if word in self._told:
                return float(self._told[word])
            raise self._failed(self._told.get("error", "no word after %s s" % seconds))

    def _failed(self, words: str) -> HostError:
        return HostError("probe the guest (%s)" % self._probe.words, self._place.name, words)


@contextlib.contextmanager
def asking(place: Place, probe: Probe) -> Iterator[Asking]:
    """Ask from that host for as long as the block lasts. Raises HostError when that host cannot."""
    with talking(_PROBER, place, "probe the guest") as process:
        yield Asking(process, place, probe)
