# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Encrypted migration: whether a move is encrypted, what stands against it, and how many connections carry it."""

from __future__ import annotations

from dataclasses import replace
from typing import List, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import LIVE, End, Found, Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import Choice
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.concerns import concern

# Over one connection that answers, GnuTLS may crash QEMU once about 64 GB went through it (QEMU issue 1937). What is
# written to meanwhile goes again, so half of that is the most that a guest may have. Several connections avoid it.
CONNECTIONS = 2
MOST_OVER_ONE_MIB = 32 * 1024


def decided(wish: Wish, found: Found) -> Wish:
    """The same wish with tls true or false: where nothing was said, true when both ends have their certificates."""
    if wish.tls is not None:
        return wish
    return replace(wish, tls=has_certificates(found.source) and has_certificates(found.dest))


def has_certificates(end: End) -> bool:
    return bool(end.certificates) and not missing(end)


def missing(end: End) -> List[str]:
    return sorted(path for path, there in (end.certificates or {}).items() if not there)


def choice(wish: Wish, found: Found) -> Choice:
    """wish.tls must be decided."""
    if wish.tls:
        return Choice("tls", "both hosts have the certificates, or tls: true was said")
    if found.source.certificates is None or found.dest.certificates is None:
        return Choice("tcp, not encrypted", "tls: false was said, or the certificates are kept in a place of their own")
    return Choice("tcp, not encrypted", "%s no certificates" % _who_lacks(found))


def _who_lacks(found: Found) -> str:
    sides = [end.side for end in (found.source, found.dest) if not has_certificates(end)]
    return " and ".join(sides) + (" have" if len(sides) > 1 else " has")


def concerns(wish: Wish, found: Found, mode: str) -> Tuple[Concern, ...]:
    """All concerns about moving live and encrypted, or not encrypted where one would expect it. wish: as it was said."""
    if mode != LIVE or wish.tls is False:
        return ()
    if wish.tls is None:
        return _auto_concerns(wish, found)
    return tuple(
        concern("tls-certificates-missing", "tls was asked for, and %s has no %s" % (end.side, ", ".join(missing(end))))
        for end in (found.source, found.dest)
        if missing(end)
    ) + _volume(wish, found)


def _auto_concerns(wish: Wish, found: Found) -> Tuple[Concern, ...]:
    if decided(wish, found).tls:
        return _volume(wish, found)
    ends = (found.source, found.dest)
    if any(end.certificates is None for end in ends):
        detail = "%s goes over the network in the clear: qemu.conf names a place of its own for certificates, or cannot be read"
        return (concern("tls-elsewhere", detail % wish.name),)
    for end, other in (ends, ends[::-1]):
        if has_certificates(end):
            detail = "%s goes over the network in the clear: %s has certificates, and %s has no %s" % (
                wish.name,
                end.side,
                other.side,
                ", ".join(missing(other)),
            )
            return (concern("tls-one-sided", detail),)
    return ()


def _volume(wish: Wish, found: Found) -> Tuple[Concern, ...]:
    domain = found.source.effective
    if domain is None or domain.memory_mib <= MOST_OVER_ONE_MIB or not is_parallel_broken(found):
        return ()
    detail = "%s has %d MiB; between these versions TLS uses one connection, which may crash QEMU after 64 GB" % (
        domain.name,
        domain.memory_mib,
    )
    return (concern("tls-volume", detail),)


def is_parallel_broken(found: Found) -> bool:
    """QEMU issue 2720: 9.2 drops data that sources older than 9.0 send over several connections; mended in 10.0."""
    return found.source.facts.qemu_version < 9000000 and found.dest.facts.qemu_version // 1000 == 9002
