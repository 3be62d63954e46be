# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a guest is at an end at all, and what was kept there of one that has left."""

from __future__ import annotations

from typing import Dict, NamedTuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import moved_to
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import End

MISSING, OFF, ACTIVE = "missing", "off", "active"


class Keep(NamedTuple):
    """What stays on the source: the definition, marked and unable to start; the copied disks."""

    definition: bool
    disks: bool


# keep_source -> what stays.
KEEP: Dict[str, Keep] = {
    "nothing": Keep(definition=False, disks=False),
    "definition": Keep(definition=True, disks=False),
    "disks": Keep(definition=False, disks=True),
}


def presence(end: End) -> str:
    """MISSING, OFF or ACTIVE. A definition that was only kept, and cannot start, counts as MISSING."""
    if end.domain is None or end.status is None:
        return MISSING
    if end.status.active:
        return ACTIVE
    return MISSING if moved_to(end.domain) else OFF
