# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plan is a value: what will be done, in order and in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Tuple


@dataclass(frozen=True)
class Step:
    """One thing to do.

    action: the key by which `run/` finds the hand that does it ("define", "start", …).
    words: the same, said for a person ("start the domain").
    args: values the hand needs; plain data only.
    """

    action: str
    words: str
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """steps: empty means nothing to change. before, after: what --diff shows, plain data of the same shape."""

    steps: Tuple[Step, ...] = ()
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    warnings: Tuple[str, ...] = ()
    facts: Dict[str, Any] = field(default_factory=dict)

    @property
    def changes(self) -> bool:
        return bool(self.steps)

    @property
    def words(self) -> Tuple[str, ...]:
        return tuple(step.words for step in self.steps)
