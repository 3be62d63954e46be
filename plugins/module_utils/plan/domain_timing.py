# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a running guest gets a change: at once, or at its next boot."""

from __future__ import annotations

from dataclasses import replace
from typing import List, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model import domain as is_
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_change import Change
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_found import DomainFound
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import Wanted
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Step
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import domain_fields, domain_states
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_disks import placed
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_live import Ask, obstacle, ports_used

# Takes effect on a running guest at once, by the definition's own step.
IMMEDIATE = ("metadata",)


class Timed(NamedTuple):
    """live: steps that change the running guest and the definition together. later: those of the definition alone.

    taken: the changes behind them, for the diff. waiting: what still waits for a boot afterwards, in words.
    """

    live: Tuple[Step, ...] = ()
    later: Tuple[Step, ...] = ()
    taken: Tuple[Change, ...] = ()
    waiting: Tuple[str, ...] = ()


def timed(wanted: Wanted, found: DomainFound, actions: Tuple[str, ...]) -> Timed:
    """actions: of the lifecycle steps of the same plan."""
    config, live = found.config, found.live
    if config is None:
        return Timed()
    if wanted.xml is not None:
        return _whole(found, live is not None and not domain_states.stops(actions))
    changes = domain_fields.changes(wanted, config, found)
    if live is None or domain_states.stops(actions):
        return Timed(later=tuple(_edit(change, False) for change in changes), taken=changes)
    running = _live_changes(wanted, config, live, found)
    return _split(wanted, found, live, changes, running, is_awake(found, actions))


def is_awake(found: DomainFound, actions: Tuple[str, ...]) -> bool:
    """Whether the guest runs when the changes come, so that it can take part in them."""
    state = found.status.state if found.status is not None else None
    return state in (is_.RUNNING, is_.NOSTATE) or domain_states.wakes(actions)


def _whole(found: DomainFound, late: bool) -> Timed:
    """A definition from `xml` is given whole, and waits as a whole."""
    changes = found.xml_changes
    waiting = [change.words for change in changes] if late else []
    if late and not waiting and found.config is not None and found.live is not None:
        if domain_fields.boots_differently(found.config, found.live):
            waiting = ["the definition differs from the guest that runs"]
    steps = tuple(_edit(change, late, "redefine") for change in changes)
    return Timed(later=steps, taken=changes, waiting=tuple(waiting))


def _edit(change: Change, late: bool, action: str = "edit") -> Step:
    when = " (next boot)" if late and change.edit.name not in IMMEDIATE else ""
    return Step(action, change.words + when, {"edit": change.edit})


def _live_changes(wanted: Wanted, config: Domain, live: Domain, found: DomainFound) -> Tuple[Change, ...]:
    """What differs in the running guest, whose devices go by the targets and MAC addresses of the definition."""
    disks, nics = wanted.disks, wanted.nics
    if disks is not None:
        pairs = placed(disks, config, found, wanted.machine or config.machine)
        disks = tuple(replace(disk, target=other.target if other else disk.target) for disk, other in pairs)
    if nics is not None:
        cards = domain_fields.pair_nics(nics, config.nics)[0]
        nics = tuple(replace(nic, mac=other.mac if other else nic.mac) for nic, other in cards)
    changes = domain_fields.changes(replace(wanted, disks=disks, nics=nics), live, found)
    return tuple(change for change in changes if change.edit.name not in IMMEDIATE)


def _split(
    wanted: Wanted,
    found: DomainFound,
    domain: Domain,
    defined: Sequence[Change],
    running: Sequence[Change],
    awake: bool,
) -> Timed:
    """domain: the one that runs. A change that both need has the same key in both lists."""
    live: List[Step] = []
    later: List[Step] = []
    taken: List[Change] = []
    waiting: List[str] = []
    ours = {change.key: change for change in running}
    theirs = {change.key: change for change in defined}
    room = found.room
    for key in dict.fromkeys(change.key for change in list(defined) + list(running)):
        change, config = ours.get(key), theirs.get(key)
        why = (
            ""
            if change is None or not wanted.apply_live
            else obstacle(Ask(change, domain, room, config is None, awake))
        )
        if change is not None and why is None:
            live.append(_live_step(change, config, found))
            taken.append(change)
            if room.pci_ports is not None:
                room = replace(room, pci_ports=max(0, room.pci_ports - ports_used(change)))
            continue
        if change is not None:
            waiting.append("%s (%s)" % (change.words, why) if why else change.words)
        if config is not None:
            later.append(_edit(config, True))
            taken.append(config)
    return Timed(tuple(live), tuple(later), tuple(taken), tuple(waiting))


def _live_step(change: Change, config: Optional[Change], found: DomainFound) -> Step:
    """config: the change of the definition that goes with it; None when that says it already.

    A transient domain has no definition but the running one, until it is made persistent afterwards.
    """
    persistent = found.status is None or found.status.persistent
    edit = config.edit if config is not None else None
    return Step("live", change.words + " (live)", {"edit": change.edit, "config": edit, "persistent": persistent})
