# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The goals, and whether they are reached. Each is a function of what was measured."""

from __future__ import annotations

from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

from tests.bench.migrate import figures
from tests.bench.migrate.contenders import CONTENDERS
from tests.bench.migrate.figures import Figures, middle

OVERHEAD_S, PASSES, QUICKER, SLOWER, LOSS, ENCRYPTED = 0.3, 1.6, 2.5, 1.03, 0.5, 1.05
WITHIN, OF_MOVES = 0.15, 0.9
PAUSE_SLACK_MS, PAUSE_RATIO, PAUSES_WITHIN = 50, 0.5, 0.95
NEVER_CONVERGE, ENDING = ("busy12", "busy2", "busy3"), ("balanced", "must_finish")


class Verdict(NamedTuple):
    """reached: None when what it needs was not measured."""

    goal: str
    found: str
    reached: Optional[bool]


Measured = Dict[str, Figures]


def verdicts(measured: Measured) -> List[Verdict]:
    return [verdict for goal in GOALS for verdict in goal(measured)]


def _overhead(measured: Measured) -> List[Verdict]:
    goal = "A run takes at most %.1f s beside the move" % OVERHEAD_S
    idle = measured.get("idle")
    ours = idle.numbers("balanced", figures.over_s) if idle else []
    virsh = idle.numbers("default", figures.over_s) if idle else []
    if not ours:
        return [Verdict(goal, "not measured", None)]
    found = "%.2f s (worst %.2f s)" % (middle(ours), max(ours))
    if virsh:
        found += "; virsh: %.2f s" % middle(virsh)
    return [Verdict(goal, found, middle(ours) <= OVERHEAD_S)]


def _all_end(measured: Measured) -> List[Verdict]:
    told = []
    for who in ENDING:
        busy = [measured[name] for name in NEVER_CONVERGE if name in measured]
        moves = [(one, move) for one in busy for move in one.of(who)]
        goal = "%s: guests that never converge arrive within %.1f x memory / link" % (CONTENDERS[who].title, PASSES)
        if not moves:
            told.append(Verdict(goal, "not measured", None))
            continue
        arrived = [(one, move) for one, move in moves if move["moved"]]
        if not arrived:
            told.append(Verdict(goal, "0 of %d arrived" % len(moves), False))
            continue
        passes = [(figures.total_s(move) or 0) / one.pass_s for one, move in arrived]
        pauses = [move["pause_ms"] / move["told"]["schedule"]["pause_most_ms"] for dummy, move in arrived]
        found = "%d of %d arrived, in %.2f passes (worst %.2f), the stop at most %.0f %% of the declared" % (
            len(arrived),
            len(moves),
            middle(passes),
            max(passes),
            100 * max(pauses),
        )
        told.append(Verdict(goal, found, len(arrived) == len(moves) and max(passes) <= PASSES and max(pauses) <= 1))
    return told


def _pause(measured: Measured) -> List[Verdict]:
    half, told = measured.get("half"), []
    for who in ("balanced", "minimal_downtime"):
        goal = "%s, a guest that converges: the stop within what is declared, at most %.1f of doubling's" % (
            CONTENDERS[who].title,
            PAUSE_RATIO,
        )
        moves = half.of(who) if half else []
        shares = half.ratios(who, "doubling", figures.pause_ms) if half else []
        if not shares:
            told.append(Verdict(goal, "not measured", None))
            continue
        most = [
            move for move in moves if move["pause_ms"] <= move["told"]["schedule"]["pause_most_ms"] + PAUSE_SLACK_MS
        ]
        share = middle(shares)
        found = "%d of %d within, %.2f of doubling's" % (len(most), len(moves), share)
        told.append(Verdict(goal, found, len(most) >= PAUSES_WITHIN * len(moves) and share <= PAUSE_RATIO))
    return told


def _loss(measured: Measured) -> List[Verdict]:
    told = []
    for who in ENDING:
        goal = "%s: at most %.1f of the work that auto-converge always on loses" % (CONTENDERS[who].title, LOSS)
        ratios = [
            ratio
            for name in NEVER_CONVERGE
            if name in measured
            for ratio in measured[name].ratios(who, "autoconverge", figures.lost_s)
        ]
        if not ratios:
            told.append(Verdict(goal, "not measured", None))
            continue
        told.append(Verdict(goal, "%.2f (worst %.2f)" % (middle(ratios), max(ratios)), middle(ratios) <= LOSS))
    return told


def _foretold(measured: Measured) -> List[Verdict]:
    goal = "Total time as predicted, within 15 % in 9 of 10 moves"
    ratios = [
        ratio
        for one in measured.values()
        for move in one.moves
        for ratio in [figures.foretold("total_ms")(move)]
        if ratio is not None
    ]
    if not ratios:
        return [Verdict(goal, "not measured", None)]
    good = [ratio for ratio in ratios if abs(ratio - 1) <= WITHIN]
    found = "%d of %d, measured / predicted %.2f (%.2f to %.2f)" % (
        len(good),
        len(ratios),
        middle(ratios),
        min(ratios),
        max(ratios),
    )
    return [Verdict(goal, found, len(good) >= OF_MOVES * len(ratios))]


def _quicker(measured: Measured) -> List[Verdict]:
    goal = "Compressible memory: at least %.1f x as fast as plain" % QUICKER
    return [_of_one(measured, "files", ("default", "balanced"), goal, lambda ratio: ratio >= QUICKER)]


def _never_slower(measured: Measured) -> List[Verdict]:
    goal = "Incompressible memory: at most 3 % slower than plain"
    return [_of_one(measured, "random", ("balanced", "default"), goal, lambda ratio: ratio <= SLOWER)]


def _encrypted(measured: Measured) -> List[Verdict]:
    goal = "Encrypted: at most %.2f of the time in the clear" % ENCRYPTED
    return [_of_one(measured, "tls", ("tls", "tcp"), goal, lambda ratio: ratio <= ENCRYPTED)]


def _of_one(
    measured: Measured, name: str, who: Tuple[str, str], goal: str, is_good: Callable[[float], bool]
) -> Verdict:
    ratios = measured[name].ratios(*who, figures.total_s) if name in measured else []
    if not ratios:
        return Verdict(goal, "not measured", None)
    found = "%.2f (%.2f to %.2f)" % (middle(ratios), min(ratios), max(ratios))
    return Verdict(goal, found, is_good(middle(ratios)))


GOALS: Tuple[Callable[[Measured], List[Verdict]], ...] = (
    _overhead,
    _all_end,
    _pause,
    _loss,
    _foretold,
    _quicker,
    _never_slower,
    _encrypted,
)
