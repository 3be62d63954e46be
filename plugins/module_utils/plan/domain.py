# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wanted domain + what was found -> steps."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model import domain_wanted as want
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_change import Change, Edit
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_found import DomainFound
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import Wanted
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge, PreflightError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan, Step
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import domain_states
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.cloud_init import seed_steps, with_seed
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.disk_image import image_steps
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_clone import (
    clone_concerns,
    clone_steps,
    clone_warnings,
    found_as_cloned,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_disks import MIB, new_volume
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_growth import Growth, growth
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_new import first_definition
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_refusals import busy, concerns
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_removal import removal_steps
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_rename import (
    rename_concerns,
    rename_steps,
    renames,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_timing import Timed, timed


def plan_domain(wanted: Wanted, found: DomainFound) -> Plan:
    """The steps to the domain as wanted. Raises PreflightError or CannotConverge before anything is changed."""
    if wanted.state == want.ABSENT:
        return _absent(wanted, found)
    _refuse(wanted, found)
    found = found_as_cloned(wanted, found)
    wanted = with_seed(wanted, found)
    lifecycle = domain_states.transition(wanted.state, found.status)
    actions = tuple(step.action for step in lifecycle)
    if found.config is None:
        return _new(wanted, found, lifecycle)
    changes, grown = timed(wanted, found, actions), growth(wanted, found, actions)
    problems = busy(wanted, found) if changes.live or grown.now else ()
    if problems:
        raise PreflightError("Changing domain %s" % wanted.name, problems)
    before, after = _shown(changes.taken)
    before.update(grown.before)
    after.update(grown.after)
    _show_state(before, after, wanted, found, actions)
    _show_origin(before, after, wanted, found)
    return Plan(
        steps=_in_order(wanted, found, changes, grown, lifecycle),
        before=before,
        after=after,
        warnings=_warnings(wanted, found, changes.taken),
        facts=_waiting(grown.waiting + changes.waiting),
    )


def _in_order(
    wanted: Wanted, found: DomainFound, changes: Timed, grown: Growth, lifecycle: Tuple[Step, ...]
) -> Tuple[Step, ...]:
    """What changes the running guest comes before its definition, and after it was let go on: it has to take part."""
    origin = tuple(clone_steps(wanted, found) + rename_steps(wanted, found))
    volumes = origin + tuple(_volume_steps(wanted, found)) + grown.now + tuple(seed_steps(wanted, found))
    definition = tuple(_persist(found)) + changes.later + tuple(_autostart(wanted, found))
    if domain_states.wakes(tuple(step.action for step in lifecycle)):
        return volumes + lifecycle + changes.live + definition
    return volumes + changes.live + definition + lifecycle + grown.off


def _waiting(words: Sequence[str] = ()) -> Dict[str, Any]:
    return {"pending": bool(words), "pending_changes": list(words)}


def _refuse(wanted: Wanted, found: DomainFound) -> None:
    attempted = "Bringing domain %s to state %s" % (wanted.name, wanted.state)
    if found.config is not None and wanted.uuid is not None and wanted.uuid != found.config.uuid:
        raise CannotConverge(
            attempted,
            "it has UUID %s, the option uuid says %s" % (found.config.uuid, wanted.uuid),
            "A domain keeps its UUID: leave uuid out, or remove the domain first",
        )
    # What is copied or renamed comes first: the rest is judged by what that will be.
    problems = clone_concerns(wanted, found) + rename_concerns(wanted, found)
    problems = problems or concerns(wanted, found_as_cloned(wanted, found))
    if problems:
        raise PreflightError(attempted, problems)


def _new(wanted: Wanted, found: DomainFound, lifecycle: Tuple[Step, ...]) -> Plan:
    definition = first_definition(wanted, found)
    grown = growth(wanted, found, ())
    steps = _volume_steps(wanted, found) + list(grown.now) + seed_steps(wanted, found)
    steps.append(Step("define", definition.words, definition.args))
    if wanted.autostart:
        steps.append(Step("autostart", "start the domain with its host", {"value": True}))
    after: Dict[str, Any] = dict(
        definition.shown, **grown.after, state=_state_after(tuple(step.action for step in lifecycle))
    )
    return Plan(
        tuple(steps) + lifecycle,
        before=grown.before,
        after=after,
        warnings=definition.warnings + _nothing_to_save(wanted, found),
        facts=_waiting(),
    )


def _absent(wanted: Wanted, found: DomainFound) -> Plan:
    if found.status is None or found.config is None:
        return Plan(facts=_waiting())
    removal, warnings = removal_steps(wanted, found)
    before = {"state": domain_states.found_state(found.status), "name": wanted.name}
    return Plan(
        domain_states.transition(wanted.state, found.status) + removal,
        before=before,
        after={},
        warnings=warnings,
        facts=_waiting(),
    )


def _volume_steps(wanted: Wanted, found: DomainFound) -> List[Step]:
    steps = []
    for disk in wanted.disks or ():
        volume = new_volume(disk, found)
        if volume is not None:
            size = "%d MiB, %s" % (volume.capacity_bytes // MIB, volume.format)
            above = " over %s" % volume.backing if volume.backing else ""
            words = "create volume %s (%s)%s in pool %s" % (volume.name, size, above, volume.pool)
            steps.append(Step("create_volume", words, {"volume": volume}))
    return steps + image_steps(wanted, found)


def _persist(found: DomainFound) -> List[Step]:
    if found.status is not None and not found.status.persistent:
        return [Step("persist", "make the transient domain persistent")]
    return []


def _autostart(wanted: Wanted, found: DomainFound) -> List[Step]:
    now = found.status is not None and found.status.autostart
    if wanted.autostart is None or wanted.autostart == now:
        return []
    words = "start the domain with its host" if wanted.autostart else "no longer start the domain with its host"
    return [Step("autostart", words, {"value": wanted.autostart})]


def _shown(changes: Sequence[Change]) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    return ({change.key: change.before for change in changes}, {change.key: change.after for change in changes})


def _show_state(
    before: Dict[str, Any], after: Dict[str, Any], wanted: Wanted, found: DomainFound, actions: Tuple[str, ...]
) -> None:
    if actions:
        before["state"] = domain_states.found_state(found.status)
        after["state"] = _state_after(actions)
    now = found.status is not None and found.status.autostart
    if wanted.autostart is not None and wanted.autostart != now:
        before["autostart"], after["autostart"] = now, wanted.autostart


def _show_origin(before: Dict[str, Any], after: Dict[str, Any], wanted: Wanted, found: DomainFound) -> None:
    if renames(wanted, found):
        before["name"], after["name"] = wanted.rename_from, wanted.name
    elif found.clone is not None:
        before.clear()
        after["name"], after["clone_from"] = wanted.name, wanted.clone_from


_AFTER = {
    "start": "running",
    "restore": "running",
    "resume": "running",
    "wake": "running",
    "start_paused": "paused",
    "suspend": "paused",
    "save": "saved",
}


def _state_after(actions: Tuple[str, ...]) -> str:
    return _AFTER.get(actions[-1], "shutoff") if actions else "shutoff"


def _warnings(wanted: Wanted, found: DomainFound, changes: Sequence[Change]) -> Tuple[str, ...]:
    said = []
    if any(change.edit.name == "firmware" for change in changes):
        said.append("The firmware of %s changes: a system installed under the other one may not boot." % wanted.name)
    return tuple(said) + clone_warnings(found) + _nothing_to_save(wanted, found)


def _nothing_to_save(wanted: Wanted, found: DomainFound) -> Tuple[str, ...]:
    state = domain_states.found_state(found.status)
    if wanted.state == want.SAVED and state in (domain_states.MISSING, "shutoff"):
        return ("Domain %s is off: there is no memory to save." % wanted.name,)
    return ()


def edits_of(steps: Sequence[Step]) -> Tuple[Edit, ...]:
    """The edits of the definition among the steps, in order."""
    return tuple(step.args["edit"] for step in steps if step.action == "edit")
