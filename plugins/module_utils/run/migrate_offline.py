# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of an offline move: images first, each verified, then the definition, then the source lets go."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Mapping

from ansible_collections.kvmops.fleet.plugins.module_utils.host import (
    definitions,
    domains,
    files,
    live_migration,
    pools,
    snapshots,
    transfer_xml,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import moved_to
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.journal import BEGUN, CLOSING, HANDING_OVER
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Found, Metrics, Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan, Step
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.impact import figures
from ansible_collections.kvmops.fleet.plugins.module_utils.run import migrate_closing
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_copy import Copies
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_ends import Ends
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_journal import Notes


def take(wish: Wish, ends: Ends, plan: Plan, found: Found, notes: Notes) -> Mapping[str, Any]:
    """Take the steps in order. Until the source lets go it owns the guest. What came of an image stays for the next try
    when the copy breaks off; whatever else fails before the source lets go is taken back."""
    began = time.monotonic()
    copies = Copies(wish, ends, found, notes)
    for step in plan.steps:
        try:
            _take(wish, ends, found, notes, copies, step)
        except HostError as error:
            if step.action.startswith("copy-") and "No space left" not in error.said:
                remedy = "What came so far is kept on %s: run again, and the copy goes on there." % ends.dest.side
                raise HostError(error.attempted, error.side, error.said, error.remedy or remedy) from error
            if notes.journal.phase == BEGUN:
                _take_back(wish, ends, found, notes)
            raise
    notes.end()
    elapsed_ms = int((time.monotonic() - began) * 1000)
    metrics = Metrics(
        mode="offline",
        total_ms=elapsed_ms,
        wall_ms=elapsed_ms,
        disk_bytes=copies.data,
        disk_data_bytes=copies.data,
        wire_bytes=copies.wire,
        resent_bytes=copies.resent,
    )
    return {
        "metrics": dict(metrics.as_dict(), **figures(None)),
        "samples": [],
        "hashes": copies.hashes,
        "transport": "ssh",
    }


def _take(wish: Wish, ends: Ends, found: Found, notes: Notes, copies: Copies, step: Step) -> None:
    if step.action in ("copy-disk", "copy-nvram", "copy-state"):
        copies.copy(step.args)
    elif step.action == "verify-disk":
        copies.verify(step.args.get("from", step.args["path"]), step.args["path"])
    elif step.action == "define":
        _define(wish, ends, found, step)
    elif step.action == "carry-snapshots":
        wanted = snapshots.records(live_migration.there(ends.source, wish.name))
        snapshots.redefine(live_migration.there(ends.dest, wish.name), wanted)
    elif step.action == "undefine":
        notes.phase(HANDING_OVER)
        definitions.undefine(ends.source, live_migration.there(ends.source, wish.name))
        notes.phase(CLOSING)
    else:
        migrate_closing.take(wish, ends, step)


def _define(wish: Wish, ends: Ends, found: Found, step: Step) -> None:
    dom = domains.find(ends.source, wish.name)
    if dom is None or domains.status(dom).active:
        raise HostError("move %s" % wish.name, ends.source.side, "it was started or removed meanwhile", "Run again.")
    definitions.define(ends.dest, wish.name, transfer_xml.definition(dom, step.args["redirect"], inactive=True))
    there = domains.find(ends.dest, wish.name)
    if there is None or domains.read(there, inactive=True)[0].uuid != found.source.domain.uuid:  # type: ignore[union-attr]
        raise HostError("define %s" % wish.name, ends.dest.side, "it is not there afterwards", "Run again.")


def _take_back(wish: Wish, ends: Ends, found: Found, notes: Notes) -> None:
    """The source still owns the guest: leave nothing of this run on the destination."""
    with contextlib.suppress(HostError):
        left = domains.find(ends.dest, wish.name)
        if left is not None and not notes.journal.dest_defined and moved_to(domains.read(left)[0]) is None:
            definitions.undefine(ends.dest, left)
        made = notes.journal.made
        there = files.look(ends.files_of_dest, list(made))
        ours = [path for path in made if there[path].inode == made[path]]
        for path in (*notes.journal.temporary, *ours):
            files.remove(ends.files_of_dest, path)
        for pool in {found.dest.pool_of(path) for path in ours}:
            if pool is not None:
                pools.refresh(ends.dest, pool)
        notes.end()
