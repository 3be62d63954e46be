# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""After a live move: wait until both hosts agree who has the guest, and say it."""

from __future__ import annotations

import contextlib
from typing import Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import domains, libvirt_api, live_migration
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor
from ansible_collections.kvmops.fleet.plugins.module_utils.host.live_migration import Watched
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import PAUSED, RUNNING, moved_to
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge, HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import settlement
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_ends import Ends

# How long the two sides may need until both agree: libvirt's keepalive gives up after 30 s.
SETTLE_S = 35
# How long a daemon whose connection broke may take to answer a new one.
ANSWERS_S = 10


def settle(wish: Wish, ends: Ends, watched: Watched) -> None:
    """Return when the guest lives on the destination. Else raise HostError or CannotConverge that says where it is."""
    attempted = "move %s live to %s" % (wish.name, ends.dest.side)
    with contextlib.suppress(HostError):
        live_migration.wait_until(lambda: _agreed(wish, ends, watched), SETTLE_S, attempted, ends.dest.side)
    here, there = both_say(wish, ends)
    outcome = judged(wish, ends, here, there)
    if outcome == settlement.MOVED:
        return
    words = watched.error or "libvirt reported success"
    if watched.stopped is None:
        words = settlement.cause(words, watched.disk_errors, watched.samples[-1] if watched.samples else None)
    else:
        # That it ended is then what was wanted, however libvirt puts it.
        told = "" if watched.remedy and settlement.is_an_end(words) else "; libvirt: %s" % words
        words = "%s, and the move was ended (%s)%s" % (watched.why, watched.stopped, told)
    where, remedy = settlement.told(outcome, here, there, ends.source.side, ends.dest.side)
    if outcome in settlement.UNSETTLED:
        raise CannotConverge("Could not %s: %s" % (attempted, words), where, remedy)
    said = "%s. Now %s" % (words, where)
    advice = settlement.advice(watched.error, ends.source.side, ends.dest.side, watched.disk_errors)
    raise HostError(attempted, ends.source.side, said, remedy + (watched.remedy or advice))


def judged(wish: Wish, ends: Ends, here: str, there: str) -> str:
    """The verdict on what both sides say; where it may be a guest and a half that never ran, the destination is asked."""
    outcome = settlement.verdict(here, there)
    if (here, there) != (RUNNING, PAUSED):
        return outcome
    return settlement.with_reason(outcome, here, _reason(ends.dest, wish.name))


def _reason(hv: Hypervisor, name: str) -> Optional[str]:
    """Why the domain is paused there, if it still is."""
    with contextlib.suppress(HostError), libvirt_api.connected(hv, ANSWERS_S) as now:
        dom = domains.find(now, name)
        return domains.reason(dom) if dom is not None else None
    return None


def _agreed(wish: Wish, ends: Ends, watched: Watched) -> bool:
    outcome = settlement.verdict(*both_say(wish, ends))
    if watched.error is None:
        return outcome in (settlement.MOVED, settlement.STOPPED_THERE)
    return outcome in (settlement.MOVED, settlement.STAYED, settlement.LOST)


def both_say(wish: Wish, ends: Ends) -> Tuple[str, str]:
    """What the source and the destination say of the domain; see plan/settlement.py for the words.

    A definition that was only kept, and cannot start, is as good as none.
    """
    return _says(ends.source, wish.name), _says(ends.dest, wish.name)


def _says(hv: Hypervisor, name: str) -> str:
    try:
        with libvirt_api.connected(hv, ANSWERS_S) as now:
            dom = domains.find(now, name)
            status = domains.status(dom) if dom is not None else None
            if dom is not None and status is not None and not status.active and moved_to(domains.read(dom)[0]):
                return settlement.ABSENT
            return settlement.word_of(status)
    except HostError:
        return settlement.SILENT
