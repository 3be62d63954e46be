# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every concern that kvm_migrate can raise: the one list, from which docs/preflight.md is made.

A question states an id and what it found; level and remedy stand here, so that neither can differ from the page.
"""

from __future__ import annotations

from typing import Dict, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import Concern, Entry
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.concerns_guest import BESIDE, GUEST, STORAGE
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.concerns_hosts import CAPACITY, HOSTS, MACHINE, NETWORK
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.concerns_way import ENCRYPTION, POSTCOPY, TRAPS

# (heading, entries), in the order in which the page lists them.
FAMILIES: Tuple[Tuple[str, Tuple[Entry, ...]], ...] = (
    ("The two hosts", HOSTS),
    ("Room for the guest", CAPACITY),
    ("Machine, CPU, firmware", MACHINE),
    ("Network", NETWORK),
    ("Storage", STORAGE),
    ("What belongs to the guest, and what to its host", GUEST),
    ("Encryption", ENCRYPTION),
    ("Post-copy", POSTCOPY),
    ("Faults of certain versions", TRAPS),
    ("Beside the move", BESIDE),
)

CATALOGUE: Dict[str, Entry] = {entry.id: entry for dummy, entries in FAMILIES for entry in entries}


def concern(name: str, detail: str, more: str = "") -> Concern:
    """The concern of that id. detail: what was found, with names and values. more: what adds to the remedy, here and now."""
    entry = CATALOGUE[name]
    return Concern(entry.id, entry.level, detail, entry.remedy + (" " + more if more else ""))
