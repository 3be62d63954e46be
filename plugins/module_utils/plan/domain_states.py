# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a wanted state and the state found to the steps between: one table, one row per answer."""

from __future__ import annotations

from typing import Dict, Mapping, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model import domain as is_
from ansible_collections.kvmops.fleet.plugins.module_utils.model import domain_wanted as want
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import DomainStatus
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Step

# Beside libvirt's states: a domain that does not exist, and a shut off one whose memory lies on disk.
MISSING = "missing"
SAVED = "saved"

WORDS: Mapping[str, str] = {
    "start": "start the domain",
    "restore": "start the domain from its saved memory",
    "start_paused": "start the domain paused",
    "resume": "resume the domain",
    "wake": "wake the domain up",
    "suspend": "pause the domain",
    "shutdown": "shut the domain down and wait until it is off",
    "wait_off": "wait until the domain is off",
    "destroy": "stop the domain at once",
    "save": "save the domain's memory to disk and stop it",
    "undefine": "remove the domain's definition",
}

_STOP = ("shutdown",)
_WAKE_AND_STOP = ("wake", "shutdown")
_RESUME_AND_STOP = ("resume", "shutdown")

TABLE: Dict[str, Dict[str, Tuple[str, ...]]] = {
    want.PRESENT: {},
    want.RUNNING: {
        MISSING: ("start",),
        is_.SHUTOFF: ("start",),
        SAVED: ("restore",),
        is_.CRASHED: ("destroy", "start"),
        is_.PAUSED: ("resume",),
        is_.SHUTTING_DOWN: ("wait_off", "start"),
        is_.SUSPENDED: ("wake",),
    },
    want.SHUTDOWN: {
        is_.RUNNING: _STOP,
        is_.NOSTATE: _STOP,
        is_.PAUSED: _RESUME_AND_STOP,
        is_.SHUTTING_DOWN: ("wait_off",),
        is_.SUSPENDED: _WAKE_AND_STOP,
        is_.CRASHED: ("destroy",),
    },
    want.DESTROYED: {
        is_.RUNNING: ("destroy",),
        is_.NOSTATE: ("destroy",),
        is_.PAUSED: ("destroy",),
        is_.SHUTTING_DOWN: ("destroy",),
        is_.SUSPENDED: ("destroy",),
        is_.CRASHED: ("destroy",),
    },
    want.PAUSED: {
        MISSING: ("start_paused",),
        is_.SHUTOFF: ("start_paused",),
        SAVED: ("start_paused",),
        is_.CRASHED: ("destroy", "start_paused"),
        is_.RUNNING: ("suspend",),
        is_.NOSTATE: ("suspend",),
        is_.SHUTTING_DOWN: ("wait_off", "start_paused"),
        is_.SUSPENDED: ("wake", "suspend"),
    },
    want.SAVED: {
        is_.RUNNING: ("save",),
        is_.NOSTATE: ("save",),
        is_.PAUSED: ("save",),
        is_.SHUTTING_DOWN: ("wait_off",),
        is_.SUSPENDED: ("wake", "save"),
        is_.CRASHED: ("destroy",),
    },
    want.ABSENT: {
        is_.SHUTOFF: ("undefine",),
        SAVED: ("undefine",),
        is_.CRASHED: ("destroy", "undefine"),
        is_.RUNNING: _STOP + ("undefine",),
        is_.NOSTATE: _STOP + ("undefine",),
        is_.PAUSED: _RESUME_AND_STOP + ("undefine",),
        is_.SHUTTING_DOWN: ("wait_off", "undefine"),
        is_.SUSPENDED: _WAKE_AND_STOP + ("undefine",),
    },
}


def found_state(status: Optional[DomainStatus]) -> str:
    """One of the columns of the table."""
    if status is None:
        return MISSING
    if status.state == is_.SHUTOFF and status.managed_save:
        return SAVED
    # A crashed domain that libvirt did not keep is simply off.
    if status.state == is_.CRASHED and status.id is None:
        return is_.SHUTOFF
    return status.state


def transition(wanted: str, status: Optional[DomainStatus]) -> Tuple[Step, ...]:
    """The steps to the wanted state. A transient domain vanishes when it stops, so nothing is left to undefine."""
    actions = TABLE[wanted].get(found_state(status), ())
    if status is not None and not status.persistent:
        actions = tuple(action for action in actions if action != "undefine")
    return tuple(Step(action, WORDS[action]) for action in actions)


def boots(actions: Tuple[str, ...]) -> bool:
    """Whether after these steps the guest runs from the persistent definition."""
    return any(action in ("start", "start_paused") for action in actions)


def wakes(actions: Tuple[str, ...]) -> bool:
    """Whether they let a guest that stands still go on."""
    return bool(actions) and actions[-1] in ("resume", "wake")


def stops(actions: Tuple[str, ...]) -> bool:
    return any(action in ("shutdown", "wait_off", "destroy", "save") for action in actions)
