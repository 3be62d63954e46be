# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A probe: requests sent to a guest at a steady beat while it moves, and when each was answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

TCP, ICMP, HTTP, AGENT = "tcp", "icmp", "http", "agent"
SOURCE, DESTINATION = "source", "destination"

BEFORE, DURING, AFTER = "before", "during", "after"


@dataclass(frozen=True)
class Probe:
    """What is asked, how often, and for how long around the move.

    address: whom to ask; None for the guest agent, which is reached through libvirt. path: of an HTTP request.
    send, expect: text (tcp: bytes in UTF-8); for http `expect` is the status wanted, None means any below 400.
    sender: which host asks. before_s, after_s: how long is measured before and after the move.
    """

    type: str
    address: Optional[str] = None
    port: Optional[int] = None
    path: str = "/"
    send: Optional[str] = None
    expect: Optional[str] = None
    interval_ms: int = 50
    timeout_ms: int = 1000
    sender: str = SOURCE
    before_s: float = 2.0
    after_s: float = 2.0

    @property
    def words(self) -> str:
        """Whom it asks, for a message."""
        if self.type == AGENT:
            return "the guest agent"
        return "%s to %s%s" % (self.type, self.address, ":%d" % self.port if self.port else "")

    def request(self) -> Dict[str, Any]:
        """What host/prober.py is told. host: what HTTP calls the one that is asked."""
        keys = ("type", "address", "port", "path", "send", "expect", "interval_ms", "timeout_ms")
        return dict({key: getattr(self, key) for key in keys}, host=self.address)


@dataclass(frozen=True)
class Shot:
    """One request. at_ms: when it was sent, since the start of the move (negative before). took_ms: until the answer; None when lost."""

    at_ms: float
    took_ms: Optional[float] = None

    @property
    def answered_at_ms(self) -> Optional[float]:
        return None if self.took_ms is None else self.at_ms + self.took_ms


@dataclass(frozen=True)
class Record:
    """All that a probe saw. end_ms: when the move had ended; shots: as they were sent. why_lost: the first words of a failure."""

    interval_ms: int
    end_ms: float
    shots: Tuple[Shot, ...] = ()
    why_lost: Optional[str] = None
