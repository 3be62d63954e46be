# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""May this domain move to that host? Every question is asked; every answer that is not "yes" is a Concern.

One function per question, named after it, in the file of its subject. plan/concerns.py lists what they may answer.
"""

from __future__ import annotations

from typing import Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import ERROR, Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import DiskMove, Found, Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import Schedule
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import (
    preflight_guest,
    preflight_hosts,
    preflight_machine,
    preflight_network,
    preflight_postcopy,
    preflight_storage,
    traps,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.question import Case, Question

QUESTIONS: Tuple[Question, ...] = (
    *preflight_hosts.QUESTIONS,
    *preflight_machine.QUESTIONS,
    *preflight_network.QUESTIONS,
    *preflight_storage.QUESTIONS,
    *preflight_guest.QUESTIONS,
    *preflight_postcopy.QUESTIONS,
    *traps.QUESTIONS,
)


def preflight(
    wish: Wish, found: Found, mode: str, moves: Tuple[DiskMove, ...], schedule: Optional[Schedule] = None
) -> Tuple[Concern, ...]:
    """All concerns about moving found.source's domain. mode: live or offline. wish.tls must be decided."""
    domain = found.source.effective
    if domain is None:
        return ()
    case = Case(wish, found, domain, mode, moves, schedule)
    return tuple(concern for question in QUESTIONS for concern in question(case))


def errors(concerns: Sequence[Concern]) -> Tuple[Concern, ...]:
    """Those that refuse the move."""
    return tuple(concern for concern in concerns if concern.level == ERROR)
