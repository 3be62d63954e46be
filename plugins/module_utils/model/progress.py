# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a long piece of work has come, and the line that says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional

# Where a module writes it and the action plugin reads it: memory, not disk; gone after a reboot.
FOLDER = "/run/kvmops"


def path_of(module: str, name: str) -> str:
    """The file of one running module. `name` has passed model/names.py: it is a plain file name."""
    return "%s/%s-%s.json" % (FOLDER, module, name)


def start_of(stat: str) -> Optional[int]:
    """When a process began, in clock ticks since boot: field 22 of /proc/PID/stat (proc(5)). A zombie has ended: None."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 and fields[19].isdigit() and fields[0] != "Z" else None


@dataclass(frozen=True)
class Progress:
    """subject: "web1 to kvm2". phase: disk, memory, verify. Sizes in MiB; rate in MiB/s; elapsed in s."""

    subject: str
    phase: str
    done_mib: float
    remaining_mib: float
    rate_mib_s: float
    elapsed_s: float

    @property
    def percent(self) -> int:
        whole = self.done_mib + self.remaining_mib
        return int(100 * self.done_mib / whole) if whole > 0 else 0

    @property
    def left_s(self) -> Optional[float]:
        """Expected seconds until the end of this phase; None when nothing moves."""
        return self.remaining_mib / self.rate_mib_s if self.rate_mib_s > 0 else None

    @property
    def line(self) -> str:
        """For a person: what, how far, how fast, how long still."""
        return self.line_until(None)

    def line_until(self, ends_at: Optional[str]) -> str:
        """The same, with the moment at which this phase is expected to end, on the clock of the one who reads it."""
        if self.done_mib + self.remaining_mib <= 0:
            return "%s  %s" % (self.subject, self.phase)
        left = "-" if self.left_s is None else "%.0f s left" % self.left_s
        if ends_at is not None and self.left_s is not None:
            left += ", ends at %s" % ends_at
        return "%s  %s %3d %%  %.1f MiB/s  %.0f MiB left  %s" % (
            self.subject,
            self.phase,
            self.percent,
            self.rate_mib_s,
            self.remaining_mib,
            left,
        )


def is_of_a_living_run(told: Mapping[str, Any], stat: str) -> bool:
    """Whether the process that wrote the file is the one that stat (of its pid, now) describes. A dead run's file says nothing."""
    return told.get("started") is not None and told["started"] == start_of(stat)


def progress_of(told: Mapping[str, Any]) -> Progress:
    """From the file's content. Raises KeyError or TypeError when it is something else."""
    return Progress(
        str(told["subject"]),
        str(told["phase"]),
        float(told["done_mib"]),
        float(told["remaining_mib"]),
        float(told["rate_mib_s"]),
        float(told["elapsed_s"]),
    )
