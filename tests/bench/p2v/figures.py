# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The numbers of the copies: medians, and ratios against another of the same round."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any, Callable, List, Mapping, Optional, Sequence

Copy = Mapping[str, Any]
Number = Callable[[Copy], Optional[float]]


@dataclass(frozen=True)
class Figures:
    """copies: in the order in which they were made."""

    copies: Sequence[Copy]

    @property
    def rounds(self) -> int:
        """Of those in which everybody took part whoever did at all."""
        everybody = {copy["who"] for copy in self.copies}
        return min((len(self.of(who)) for who in everybody), default=0)

    def of(self, who: str) -> List[Copy]:
        return [copy for copy in self.copies if copy["who"] == who]

    def numbers(self, who: str, number: Number) -> List[float]:
        return [value for value in map(number, self.of(who)) if value is not None]

    def ratios(self, who: str, other: str, number: Number) -> List[float]:
        """Of each round in which both have a number."""
        theirs = {copy["round"]: number(copy) for copy in self.of(other)}
        return [
            mine / their
            for copy in self.of(who)
            for mine, their in [(number(copy), theirs.get(copy["round"]))]
            if mine is not None and their
        ]


def seconds(copy: Copy) -> Optional[float]:
    """Of what was typed, or of the task without Ansible's own time for one that does nothing."""
    return copy["seconds"]


def wire_mib(copy: Copy) -> Optional[float]:
    return copy["wire_mib"]


def inside_s(copy: Copy) -> Optional[float]:
    """What the module counted: without Ansible, and without the agent's start."""
    return copy["told"]["metrics"]["total_s"] if "told" in copy else None


def pause_s(copy: Copy) -> Optional[float]:
    return copy["told"]["pause_s"] if "told" in copy else None


def pause_share(copy: Copy) -> Optional[float]:
    """Of the time that the first pass took, which is the copy of all that is used."""
    return copy["told"]["pause_s"] / copy["told"]["passes"][0]["seconds"] if "told" in copy else None


def verify_share(copy: Copy) -> Optional[float]:
    """Of the module's time, what reading the image back took."""
    return copy["told"]["metrics"]["verify_s"] / copy["told"]["metrics"]["total_s"] if "told" in copy else None


def pace_share(copy: Copy) -> Optional[float]:
    """What the writer wrote during the run, of what it wrote alone."""
    felt = copy.get("writer")
    return felt["with"]["mib_s"] / felt["without"]["mib_s"] if felt and felt["without"]["mib_s"] else None


def slower(copy: Copy) -> Optional[float]:
    """The 99th percentile of the writer's fsyncs during the run, over that without."""
    felt = copy.get("writer")
    return felt["with"]["p99_ms"] / felt["without"]["p99_ms"] if felt and felt["without"]["p99_ms"] else None


def middle(values: Sequence[float]) -> float:
    return float(statistics.median(values))
