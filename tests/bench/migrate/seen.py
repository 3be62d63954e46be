# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a move looked like: the pause and the lost work, from the moments at which answers came."""

from __future__ import annotations

import itertools
from typing import Any, Dict, List, Sequence, Tuple

Answers = Sequence[Tuple[float, int]]
# Before the move the client's first answers do not count: it has only begun.
SETTLE_S = 0.3
# The tail of a move, in which the last pause may end and the guest is still coming round.
TAIL_S = 0.8
BIN_S = 0.2


def summary(raw: Dict[str, Any]) -> Dict[str, Any]:
    """raw: as moving.one_move() tells. Answers become a pause (ms), lost work (s of what the guest did before), a pace."""
    move = {key: value for key, value in raw.items() if key not in ("answers", "began", "ended", "alone_until")}
    began, ended, answers = raw.get("began"), raw.get("ended"), raw["answers"]
    if not began or not answers:
        return move
    alone = (answers[0][0] + SETTLE_S, raw["alone_until"])
    usual = _done(answers, *alone) / (alone[1] - alone[0])
    until = ended + TAIL_S
    move["seconds"] = round(ended - began, 3)
    move["pause_ms"] = round(1000 * _gap([moment for moment, dummy in answers], began, until))
    move["units_per_s_before"] = round(usual, 1)
    move["lost_s"] = round((usual * (until - began) - _done(answers, began, until)) / usual, 3)
    move["pace"] = [
        round(_done(answers, began + number * BIN_S, began + (number + 1) * BIN_S) / BIN_S / usual, 2)
        for number in range(int((until - began) / BIN_S))
    ]
    move["samples"] = [[round(at - began, 2), sent, left] for at, sent, left in raw["samples"]]
    return move


def _done(answers: Answers, start: float, end: float) -> float:
    """Units of work between two moments."""
    return _units_at(answers, end) - _units_at(answers, start)


def _units_at(answers: Answers, moment: float) -> float:
    """As the newest answer before told; the next one is not waited for, as the guest may stand still between."""
    told = [units for at, units in answers if at <= moment]
    return max(told) if told else answers[0][1]


def _gap(moments: Sequence[float], start: float, end: float) -> float:
    """The longest time without an answer that touches the move, s."""
    inside: List[float] = [moment for moment in moments if start - 1 <= moment <= end]
    edges = sorted([*inside, end]) if inside else [start, end]
    return max(later - earlier for earlier, later in itertools.pairwise(edges))
