# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real prober against real sockets of this machine."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import statistics
import threading
import time
from dataclasses import replace
from typing import Any, Callable, Iterator, List, Sequence

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import probing
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import HERE, Place
from ansible_collections.kvmops.fleet.plugins.module_utils.host.probing import Asking, asking
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.probe import Probe, Shot


def probe(kind: str = "tcp", port: int = 0, **said: Any) -> Probe:
    plain = {"interval_ms": 10, "timeout_ms": 300}
    return Probe(type=kind, address="127.0.0.1", port=port or None, **dict(plain, **said))


@contextlib.contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Something that listens; its port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                one = listener.accept()[0]
                with one, contextlib.suppress(OSError):
                    answer(one)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def until_seen(one: Asking, count: int) -> None:
    deadline = time.monotonic() + 20
    while len(one.seen.shots(0)) < count:
        assert time.monotonic() < deadline, one.seen.why_lost
        time.sleep(0.01)


def seen_of(wanted: Probe, count: int = 20) -> List[Shot]:
    began = time.monotonic()
    with asking(HERE, wanted) as one:
        until_seen(one, count)
        one.finish()
        return list(one.seen.shots(began))


def http(status: str) -> Callable[[socket.socket], None]:
    def answer(one: socket.socket) -> None:
        one.recv(1000)
        one.sendall(b"HTTP/1.0 %s Words\r\nContent-Length: 2\r\n\r\nok" % status.encode())

    return answer


def test_tcp_connects() -> None:
    with server(lambda one: None) as port:
        shots = seen_of(probe(port=port))
    assert all(shot.took_ms is not None and 0 < shot.took_ms < 300 for shot in shots)
    assert [shot.at_ms for shot in shots] == sorted(shot.at_ms for shot in shots)
    assert shots[0].at_ms > 0, "on our clock"


def test_tcp_sends_and_reads() -> None:
    with server(lambda one: one.sendall(one.recv(100).upper())) as port:
        assert all(shot.took_ms is not None for shot in seen_of(probe(port=port, send="ping\n", expect="PING")))
        assert all(shot.took_ms is None for shot in seen_of(probe(port=port, send="ping\n", expect="pong"), 5))


def test_http_checks_the_status() -> None:
    with server(http("200")) as port:
        assert all(shot.took_ms is not None for shot in seen_of(probe("http", port)))
        assert all(shot.took_ms is None for shot in seen_of(probe("http", port, expect="204"), 5))
    with server(http("503")) as port, asking(HERE, probe("http", port)) as one:
        until_seen(one, 5)
        assert one.seen.why_lost == "the status is 503"
    with server(lambda one: one.sendall(b"220 mail\r\n")) as port, asking(HERE, probe("http", port)) as one:
        until_seen(one, 2)
        assert one.seen.why_lost in ("the answer is not HTTP", "Connection reset by peer")


def test_icmp_is_answered_by_this_host() -> None:
    """Where the kernel's echo socket is not for this user's group, that is said."""
    try:
        shots = seen_of(probe("icmp"))
    except HostError as error:
        assert os.geteuid() != 0 and "Permission denied" in str(error)
    else:
        assert all(shot.took_ms is not None and shot.took_ms < 300 for shot in shots)


def test_a_refusal_is_a_loss_with_its_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with asking(HERE, probe(port=port)) as one:
        until_seen(one, 5)
        assert one.seen.why_lost == "Connection refused"
        assert all(shot.took_ms is None for shot in one.seen.shots(0))


def test_the_beat_does_not_wait_for_a_server_that_stands_still() -> None:
    """Ten requests and more are open at once; each is lost after the timeout, none is forgotten."""
    silent = probe(send="x", timeout_ms=200)
    with server(lambda one: time.sleep(0.5)) as port, asking(HERE, replace(silent, port=port)) as one:
        until_seen(one, 20)
        one.finish()
        shots = one.seen.shots(0)
    lost = [shot for shot in shots if shot.took_ms is None]
    assert len(lost) >= 15
    # The median, since a busy machine may hold up any single one.
    assert statistics.median(b.at_ms - a.at_ms for a, b in itertools.pairwise(shots)) < 200, "it waited for an answer"


def test_a_name_that_does_not_resolve_is_said() -> None:
    with pytest.raises(HostError) as failure, asking(HERE, Probe(type="tcp", address="nobody.invalid", port=1)):
        pass
    assert "tcp to nobody.invalid:1" in str(failure.value)


def test_a_host_that_refuses_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the ssh gate does: words on standard error, no answer."""
    words = ("python3", "-c", "import sys; sys.exit('gate: this key does not run commands')")
    monkeypatch.setattr(probing, "_PROBER", words)
    with pytest.raises(HostError) as failure, asking(HERE, probe(port=1)):
        pass
    assert "this key does not run commands" in str(failure.value)


def test_it_ends_when_nobody_listens_any_more() -> None:
    """What the kernel does when the module is killed: the pipe closes."""
    with server(lambda one: None) as port, asking(HERE, probe(port=port)) as one:
        until_seen(one, 2)
        process = one._process
    assert process.returncode == 0


class Elsewhere(Place):
    """A place with a clock that is 1000 s ahead of ours."""

    def command(self, argv: Sequence[str]) -> Sequence[str]:
        shift = "import time; ours = time.monotonic; time.monotonic = lambda: ours() + 1000; "
        return [word.replace("import sys;", shift + "import sys;", 1) for word in argv]


def test_the_clock_of_another_host_is_set_right() -> None:
    began = time.monotonic()
    with server(lambda one: None) as port, asking(Elsewhere("kvm2", ssh="root@kvm2"), probe(port=port)) as one:
        until_seen(one, 5)
        assert one.seen.offset_s == pytest.approx(1000, abs=0.2)
        shots = one.seen.shots(began)
    assert 0 < shots[0].at_ms < (time.monotonic() - began) * 1000
