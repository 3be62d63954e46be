# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rounds of a scenario: everybody in turn, forwards and backwards, and the numbers kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from tests.bench.migrate import moving, seen
from tests.bench.migrate.contenders import CONTENDERS
from tests.bench.migrate.scenarios import SCENARIOS, Scenario
from tests.integration.fleet import ROOT, Lab

KEPT = ROOT / ".cache" / "bench-migrate"


def run(names: Sequence[str], rounds: int, add: bool, only: Optional[Sequence[str]]) -> None:
    """Measure the scenarios, each with a guest of its own. What is whole is kept, whatever happens later."""
    with moving.lab_up() as lab:
        for name in names:
            with moving.guest_of(lab, SCENARIOS[name]):
                _rounds(lab, name, rounds, add, only)


def order(contenders: Sequence[str], number: int) -> List[str]:
    """A B C, then C B A, then A B C."""
    return list(contenders) if number % 2 == 0 else list(reversed(contenders))


def path_of(name: str) -> Path:
    return KEPT / ("%s.json" % name)


def _rounds(lab: Lab, name: str, rounds: int, add: bool, only: Optional[Sequence[str]]) -> None:
    scenario = SCENARIOS[name]
    kept = kept_of(name) if add else {}
    kept.setdefault("moves", [])
    pass_mib = moving.first_pass_mib(lab, scenario)
    kept["pass_mib"] = kept.get("pass_mib", pass_mib)
    first = 1 + max([move["round"] for move in kept["moves"]], default=-1)
    for number in range(first, first + rounds):
        moves = [
            _one(lab, scenario, who, number, pass_mib)
            for who in order(scenario.contenders, number)
            if not only or who in only
        ]
        kept["moves"] += moves
        path_of(name).parent.mkdir(parents=True, exist_ok=True)
        path_of(name).write_text(json.dumps(kept, indent=1), encoding="utf-8")


def kept_of(name: str) -> Dict[str, Any]:
    """Empty when it was not measured."""
    path = path_of(name)
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _one(lab: Lab, scenario: Scenario, who: str, number: int, pass_mib: float) -> Dict[str, Any]:
    raw = moving.one_move(lab, CONTENDERS[who], scenario, pass_mib / scenario.link_mib_s)
    move = dict(seen.summary(raw), who=who, round=number)
    told = {key: value for key, value in move.items() if key not in ("told", "samples", "stats", "pace", "resumed")}
    print(json.dumps(told), file=sys.stderr, flush=True)
    return move
