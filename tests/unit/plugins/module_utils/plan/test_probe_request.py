# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with the option `probe`, and what it means."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model.probe import Probe
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.probe_request import read_probe

TCP = {"type": "tcp", "address": "10.0.0.5", "port": 22}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"type": "tcp", "port": 22}, "probe.address is missing"),
        ({"type": "tcp", "address": "10.0.0.5"}, "probe.port is missing"),
        ({"type": "icmp"}, "probe.address is missing"),
        ({"type": "icmp", "address": "-f"}, "probe.address is '-f'"),
        ({"type": "icmp", "address": "a b"}, "probe.address is 'a b'"),
        ({"type": "icmp", "address": "10.0.0.5", "port": 1}, "probe.port does not go with probe.type icmp"),
        ({"type": "http"}, "probe.url is None"),
        ({"type": "http", "url": "https://10.0.0.5/"}, "For TLS, probe its port with tcp"),
        ({"type": "http", "url": "http://10.0.0.5:x/"}, "probe.url is"),
        ({"type": "http", "url": "http://u:p@10.0.0.5/"}, "probe.url is"),
        ({"type": "http", "url": "http://10.0.0.5/ HTTP/1.0\r\nX: y"}, "probe.url is"),
        ({"type": "http", "url": "http://10.0.0.5/", "address": "10.0.0.5"}, "probe.address does not go"),
        ({"type": "http", "url": "http://10.0.0.5/", "expect": "ok"}, "give the status"),
        ({"type": "agent", "address": "10.0.0.5"}, "probe.address does not go with probe.type agent"),
        ({"type": "agent", "timeout_ms": 1500}, "whole seconds"),
        ({"type": "agent", "from": "destination"}, "probe.from is destination"),
        ({**TCP, "send": "x", "from": "destination"}, "probe.send does not go with"),
        ({**TCP, "port": 70000}, "probe.port is 70000"),
        ({**TCP, "interval_ms": 1}, "probe.interval_ms is 1"),
        ({**TCP, "timeout_ms": 0}, "probe.timeout_ms is 0"),
        ({**TCP, "interval_ms": 5, "timeout_ms": 9000}, "at most 500 times interval_ms"),
        ({**TCP, "before_s": 0.1}, "probe.before_s is 0.1"),
        ({**TCP, "after_s": 1e6}, "probe.after_s is"),
    ],
)
def test_refused(given: Dict[str, Any], words: str) -> None:
    probe, problems = read_probe(given)
    assert probe is None and any(words in problem for problem in problems), problems


def test_all_problems_at_once() -> None:
    problems = read_probe({"type": "tcp", "interval_ms": 1, "before_s": 0, "after_s": 0, "url": "http://x/"})[1]
    assert len(problems) == 6, problems


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (TCP, Probe("tcp", "10.0.0.5", 22, interval_ms=20)),
        ({"type": "icmp", "address": "fd00::5"}, Probe("icmp", "fd00::5", interval_ms=20)),
        (
            {"type": "http", "url": "http://web1.example:8080/health?x=1", "expect": "204", "from": "destination"},
            Probe("http", "web1.example", 8080, "/health?x=1", expect="204", interval_ms=50, sender="destination"),
        ),
        ({"type": "http", "url": "http://[fd00::5]"}, Probe("http", "fd00::5", 80, "/", interval_ms=50)),
        ({"type": "agent", "before_s": 1}, Probe("agent", interval_ms=100, before_s=1.0)),
    ],
)
def test_read(given: Dict[str, Any], expected: Probe) -> None:
    assert read_probe(given) == (expected, [])


def test_none_wanted() -> None:
    assert read_probe(None) == (None, [])
