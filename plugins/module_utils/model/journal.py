# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The note that a move leaves on both hosts while it is under way, so that the next run knows what is whose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Step

# Where a note lies: on the host that the guest leaves, or on the one where it arrives.
LEAVING, ARRIVING = "leaving", "arriving"

# phase: nothing was handed over yet; the guest may be on either side; it has moved and only closing steps are open.
# KEPT is no move: it says which files of a guest that has left were kept for its return.
BEGUN, HANDING_OVER, CLOSING, KEPT = "begun", "handing-over", "closing", "kept"
PHASES = (BEGUN, HANDING_OVER, CLOSING, KEPT)


@dataclass(frozen=True)
class Journal:
    """One move.

    run: unique to the run. mode: live or offline. source, dest: names of the hosts; source_uuid, dest_uuid: their host
    UUIDs. created: paths on the destination where nothing was, and where this run puts files. temporary: names that they
    have meanwhile. made: path -> inode of those that are there. dest_defined: whether the destination had a definition
    of the guest before. closing: the steps after the hand-over. sent: path -> bytes that went out so far. paused: the guest
    ran, and was paused by us so that the move can end.
    """

    run: str
    name: str
    uuid: str
    mode: str
    source: str
    dest: str
    source_uuid: str
    dest_uuid: str
    phase: str = BEGUN
    created: Tuple[str, ...] = ()
    temporary: Tuple[str, ...] = ()
    made: Mapping[str, int] = field(default_factory=dict)
    dest_defined: bool = False
    closing: Tuple[Step, ...] = ()
    sent: Mapping[str, int] = field(default_factory=dict)
    paused: bool = False

    def as_dict(self) -> Dict[str, Any]:
        """Plain data for JSON."""
        steps = [{"action": step.action, "words": step.words, "args": dict(step.args)} for step in self.closing]
        return dict(self.__dict__, closing=steps, made=dict(self.made), sent=dict(self.sent))


def journal_of(told: Optional[Mapping[str, Any]]) -> Optional[Journal]:
    """From its plain data; None for none. Raises KeyError, TypeError or ValueError when it is something else."""
    return None if told is None else read_journal(told)


def read_journal(told: Mapping[str, Any]) -> Journal:
    """The same when there is one."""
    if told["phase"] not in PHASES:
        raise ValueError("unknown phase %r" % told["phase"])
    steps = tuple(Step(str(step["action"]), str(step["words"]), dict(step["args"])) for step in told["closing"])
    lists = {key: tuple(told[key]) for key in ("created", "temporary")}
    return Journal(**dict(told, **lists, closing=steps))
