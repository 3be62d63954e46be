# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Encrypted migration: what stands against it, and how many connections carry it."""

from __future__ import annotations

from typing import List, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import ERROR, Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import LIVE, Found, Wish

# Over one connection that answers, GnuTLS may crash QEMU once about 64 GB went through it (QEMU issue 1937). What is
# written to meanwhile goes again, so half of that is the most that a guest may have. Several connections avoid it.
CONNECTIONS = 2
MOST_OVER_ONE_MIB = 32 * 1024


def concerns(wish: Wish, found: Found, mode: str) -> Tuple[Concern, ...]:
    """All concerns about moving live and encrypted; none when that is not wished."""
    if not wish.tls or mode != LIVE:
        return ()
    answers: List[Concern] = []
    for end in (found.source, found.dest):
        missing = sorted(path for path, there in (end.certificates or {}).items() if not there)
        if missing:
            detail = "tls was asked for, and %s has no %s" % (end.side, ", ".join(missing))
            remedy = "Run kvmops.fleet.site with hypervisor_transport: tls, or move without tls."
            answers.append(Concern("tls-certificates-missing", ERROR, detail, remedy))
    domain = found.source.effective
    if domain is not None and domain.memory_mib > MOST_OVER_ONE_MIB and not connections(wish, found):
        detail = "%s has %d MiB; between these versions TLS uses one connection, which may crash QEMU after 64 GB" % (
            domain.name,
            domain.memory_mib,
        )
        answers.append(Concern("tls-volume", ERROR, detail, "Update QEMU on the older host, or move without tls."))
    return tuple(answers)


def connections(wish: Wish, found: Found) -> int:
    """In parallel for memory; 0 means the one that always is."""
    if not wish.tls or _is_multifd_broken(found):
        return 0
    return CONNECTIONS


def _is_multifd_broken(found: Found) -> bool:
    """QEMU issue 2720: 9.2 drops data that sources older than 9.0 send over several connections; mended in 10.0."""
    return found.source.facts.qemu_version < 9000000 and found.dest.facts.qemu_version // 1000 == 9002
