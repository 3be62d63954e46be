# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What they compete in. Each is data: the guest, the link, who takes part, against whom the ratios are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Tuple

# What tc's rate leaves for memory, in MiB/s: headers of TCP and IP taken off.
LINKS: Dict[str, float] = {"200mbit": 22.8, "100mbit": 11.4}
THROTTLED = ("autoconverge", "balanced", "must_finish")
BUSY = ("default", "tuned", "doubling", "autoconverge", "balanced", "must_finish")


@dataclass(frozen=True)
class Scenario:
    """ratio: how much faster the guest writes than the link sends (lambda). working_set_mib: what it writes to, random bytes.
    files_mib, random_mib: what lies in its memory besides, files of a Linux system or random bytes.
    is_whole: whole pages are written, else one word of each.
    """

    title: str
    contenders: Tuple[str, ...]
    baseline: str
    memory_mib: int = 256
    link: str = "200mbit"
    ratio: float = 0
    working_set_mib: int = 32
    files_mib: int = 0
    random_mib: int = 0
    is_whole: bool = True

    @property
    def link_mib_s(self) -> float:
        return LINKS[self.link]

    @property
    def dirty_mib_s(self) -> float:
        return round(self.ratio * self.link_mib_s, 1)

    @property
    def load(self) -> str:
        """What the guest's kernel is told, when a word of each page is written."""
        return "" if self.is_whole or not self.ratio else "kvmops.dirty_mib_s=%s kvmops.dirty_set_mib=%d" % self._writes

    @property
    def pages_written(self) -> str:
        """What the worker is told, when whole pages are written."""
        return "%s %d" % self._writes if self.is_whole and self.ratio else "0 0"

    @property
    def _writes(self) -> Tuple[float, int]:
        return self.dirty_mib_s, self.working_set_mib


SCENARIOS: Dict[str, Scenario] = {
    "idle": Scenario("An idle guest", ("default", "balanced", "unknown_link"), "default"),
    "half": Scenario(
        "A guest that writes half as fast as the link sends",
        ("doubling", "balanced", "minimal_downtime", "one_connection", "paced", "packed", "least_impact"),
        "doubling",
        ratio=0.5,
    ),
    "busy12": Scenario("A guest that writes 1.2 times as fast as the link sends", THROTTLED, "autoconverge", ratio=1.2),
    "busy2": Scenario("A guest that writes twice as fast as the link sends", BUSY, "autoconverge", ratio=2),
    "busy3": Scenario("A guest that writes three times as fast as the link sends", THROTTLED, "autoconverge", ratio=3),
    "words": Scenario(
        "The same at twice the link's rate, but one word of each page",
        ("tuned", "doubling", "balanced", "xbzrle"),
        "doubling",
        ratio=2,
        is_whole=False,
    ),
    "files": Scenario(
        "Compressible memory: files of a Linux system", ("default", "tuned", "balanced"), "default", files_mib=32
    ),
    "random": Scenario(
        "Incompressible memory: random bytes", ("default", "tuned", "balanced"), "default", random_mib=32
    ),
    "tls": Scenario("Encrypted or not", ("tcp", "tls"), "tcp", random_mib=32),
}
