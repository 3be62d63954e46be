# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A concern: one answer of a preflight, with a stable id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, NamedTuple

ERROR = "error"
WARNING = "warning"
NOTE = "note"


@dataclass(frozen=True)
class Concern:
    """id: stable, kebab-case. level: `error` refuses the operation, `warning` is reported and goes on, `note` is only in the result.

    detail: what was found, with names and values. remedy: what the user can do.
    """

    id: str
    level: str
    detail: str
    remedy: str

    def as_dict(self) -> Dict[str, str]:
        return {"id": self.id, "level": self.level, "detail": self.detail, "remedy": self.remedy}


class Entry(NamedTuple):
    """What a catalogue says of a concern. id, level: as above. when: what was found. remedy: what to do about it."""

    id: str
    level: str
    when: str
    remedy: str
