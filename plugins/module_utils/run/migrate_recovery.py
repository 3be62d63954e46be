# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps that clean up after an earlier move; plan/recovery.py decides them."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Dict

from ansible_collections.kvmops.fleet.plugins.module_utils.host import (
    definitions,
    domains,
    files,
    kept_definition,
    lifecycle,
    pools,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.host import journal as notebook
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import HERE
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import PAUSED
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import DomainGone
from ansible_collections.kvmops.fleet.plugins.module_utils.model.journal import LEAVING
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Step
from ansible_collections.kvmops.fleet.plugins.module_utils.run import migrate_resume
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_ends import Ends


def take(wish: Wish, ends: Ends, step: Step) -> bool:
    """Take the step if it is one of these. Raises HostError."""
    hand = _HANDS.get(step.action)
    if hand is not None:
        hand(wish, ends, step)
    return hand is not None


def _stop(hv: Hypervisor, name: str) -> None:
    dom = domains.find(hv, name)
    if dom is not None:
        lifecycle.destroy(dom)


def _undefine(hv: Hypervisor, name: str) -> None:
    dom = domains.find(hv, name)
    if dom is not None:
        definitions.undefine(hv, dom)


def _resume(hv: Hypervisor, name: str) -> None:
    dom = domains.find(hv, name)
    # libvirt lets it go on by itself on some releases, perhaps just now.
    if dom is not None and domains.status(dom).state == PAUSED:
        lifecycle.resume(dom)


def _join(wish: Wish, ends: Ends, step: Step) -> None:
    migrate_resume.take(wish, ends, step.args["tls"])
    # A move that went on by itself ends without libvirt's remembering that the definition was to go.
    dom = domains.find(ends.source, wish.name)
    with contextlib.suppress(DomainGone):
        if dom is not None and not domains.status(dom).active:
            definitions.undefine(ends.source, dom)


def _remove(ends: Ends, step: Step) -> None:
    files.remove(ends.files_of_dest, step.args["path"])
    if step.args["pool"]:
        pools.refresh(ends.dest, step.args["pool"])


def _forget(ends: Ends, step: Step) -> None:
    for role in step.args["roles"]:
        notebook.forget(HERE if role == LEAVING else ends.files_of_dest, role, step.args["uuid"])
        if role == LEAVING:
            kept_definition.drop(step.args["uuid"])


_HANDS: Dict[str, Callable[[Wish, Ends, Step], Any]] = {
    "stop-source": lambda wish, ends, step: _stop(ends.source, wish.name),
    "stop-dest": lambda wish, ends, step: _stop(ends.dest, wish.name),
    "resume-source": lambda wish, ends, step: _resume(ends.source, wish.name),
    "resume-postcopy": _join,
    "resume-dest": lambda wish, ends, step: _resume(ends.dest, wish.name),
    "withdraw-dest": lambda wish, ends, step: _undefine(ends.dest, wish.name),
    "undefine-source": lambda wish, ends, step: _undefine(ends.source, wish.name),
    "remove-leftover": lambda wish, ends, step: _remove(ends, step),
    "forget": lambda wish, ends, step: _forget(ends, step),
}
