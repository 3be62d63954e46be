# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a move looked like: the pause and the lost work, from the moments at which answers came."""

from __future__ import annotations

import itertools
from typing import Any, Dict, List, Sequence

# Before the move the client's first answers do not count: it has only begun.
SETTLE_S = 0.3
# The tail of a move, in which the last pause may end and the guest is still coming round.
TAIL_S = 0.8
BIN_S = 0.1


def summary(raw: Dict[str, Any]) -> Dict[str, Any]:
    """raw: as moving.one_move() tells. Moments become a pause (ms), lost work (s of what the guest did before), a pace."""
    move = {key: value for key, value in raw.items() if key not in ("echoes", "pages", "began", "ended", "alone_until")}
    began, ended, echoes, pages = raw.get("began"), raw.get("ended"), raw["echoes"], raw["pages"]
    if not began:
        return move
    alone = (min(pages, default=0) + SETTLE_S, raw["alone_until"])
    usual = _within(pages, *alone) / (alone[1] - alone[0])
    until = ended + TAIL_S
    expected = usual * (until - began)
    move["seconds"] = round(ended - began, 3)
    move["pause_ms"] = round(1000 * _gap(echoes, began, until))
    move["pages_per_s_before"] = round(usual, 1)
    move["lost_s"] = round((expected - _within(pages, began, until)) / usual, 3) if usual else None
    move["pace"] = [
        round(_within(pages, began + number * BIN_S, began + (number + 1) * BIN_S) / BIN_S / usual, 2) if usual else 0
        for number in range(int((until - began) / BIN_S))
    ]
    move["samples"] = [[round(at - began, 2), sent, left] for at, sent, left in raw["samples"]]
    return move


def _within(moments: Sequence[float], start: float, end: float) -> int:
    return sum(1 for moment in moments if start <= moment < end)


def _gap(moments: Sequence[float], start: float, end: float) -> float:
    """The longest time without an answer that touches the move, s."""
    inside: List[float] = [moment for moment in moments if start - 1 <= moment <= end]
    edges = sorted(inside + [end]) if inside else [start, end]
    return max(later - earlier for earlier, later in itertools.pairwise(edges))
