# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Preflight: what the guest's interfaces and displays are plugged into."""

from __future__ import annotations

from typing import Dict, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Nic
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import End
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.concerns import concern
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.question import Answers, Case, Question
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.redirect import maps_nothing, plug_there

# Kind of an interface -> (id of the concern, what people call it).
PLUGS: Dict[str, Tuple[str, str]] = {
    "network": ("network-missing", "active network"),
    "bridge": ("bridge-missing", "bridge"),
    "direct": ("card-missing", "network card"),
}


def are_the_networks_there(case: Case) -> Answers:
    for nic in _nics(case):
        kind, name = plug_there(nic, case.wish.network_map, case.dest) or (nic.kind, nic.source)
        there = _plugs(case.dest, kind)
        if there is None or name in there or kind not in PLUGS:
            continue
        mapped = " (network_map: %s)" % nic.source if name != nic.source else ""
        detail = "%s has no %s %s%s (interface %s)" % (case.dest.side, PLUGS[kind][1], name, mapped, nic.mac)
        yield concern(PLUGS[kind][0], detail, "It has: %s." % (", ".join(sorted(there)) or "none"))


def _nics(case: Case) -> Sequence[Nic]:
    """Of what moves, and of the next boot where that differs."""
    plugged = {(nic.mac, nic.kind, nic.source): nic for nic in case.domain.nics}
    for nic in case.source.domain.nics if case.source.domain is not None else ():
        plugged.setdefault((nic.mac, nic.kind, nic.source), nic)
    return tuple(plugged.values())


def _plugs(end: End, kind: str) -> Optional[Sequence[str]]:
    """None when that host cannot tell."""
    return {"network": end.networks, "bridge": end.bridges, "direct": end.hosting.cards}.get(kind)  # type: ignore[return-value]


def are_the_addresses_free(case: Case) -> Answers:
    for nic in case.domain.nics:
        users = case.dest.hosting.mac_users.get((nic.mac or "").lower(), ())
        if users:
            detail = "%s on %s has the MAC address %s too" % (", ".join(users), case.dest.side, nic.mac)
            yield concern("mac-taken", detail)


def can_displays_listen(case: Case) -> Answers:
    for address in case.found.demands.listens:
        yield concern("display-address", "a display listens on %s, which %s may not have" % (address, case.dest.side))


def is_the_map_of_use(case: Case) -> Answers:
    networks, pools = maps_nothing(case.wish, case.found, case.domain)
    for key in networks:
        yield concern("network-map-unused", "%s is plugged into no %s" % (case.domain.name, key))
    for key in pools:
        yield concern("pool-map-unused", "%s has no disk in %s" % (case.domain.name, key))


QUESTIONS: Tuple[Question, ...] = (
    are_the_networks_there,
    are_the_addresses_free,
    can_displays_listen,
    is_the_map_of_use,
)
