# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run of kvm_migrate writes down on its host while it moves a guest, for a run that comes meanwhile or after its death."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional


@dataclass(frozen=True)
class MoveRecord:
    """host: the destination as the task called it. uuid: of the guest. mode: live, offline, or another answer of the plan.
    pid, started: the process that moves it and its start in clock ticks since boot (proc(5), field 22): together they name
    it for as long as the host is up.
    """

    host: str
    uuid: str
    mode: str
    pid: int = 0
    started: int = 0

    def as_dict(self) -> Dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class Standing:
    """record: what the last run left or a living one has written; None when there is none. alive: whether its process is."""

    record: Optional[MoveRecord] = None
    alive: bool = False


def record_of(told: Mapping[str, Any]) -> MoveRecord:
    """From the file's content. Raises KeyError, TypeError or ValueError when it is something else."""
    return MoveRecord(
        host=str(told["host"]),
        uuid=str(told["uuid"]),
        mode=str(told["mode"]),
        pid=int(told["pid"]),
        started=int(told["started"]),
    )
