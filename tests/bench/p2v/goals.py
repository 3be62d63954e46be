# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The goals, and whether they are reached. Each is a function of what was measured."""

from __future__ import annotations

from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

from tests.bench.p2v import figures
from tests.bench.p2v.contenders import BUSY, CONTENDERS, DD, FIRST, NBD, SECOND, ZSTD
from tests.bench.p2v.figures import Figures, middle

FASTER = {DD: 6.0, ZSTD: 2.0, NBD: 1.5}
PAUSE, AGAIN, VERIFIED = 1 / 20, 10.0, 0.10


class Verdict(NamedTuple):
    """reached: None when what it needs was not measured."""

    goal: str
    found: str
    reached: Optional[bool]


def verdicts(measured: Figures) -> List[Verdict]:
    return [*(_faster(measured, who) for who in FASTER), _pause(measured), _again(measured), _verified(measured)]


def _faster(measured: Figures, who: str) -> Verdict:
    goal = "A first image is at least %.1f x as fast as %s" % (FASTER[who], CONTENDERS[who].title)
    ratios = measured.ratios(who, FIRST, figures.seconds)
    return _judged(goal, ratios, "%.2f", lambda ratio: ratio >= FASTER[who])


def _pause(measured: Figures) -> Verdict:
    goal = "At a write rate of 5 % of the link the pause is at most 1/20 of the time of a full copy"
    return _judged(goal, measured.numbers(BUSY, figures.pause_share), "%.3f", lambda share: share <= PAUSE)


def _again(measured: Figures) -> Verdict:
    goal = "A second image with 2 %% changed is at least %.0f x as fast as the first" % AGAIN
    return _judged(goal, measured.ratios(FIRST, SECOND, figures.seconds), "%.2f", lambda ratio: ratio >= AGAIN)


def _verified(measured: Figures) -> Verdict:
    goal = "Reading the image back costs at most 10 % of a run"
    return _judged(goal, measured.numbers(FIRST, figures.verify_share), "%.3f", lambda share: share <= VERIFIED)


def _judged(goal: str, values: Sequence[float], form: str, is_good: Callable[[float], bool]) -> Verdict:
    """By the median; the least and the most are told."""
    if not values:
        return Verdict(goal, "not measured", None)
    ends: Tuple[float, float] = (min(values), max(values))
    found = form % middle(values)
    if len(values) > 1:
        found += " (%s to %s)" % (form % ends[0], form % ends[1])
    return Verdict(goal, found, is_good(middle(values)))
