# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The numbers of one scenario: medians and worst of each contender, ratios against another in the same round."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from tests.bench.migrate.contenders import CONTENDERS
from tests.bench.migrate.rounds import kept_of
from tests.bench.migrate.scenarios import SCENARIOS, Scenario

Move = Mapping[str, Any]
Number = Callable[[Move], Optional[float]]


@dataclass(frozen=True)
class Figures:
    """What was kept of a scenario. moves: in the order in which they were made."""

    name: str
    pass_mib: float
    moves: Sequence[Move]

    @property
    def scenario(self) -> Scenario:
        return SCENARIOS[self.name]

    @property
    def pass_s(self) -> float:
        """Memory divided by the link's rate."""
        return self.pass_mib / self.scenario.link_mib_s

    @property
    def rounds(self) -> int:
        return len({move["round"] for move in self.moves})

    def of(self, who: str) -> List[Move]:
        return [move for move in self.moves if move["who"] == who]

    def numbers(self, who: str, number: Number) -> List[float]:
        return [value for value in map(number, self.of(who)) if value is not None]

    def ratios(self, who: str, other: str, number: Number) -> List[float]:
        """Of each round in which both have a number."""
        theirs = {move["round"]: number(move) for move in self.of(other)}
        return [
            mine / their
            for move in self.of(who)
            for mine, their in [(number(move), theirs.get(move["round"]))]
            if mine is not None and their
        ]


def measured() -> Dict[str, Figures]:
    """Every scenario that was measured."""
    kept = {name: kept_of(name) for name in SCENARIOS}
    return {name: Figures(name, pass_mib_of(found), found["moves"]) for name, found in kept.items() if found}


def pass_mib_of(kept: Mapping[str, Any]) -> float:
    """What the first round of the moves without compression sent, in the middle; without such, that of the move before all
    others. That one may have come before the guest's program had written to all of its pages."""
    plain = [move for move in kept["moves"] if CONTENDERS[move["who"]].first_round_is_plain]
    seen = [float(move["first_pass_mib"]) for move in plain if move.get("first_pass_mib")]
    return round(statistics.median(seen), 1) if seen else float(kept["pass_mib"])


def total_s(move: Move) -> Optional[float]:
    """As libvirt counted; None when the guest did not arrive."""
    return move["stats"]["time_elapsed"] / 1000 if move["moved"] and "stats" in move else None


def spent_s(move: Move) -> Optional[float]:
    """Until the end, whatever it was."""
    return total_s(move) or move.get("seconds")


def pause_ms(move: Move) -> Optional[float]:
    """As a client saw it."""
    return move.get("pause_ms") if move["moved"] else None


def lost_s(move: Move) -> Optional[float]:
    return move.get("lost_s")


def over_s(move: Move) -> Optional[float]:
    """What a run takes beside the move itself: without Ansible's own time for a task, or of virsh from start to end."""
    total = total_s(move)
    if total is None:
        return None
    if CONTENDERS[move["who"]].virsh is not None:
        return float(move["wall_s"]) - total
    return float(move["task_s"]) - float(move["nothing_s"]) - total


def foretold(key: str) -> Number:
    """Measured over predicted, of our moves."""
    return lambda move: move.get("told", {}).get("prediction", {}).get("ratio", {}).get(key)


def middle(values: Sequence[float]) -> float:
    return float(statistics.median(values))
