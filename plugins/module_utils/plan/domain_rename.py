# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Another name for a domain: libvirt gives one only to a domain that is off and of which it keeps nothing under its name."""

from __future__ import annotations

from typing import Iterator, List, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import ERROR, Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import (
    NVRAM_FOLDER,
    SHUTOFF,
    Domain,
    DomainStatus,
    moved_to,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_found import DomainFound
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import Wanted
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Step


def renames(wanted: Wanted, found: DomainFound) -> bool:
    return wanted.rename_from is not None and found.config is not None and found.config.name != wanted.name


def rename_concerns(wanted: Wanted, found: DomainFound) -> Tuple[Concern, ...]:
    """Errors only."""
    if wanted.rename_from is None:
        return ()
    if found.config is None or found.status is None:
        detail = "there is neither a domain %s nor a domain %s" % (wanted.rename_from, wanted.name)
        return (
            Concern("rename-source-missing", ERROR, detail, "correct rename_from, or leave it out to make a new one"),
        )
    if not renames(wanted, found):
        if not found.rename_source_exists:
            return ()
        detail = "there is a domain %s and a domain %s" % (wanted.rename_from, wanted.name)
        return (Concern("rename-both-exist", ERROR, detail, "leave rename_from out, or remove one of them"),)
    if found.config.nvram is not None and found.paths is None:
        detail = "the UEFI variables of %s are a file of its host, which is another machine" % wanted.rename_from
        return (Concern("rename-elsewhere", ERROR, detail, "run the task on that host, with uri qemu:///system"),)
    return tuple(
        Concern("rename-" + name, ERROR, "domain %s %s" % (wanted.rename_from, detail), remedy)
        for name, detail, remedy in _against(found.config, found.status)
    )


def _against(config: Domain, status: DomainStatus) -> Iterator[Tuple[str, str, str]]:
    if moved_to(config):
        yield "moved", "has moved to host %s" % moved_to(config), "run the task there"
    elif status.state != SHUTOFF:
        yield "runs", "is %s" % status.state, "shut it down first"
    if status.managed_save:
        yield "saved", "has saved memory under its name", "start it and shut it down first"
    if status.snapshots:
        yield "snapshots", "has %d snapshots" % status.snapshots, "delete them first (kvm_snapshot)"
    if status.checkpoints:
        yield "checkpoints", "has %d checkpoints" % status.checkpoints, "delete them first (virsh checkpoint-delete)"


def rename_steps(wanted: Wanted, found: DomainFound) -> List[Step]:
    if found.config is None or not renames(wanted, found):
        return []
    words = "rename domain %s to %s" % (found.config.name, wanted.name)
    return [Step("rename", words, {"from": found.config.name, "nvram": _nvram(found.config, wanted.name)})]


def _nvram(config: Domain, name: str) -> Optional[Tuple[str, str]]:
    """(old, new) path of UEFI variables that libvirt keeps under the domain's name: who gets the old name would get them."""
    old = config.nvram or ""
    start = "%s/%s_VARS" % (NVRAM_FOLDER, config.name)
    return (old, "%s/%s_VARS%s" % (NVRAM_FOLDER, name, old[len(start) :])) if old.startswith(start) else None
