# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A drawing of the guest's work while it moves: one strip per contender, of its middle round."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional

from tests.bench.migrate import figures
from tests.bench.migrate.contenders import CONTENDERS
from tests.bench.migrate.figures import Figures, Move
from tests.bench.migrate.seen import BIN_S

DRAWN = ("busy12", "busy2", "busy3", "half")
WIDTH, LABEL, STRIP, GAP, TOP = 860, 210, 44, 12, 30
FILL, LINE, TEXT = "#4878a8", "#999999", "#333333"


def write(one: Figures, folder: Path) -> Optional[str]:
    """The name of the file; None when this scenario has none."""
    moves = [_middle(one, who) for who in one.scenario.contenders if one.of(who)]
    paced = [move for move in moves if "pace" in move]
    if one.name not in DRAWN or not paced:
        return None
    name = "migrate-%s.svg" % one.name
    (folder / name).write_text(_drawing(paced), encoding="utf-8")
    return name


def _middle(one: Figures, who: str) -> Move:
    """The round whose loss is the median."""
    moves = sorted(one.of(who), key=lambda move: figures.lost_s(move) or 0)
    return moves[len(moves) // 2]


def _drawing(moves: List[Move]) -> str:
    longest = max(len(move["pace"]) for move in moves) * BIN_S
    scale = (WIDTH - LABEL - 10) / longest
    height = TOP + len(moves) * (STRIP + GAP) + 20
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">'
        % (WIDTH, height),
        '<rect width="100%%" height="100%%" fill="white"/><text x="%d" y="18" fill="%s">work done, of what is usual, '
        "while the guest moves (s)</text>" % (LABEL, TEXT),
    ]
    for second in range(0, int(longest) + 1, 5 if longest > 12 else 1):
        at = LABEL + second * scale
        parts.append(
            '<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="%s" stroke-width="0.5"/><text x="%.1f" y="%d" '
            'fill="%s">%d</text>' % (at, at, TOP, height - 20, LINE, at, height - 6, TEXT, second)
        )
    for number, move in enumerate(moves):
        parts += _strip(move, TOP + number * (STRIP + GAP), scale)
    return "\n".join([*parts, "</svg>", ""])


def _strip(move: Move, top: float, scale: float) -> List[str]:
    bottom = top + STRIP
    label = CONTENDERS[move["who"]].title.replace("`", "")
    points = ["%.1f,%.1f" % (LABEL, bottom)]
    for number, pace in enumerate(move["pace"]):
        y = bottom - STRIP * min(1.2, pace) / 1.2
        points += [
            "%.1f,%.1f" % (LABEL + number * BIN_S * scale, y),
            "%.1f,%.1f" % (LABEL + (number + 1) * BIN_S * scale, y),
        ]
    points.append("%.1f,%.1f" % (LABEL + len(move["pace"]) * BIN_S * scale, bottom))
    said = "stop %d ms, lost %.1f s" % (move["pause_ms"], move["lost_s"]) if move["moved"] else "did not arrive"
    return [
        '<text x="4" y="%.1f" fill="%s">%s</text><text x="4" y="%.1f" fill="%s" font-size="10">%s</text>'
        % (top + 18, TEXT, label, top + 33, LINE, said),
        '<polygon points="%s" fill="%s"/>' % (" ".join(points), FILL),
    ]
