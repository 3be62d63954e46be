# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a guest is at an end at all, and what was kept there of one that has left."""

from __future__ import annotations

from typing import Dict, NamedTuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import End

MISSING, OFF, ACTIVE = "missing", "off", "active"


class Keep(NamedTuple):
    """What stays on the source: the copied disks."""

    disks: bool


# keep_source -> what stays.
KEEP: Dict[str, Keep] = {
    "nothing": Keep(disks=False),
    "disks": Keep(disks=True),
}


def presence(end: End) -> str:
    """MISSING, OFF or ACTIVE."""
    if end.domain is None or end.status is None:
        return MISSING
    return ACTIVE if end.status.active else OFF
