# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of an offline move: images first, each verified, then the definition, then the source lets go."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Dict, List, Mapping

from ansible_collections.kvmops.fleet.plugins.module_utils.host import (
    definitions,
    domains,
    files,
    live_migration,
    pools,
    progress_file,
    transfer_xml,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import HERE
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import MIB, Found, Metrics, Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.progress import Progress
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan, Step
from ansible_collections.kvmops.fleet.plugins.module_utils.run import migrate_closing
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_ends import Ends

TELL_EVERY_S = 0.25


class Counted:
    """Bytes of one image as they leave, told at most four times a second."""

    def __init__(self, tell: progress_file.Tell, subject: str, whole_bytes: int) -> None:
        self._tell, self._subject, self._whole = tell, subject, whole_bytes
        self._began = self._told = time.monotonic()
        self._done = 0

    def __call__(self, size: int) -> None:
        self._done += size
        now = time.monotonic()
        if now - self._told >= TELL_EVERY_S:
            self._told, elapsed = now, now - self._began
            done, left = self._done / MIB, max(self._whole - self._done, 0) / MIB
            self._tell(Progress(self._subject, "disk", done, left, done / elapsed, elapsed))


def take(wish: Wish, ends: Ends, plan: Plan, found: Found) -> Mapping[str, Any]:
    """Take the steps in order. Until "undefine" the source owns the guest; whatever fails before it is taken back."""
    began = time.monotonic()
    published: List[Mapping[str, Any]] = []
    sent = 0
    hashes: Dict[str, str] = {}
    source_lets_go = False
    try:
        for step in plan.steps:
            path = step.args.get("path", "")
            if step.action in ("copy-disk", "copy-nvram"):
                sent += _copy(wish, ends, step.args, found, hashes)
                published.append(step.args)
            elif step.action == "verify-disk":
                _verify(ends, step.args.get("from", path), path, hashes)
            elif step.action == "define":
                _define(wish, ends, found, step)
            elif step.action == "undefine":
                source_lets_go = True
                definitions.undefine(ends.source, live_migration.there(ends.source, wish.name))
            else:
                migrate_closing.take(wish, ends, step)
    except HostError:
        if not source_lets_go:
            _take_back(wish, ends, found, published)
        raise
    elapsed_ms = int((time.monotonic() - began) * 1000)
    metrics = Metrics(mode="offline", total_ms=elapsed_ms, wall_ms=elapsed_ms, disk_bytes=sent, disk_data_bytes=sent)
    return {"metrics": metrics.as_dict(), "samples": [], "hashes": hashes, "transport": "ssh"}


def _copy(wish: Wish, ends: Ends, volume: Mapping[str, Any], found: Found, hashes: Dict[str, str]) -> int:
    """Copy under a temporary name, compare a fresh read of both, publish. Gives the bytes of data sent."""
    place, path, source = ends.files_of_dest, volume["path"], volume.get("from", volume["path"])
    temporary = os.path.join(os.path.dirname(path), ".%s.kvmops-part" % os.path.basename(path))
    files.remove(place, temporary)
    with progress_file.telling("kvm_migrate", wish.name) as tell:
        counted = Counted(tell, "%s to %s" % (wish.name, wish.host), found.source.images[source].allocated)
        sent = files.send(place, source, temporary, counted)
    try:
        _verify(ends, source, temporary, hashes)
        files.publish(place, temporary, path)
    except HostError:
        with contextlib.suppress(HostError):
            files.remove(place, temporary)
        raise
    _refresh(ends, volume)
    return sent


def _verify(ends: Ends, path: str, there: str, hashes: Dict[str, str]) -> None:
    hashes[path] = files.digest(HERE, path)
    found = files.digest(ends.files_of_dest, there)
    if found != hashes[path]:
        raise HostError(
            "verify %s" % path,
            ends.dest.side,
            "SHA-256 is %s there and %s on %s" % (found, hashes[path], ends.source.side),
            "The source is untouched and owns the guest. Remove or check the file there, then run again.",
        )


def _define(wish: Wish, ends: Ends, found: Found, step: Step) -> None:
    dom = domains.find(ends.source, wish.name)
    if dom is None or domains.status(dom).active:
        raise HostError("move %s" % wish.name, ends.source.side, "it was started or removed meanwhile", "Run again.")
    definitions.define(ends.dest, wish.name, transfer_xml.definition(dom, step.args["redirect"], inactive=True))
    there = domains.find(ends.dest, wish.name)
    if there is None or domains.read(there, inactive=True)[0].uuid != found.source.domain.uuid:  # type: ignore[union-attr]
        raise HostError("define %s" % wish.name, ends.dest.side, "it is not there afterwards", "Run again.")


def _take_back(wish: Wish, ends: Ends, found: Found, published: List[Mapping[str, Any]]) -> None:
    """The source still owns the guest: leave nothing of this run on the destination."""
    if found.dest.domain is None:
        with contextlib.suppress(HostError):
            left = domains.find(ends.dest, wish.name)
            if left is not None:
                definitions.undefine(ends.dest, left)
    for volume in published:
        with contextlib.suppress(HostError):
            files.remove(ends.files_of_dest, volume["path"])
            _refresh(ends, volume)


def _refresh(ends: Ends, volume: Mapping[str, Any]) -> None:
    if volume.get("pool"):
        pools.refresh(ends.dest, volume["pool"])
