# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of kvm_snapshot, or every problem with them at once."""

from __future__ import annotations

import fnmatch
from typing import Any, List, Mapping

from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import RequestError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.names import name_problems
from ansible_collections.kvmops.fleet.plugins.module_utils.model.snapshot import (
    AUTO,
    INTERNAL,
    PRESENT,
    SnapshotWish,
)

# Which options say something about the making of a snapshot only, and what each is when it is not said.
_OF_MAKING = {"kind": AUTO, "quiesce": False, "description": None, "keep": None, "keep_names": None}


def wanted_snapshot(params: Mapping[str, Any]) -> SnapshotWish:
    """Raises RequestError."""
    problems = name_problems("name", params["name"]) + name_problems("snapshot", params["snapshot"])
    problems += _of_state(params) + _of_keeping(params)
    if params["quiesce"] and params["kind"] == INTERNAL:
        problems.append(
            "quiesce is true and kind is internal; that stops the guest while it is made: leave quiesce out"
        )
    if problems:
        raise RequestError(problems)
    return SnapshotWish(
        domain=params["name"],
        snapshot=params["snapshot"],
        state=params["state"],
        kind=params["kind"],
        quiesce=params["quiesce"],
        description=params["description"],
        keep=params["keep"],
        keep_names=params["keep_names"],
    )


def _of_state(params: Mapping[str, Any]) -> List[str]:
    if params["state"] == PRESENT:
        return []
    said = [name for name, unsaid in sorted(_OF_MAKING.items()) if params[name] != unsaid]
    return ["%s is given and state is %s; it belongs to state present" % (name, params["state"]) for name in said]


def _of_keeping(params: Mapping[str, Any]) -> List[str]:
    keep, pattern = params["keep"], params["keep_names"]
    if (keep is None) != (pattern is None):
        return ["keep and keep_names belong together; give both or neither"]
    if keep is None:
        return []
    problems = []
    if keep < 1:
        problems.append("keep is %d; the one that is made stays: give at least 1" % keep)
    if not fnmatch.fnmatchcase(params["snapshot"], pattern):
        problems.append(
            "keep_names is %s, which does not fit snapshot %s; older ones would go and none would follow"
            % (pattern, params["snapshot"])
        )
    return problems
