# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rounds: everybody in turn, forwards and backwards, and the numbers kept, a line of JSON for each copy."""

from __future__ import annotations

import json
import sys
from typing import Any, Dict, List, Optional, Sequence

from tests.bench.p2v import copying, felt
from tests.bench.p2v.contenders import CONTENDERS, FIRST, SECOND
from tests.integration.fleet import ROOT, Lab

# Beside the page that is made of it.
KEPT = ROOT / "docs" / "benchmarks" / "p2v.jsonl"


def run(rounds: int, add: bool, only: Optional[Sequence[str]]) -> None:
    """Measure. What is whole is kept, whatever happens later."""
    before = kept() if add else []
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    KEPT.write_text("".join(json.dumps(copy) + "\n" for copy in before), encoding="utf-8")
    first = 1 + max([copy["round"] for copy in before], default=-1)
    with copying.lab_up() as lab, copying.disk_of(lab) as disk:
        for number in range(first, first + rounds):
            for who in order(list(CONTENDERS), number):
                if not only or who in only:
                    _one(lab, who, disk, number)


def order(contenders: Sequence[str], number: int) -> List[str]:
    """A B C, then C B A; but the second image comes behind the first."""
    turn = list(contenders) if number % 2 == 0 else list(reversed(contenders))
    if SECOND in turn and FIRST in turn:
        turn.remove(SECOND)
        turn.insert(turn.index(FIRST) + 1, SECOND)
    return turn


def kept() -> List[Dict[str, Any]]:
    """Every copy, in the order in which they were made; none when nothing was measured."""
    if not KEPT.is_file():
        return []
    return [json.loads(line) for line in KEPT.read_text(encoding="utf-8").splitlines()]


def _one(lab: Lab, who: str, disk: str, number: int) -> None:
    raw = copying.one_copy(lab, CONTENDERS[who], disk, number)
    copy = {key: value for key, value in raw.items() if key not in ("writes", "began", "ended")}
    if raw.get("writes"):
        copy["writer"] = felt.impact(raw)
    copy = dict(copy, who=who, round=number, disk_mib=copying.DISK_MIB)
    with KEPT.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(copy) + "\n")
    print(json.dumps({key: value for key, value in copy.items() if key != "told"}), file=sys.stderr, flush=True)
