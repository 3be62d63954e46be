# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What remains to be done once the guest lives on the destination."""

from __future__ import annotations

import posixpath
from typing import Any, Dict, List

from ansible_collections.kvmops.fleet.plugins.module_utils.model.image import same_image
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import DiskMove, End, Found, Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Step
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import disk_moves
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.presence import KEEP, Keep

CLOSING_ACTIONS = ("keep-definition", "autostart", "remove-source-disk", "remember-kept")


def closing_steps(wish: Wish, found: Found, copies: List[DiskMove]) -> List[Step]:
    keep, source = _keep(wish, found), found.source.side
    kept = [move.path for move in copies if keep.disks]
    steps = []
    if keep.definition:
        words = "keep the definition of %s on %s, marked and unable to start" % (wish.name, source)
        uuid = found.source.domain.uuid if found.source.domain else ""
        steps.append(Step("keep-definition", words, {"host": wish.host, "uuid": uuid}))
    if found.source.status and found.source.status.autostart and found.source.status.persistent:
        steps.append(Step("autostart", "let %s start with %s" % (wish.name, found.dest.side)))
    for move in copies if not keep.disks else ():
        # What no run of ours copied it does not remove: the file there could be this very one.
        if (move.exists and not _made_earlier(found, move.arrives_at)) or _is_used_by_others(found, move):
            continue
        words = "remove %s from %s, whose content now lives on %s" % (move.path, found.source.side, found.dest.side)
        inode = found.source.images.get(move.path, disk_moves.NOTHING).inode
        steps.append(Step("remove-source-disk", words, dict(volume_args(found.source, move, move.path), inode=inode)))
    if kept:
        words = "note that %s on %s is from now on an outdated copy" % (", ".join(kept), source)
        steps.append(Step("remember-kept", words, {"paths": tuple(kept)}))
    return steps


def _keep(wish: Wish, found: Found) -> Keep:
    """A transient guest has no definition that could stay."""
    keep, status = KEEP[wish.keep_source], found.source.status
    return keep if status is None or status.persistent else keep._replace(definition=False)


def _made_earlier(found: Found, path: str) -> bool:
    """Whether the file on the destination is one that an earlier try of this move made."""
    inode = found.dest.images.get(path, disk_moves.NOTHING).inode
    return found.leaving is not None and inode is not None and found.leaving.made.get(path) == inode


def _is_used_by_others(found: Found, move: DiskMove) -> bool:
    """On the source; on the destination too, when both see the file that was copied off what they share."""
    here, there = (end.images.get(move.path, disk_moves.NOTHING) for end in (found.source, found.dest))
    users_there = found.dest.disk_users.get(move.path) if same_image(here, there) else ()
    return bool(found.source.disk_users.get(move.path) or users_there)


def volume_args(end: End, move: DiskMove, path: str) -> Dict[str, Any]:
    """path: on that end. from: on the source."""
    return {
        "path": path,
        "from": move.path,
        "pool": end.pool_of(path),
        "volume": posixpath.basename(path),
        "size": move.size,
        "format": move.format,
    }
