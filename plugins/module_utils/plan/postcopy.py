# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Post-copy: the guest runs on the destination before its memory is there. Only by consent, as a failure then loses it."""

from __future__ import annotations

from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Found, Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import POSTCOPY

PARALLEL_SINCE = 10001000


def is_allowed(wish: Wish) -> bool:
    return wish.allow_postcopy or wish.on_timeout == POSTCOPY


def goes_parallel(found: Found) -> bool:
    """Post-copy over several connections: QEMU 10.1 on both ends."""
    return min(found.source.facts.qemu_version, found.dest.facts.qemu_version) >= PARALLEL_SINCE
