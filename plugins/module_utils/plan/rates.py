# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How fast a move sends, smoothed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Sample

# Weight of the newest value (KubeVirt's stall detector).
ALPHA = 0.4
# From so many values on, one odd one no longer decides.
SETTLED = 3


@dataclass(frozen=True)
class Rates:
    """pages_mib_s: memory of the guest per second, before compression. wire_mib_s: the same as sent. seen: values so far.

    since: the sample from which the next value is counted.
    """

    pages_mib_s: Optional[float] = None
    wire_mib_s: Optional[float] = None
    seen: int = 0
    since: Optional[Sample] = None

    def with_sample(self, sample: Sample) -> Rates:
        """One more value, where memory was sent. Empty pages go as a mark each: a stretch of them says nothing of the link."""
        since = self.since
        if sample.phase != "memory":
            return self
        if since is None:
            return replace(self, since=sample)
        seconds = (sample.at_ms - since.at_ms) / 1000.0
        wire = sample.memory_processed_mib - since.memory_processed_mib
        pages = sample.sent_mib - since.sent_mib
        passed = since.memory_remaining_mib - sample.memory_remaining_mib
        if passed > 2 * pages:
            return replace(self, since=sample)
        if seconds <= 0 or pages <= 0 or wire <= 0:
            return self
        return Rates(
            _smooth(self.pages_mib_s, pages / seconds), _smooth(self.wire_mib_s, wire / seconds), self.seen + 1, sample
        )

    @property
    def is_settled(self) -> bool:
        return self.seen >= SETTLED

    @property
    def settled_wire_mib_s(self) -> Optional[float]:
        return self.wire_mib_s if self.is_settled else None


def _smooth(old: Optional[float], new: float) -> float:
    return new if old is None else ALPHA * new + (1 - ALPHA) * old
