# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is left to do once the guest lives on the destination: the same for live and offline moves."""

from __future__ import annotations

import os
import uuid
from typing import List, Sequence

from ansible_collections.kvmops.fleet.plugins.module_utils.host import (
    definitions,
    domains,
    files,
    kept_definition,
    live_migration,
    pools,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.host import journal as notebook
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import HERE
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.journal import ARRIVING, KEPT, Journal
from ansible_collections.kvmops.fleet.plugins.module_utils.model.kept_xml import kept
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Step
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_ends import Ends


def prepare(wish: Wish, ends: Ends, closing: Sequence[Step]) -> None:
    """Put aside, before the move, what one of its closing steps will need."""
    for step in closing:
        if step.action == "keep-definition":
            dom = live_migration.there(ends.source, wish.name)
            kept_definition.put(step.args["uuid"], kept(domains.read_with_secrets(dom), step.args["host"]))


def take(wish: Wish, ends: Ends, step: Step) -> None:
    """Raises HostError, which says that the guest itself has moved."""
    try:
        if step.action == "autostart":
            definitions.set_autostart(live_migration.there(ends.dest, wish.name), True)
        elif step.action == "keep-definition":
            _keep_definition(wish, ends, step.args["uuid"], step.args["host"])
        elif step.action == "remember-kept":
            _remember(wish, ends, list(step.args["paths"]))
        elif step.action == "remove-source-disk":
            files.remove(HERE, step.args["path"])
            if step.args["pool"]:
                pools.refresh(ends.source, step.args["pool"])
    except HostError as error:
        remedy = "The guest has moved and lives on %s; only this last step is open: do it by hand." % ends.dest.side
        raise HostError(error.attempted, error.side, error.said, remedy) from error


def _keep_definition(wish: Wish, ends: Ends, uuid: str, host: str) -> None:
    """Here again, but it says where the guest is, and libvirt does not start it."""
    xml, dom = kept_definition.get(uuid), domains.find(ends.source, wish.name)
    if dom is not None:
        if domains.status(dom).active:
            raise HostError("keep the definition of %s" % wish.name, ends.source.side, "it is active there")
        if xml is None:
            xml = kept(domains.read_with_secrets(dom), host)
            kept_definition.put(uuid, xml)
        # With its autostart, and with its saved memory, which would start whatever the definition says.
        definitions.undefine(ends.source, dom)
    if xml is None:
        said = "neither libvirt nor %s has it" % kept_definition.FOLDER
        raise HostError("keep the definition of %s" % wish.name, ends.source.side, said)
    definitions.define(ends.source, wish.name, xml)
    kept_definition.drop(uuid)


def _remember(wish: Wish, ends: Ends, paths: List[str]) -> None:
    """A note as an interrupted move would have left it: the return of the guest may remove what it names."""
    there = domains.read(live_migration.there(ends.dest, wish.name))[0]
    sides = (ends.dest.side, ends.source.side)
    note = Journal(uuid.uuid4().hex, wish.name, there.uuid, "live", *sides, "", "", KEPT, created=tuple(paths))
    notebook.keep(HERE, ARRIVING, note, [path for path in paths if os.path.exists(path)])
