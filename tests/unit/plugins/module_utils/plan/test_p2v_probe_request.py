# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with the option `probe` of kvm_p2v_image, and what it means."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_probe_request import read_p2v_probe

TCP = {"type": "tcp", "address": "10.0.0.5", "port": 22}
RUNNING = {"cutover": "poweroff", "domain": {"state": "running"}}


def params(probe: Any, **more: Any) -> Dict[str, Any]:
    return {"mode": "hot", "cutover": "none", "probe": probe, **more}


@pytest.mark.parametrize(
    ("given", "more", "words"),
    [
        (TCP, {"mode": "cold"}, "mode is cold: nothing of the machine serves meanwhile"),
        (TCP, {"mode": "gather"}, "mode is gather: a look changes nothing"),
        ({**TCP, "answer_timeout_s": 60.0}, {}, "no guest takes over in this run (cutover none)"),
        ({**TCP, "answer_timeout_s": 60.0}, {"cutover": "poweroff"}, "(cutover poweroff)"),
        ({**TCP, "answer_timeout_s": 60.0}, {"cutover": "poweroff", "domain": {"state": "present"}}, "leave it out"),
        ({**TCP, "answer_timeout_s": 0.0}, RUNNING, "answer_timeout_s is 0.0"),
        ({**TCP, "address": "127.0.0.1"}, {}, "the receiving host itself"),
        ({**TCP, "address": "::1"}, {}, "the receiving host itself"),
        ({**TCP, "address": "0.0.0.0"}, {}, "the receiving host itself"),
        ({"type": "http", "url": "http://localhost/"}, {}, "the receiving host itself"),
        ({"type": "icmp", "address": "10.0.0.5", "port": 1}, {}, "probe.port does not go with"),
        ({**TCP, "interval_ms": 1}, {}, "probe.interval_ms is 1"),
        ({**TCP, "interval_ms": 0}, {}, "probe.interval_ms is 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: Dict[str, Any], more: Dict[str, Any], words: str) -> None:
    assert any(words in problem for problem in read_p2v_probe(params(given, **more))[2])


def test_every_problem_is_told_at_once() -> None:
    given = {"type": "tcp", "address": "10.0.0.5", "answer_timeout_s": -1.0}
    assert len(read_p2v_probe(params(given, mode="cold"))[2]) == 4


@pytest.mark.parametrize("kind", ["tcp", "icmp", "http"])
def test_a_copy_of_two_days_is_within_one_prober(kind: str) -> None:
    given: Dict[str, Any] = {"tcp": TCP, "icmp": {"type": "icmp", "address": "old1"}}.get(
        kind, {"type": "http", "url": "http://old1/"}
    )
    probe, patience, problems = read_p2v_probe(params(given))
    assert probe is not None and not problems and patience == 300.0
    # The limit of host/prober.py.
    assert 2000000 * probe.interval_ms / 1000.0 > 2 * 86400


def test_what_was_said_is_kept() -> None:
    probe, patience, problems = read_p2v_probe(params({**TCP, "interval_ms": 20, "answer_timeout_s": 90.0}, **RUNNING))
    assert not problems and probe is not None and (probe.interval_ms, patience) == (20, 90.0)
    assert read_p2v_probe(params(None)) == (None, 300.0, [])
