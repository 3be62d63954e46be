# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When the rounds over the disks have come near enough to the source to stand still for the last one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence

from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import Pass
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_ranges import CHUNK

GO_ON, CUT, GIVE_UP = "go on", "cut", "give up"
# Freezing, the last question, and opening the images afresh: what a round costs beside its bytes, until one was measured.
BESIDE_S = 1.0
# A rate is measured by a round that had something to move.
TELLING = 8 * CHUNK
# So many rounds in which the rest did not become less by a twentieth: more of them will not help.
PATIENCE = 3
LESS = 0.95
# A round more is worth its time when it makes so much of the rest.
HALF = 0.5
# A rest that takes no longer than this is small enough: about what a freeze takes without any.
WORTH_S = 0.2


@dataclass(frozen=True)
class Forecast:
    """pause_s: how long the source would stand still, cut over now. rest: bytes. rate: bytes/s. beside_s: without bytes."""

    pause_s: float
    rest: int
    rate: float
    beside_s: float

    def as_dict(self) -> Dict[str, Any]:
        return {
            "pause_s": round(self.pause_s, 2),
            "rest_bytes": self.rest,
            "rate_mib_s": round(self.rate / CHUNK, 2),
            "beside_s": round(self.beside_s, 2),
        }


def forecast(passes: Sequence[Pass]) -> Forecast:
    """pause = beside + rest / rate. rate: of the latest round that moved TELLING bytes, else the best of all; beside: what
    the smallest round took more than its bytes need, at least a tenth of BESIDE_S. passes: not empty, the latest last.
    """
    telling = [each for each in passes if each.bytes >= TELLING]
    rate = telling[-1].rate if telling else max(each.rate for each in passes)
    smallest = min(passes, key=lambda each: each.bytes)
    measured = smallest.seconds - smallest.bytes / rate if rate and smallest.bytes < TELLING else BESIDE_S
    beside = max(BESIDE_S / 10, measured)
    rest = passes[-1].rest
    # A source that had nothing to send so far told no rate: a MiB/s is less than any disk and link of today gives.
    return Forecast(beside + rest / (rate or float(CHUNK)), rest, rate, beside)


def prediction(
    passes: Sequence[Pass], allowed_s: float, guest_s: Optional[float], stands_still: bool
) -> Dict[str, Any]:
    """Of the pause, as the user is told. passes: those before it. allowed_s: for the last round. guest_s: what fix-up and boot
    test will take, 0.0 without them, None when nobody knows. stands_still: the source does for that long, too."""
    told = dict(forecast(passes).as_dict(), guest_s=guest_s, allowed_s=allowed_s)
    if stands_still and guest_s is not None:
        told["pause_s"] = round(told["pause_s"] + guest_s, 2)
    return told


def next_step(passes: Sequence[Pass], max_downtime_s: float, max_passes: int) -> str:
    """CUT when the pause is expected to be within bounds, and another round would not halve the rest; GIVE_UP when more rounds
    promise nothing; else GO_ON."""
    if forecast(passes).pause_s <= max_downtime_s:
        return GO_ON if len(passes) < max_passes and _halves(passes) else CUT
    if len(passes) >= max_passes:
        return GIVE_UP
    if len(passes) > PATIENCE:
        before = min(each.rest for each in passes[:-PATIENCE])
        if min(each.rest for each in passes[-PATIENCE:]) > LESS * before:
            return GIVE_UP
    return GO_ON


def _halves(passes: Sequence[Pass]) -> bool:
    """Whether the rest behind one more round would take less than half as long, when the source writes on as it did. What a
    round costs beside its bytes stays the same, and is mostly an estimate."""
    seen, last = forecast(passes), passes[-1]
    if not (last.seconds and seen.rate) or seen.rest / seen.rate <= WORTH_S:
        return False
    return last.rest / last.seconds * seen.pause_s < HALF * seen.rest


def why_given_up(passes: Sequence[Pass], max_downtime_s: float) -> str:
    """For a person: what the source writes, and what would help."""
    seen, last = forecast(passes), passes[-1]
    return (
        "after %d passes %.1f MiB remain, at %.1f MiB/s; the source writes %.1f MiB/s. It would stand still for %.1f s, and "
        "%s s are allowed"
        % (len(passes), seen.rest / CHUNK, seen.rate / CHUNK, _writes(last), seen.pause_s, max_downtime_s)
    )


def _writes(last: Pass) -> float:
    return last.rest / CHUNK / last.seconds if last.seconds > 0 else 0.0
