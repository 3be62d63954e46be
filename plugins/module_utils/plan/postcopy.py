# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Post-copy: the guest runs on the destination before its memory is there. Only by consent, as a failure then loses it."""

from __future__ import annotations

from typing import List, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import ERROR, Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.host import version_text
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import LIVE, Found, Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import POSTCOPY, Schedule

PARALLEL_SINCE = 10001000


def is_allowed(wish: Wish) -> bool:
    return wish.allow_postcopy or wish.on_timeout == POSTCOPY


def goes_parallel(found: Found) -> bool:
    """Post-copy over several connections: QEMU 10.1 on both ends."""
    return min(found.source.facts.qemu_version, found.dest.facts.qemu_version) >= PARALLEL_SINCE


def concerns(wish: Wish, found: Found, mode: str, schedule: Schedule) -> Tuple[Concern, ...]:
    """What stands against it; none where it was not consented to. wish.tls must be decided."""
    if not is_allowed(wish) or mode != LIVE:
        return ()
    answers: List[Concern] = []
    if found.dest.userfaultfd is False:
        detail = "post-copy was allowed, and QEMU on %s may not use userfaultfd (vm.unprivileged_userfaultfd is 0)"
        remedy = "Set the sysctl to 1 there (the role hypervisor does), or move without post-copy."
        answers.append(Concern("postcopy-userfaultfd", ERROR, detail % found.dest.side, remedy))
    if (wish.tls or schedule.connections) and not goes_parallel(found):
        older = min((found.source, found.dest), key=lambda end: end.facts.qemu_version)
        cause = "encrypted memory goes" if wish.tls else "by the schedule memory goes"
        detail = "post-copy was allowed, and %s over several connections; %s has QEMU %s, which cannot do both" % (
            cause,
            older.side,
            version_text(older.facts.qemu_version),
        )
        remedy = "Move without post-copy, or with tls: false and schedule.connections: 0, or update QEMU to 10.1."
        answers.append(Concern("postcopy-parallel", ERROR, detail, remedy))
    return tuple(answers)
