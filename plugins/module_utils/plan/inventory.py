# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which guest lives where: what many hypervisors say of their domains, as hosts of an inventory."""

from __future__ import annotations

import fnmatch
import ipaddress
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

PREFIX = "kvm_"
NAME, UUID = "name", "uuid"
HOST, STATE, METADATA = "host", "state", "metadata"
GROUPS = (HOST, STATE, METADATA)
RUNNING = "running"
# States in which the guest has its memory on that host.
_HAS_MEMORY = frozenset([RUNNING, "paused", "in_shutdown", "pmsuspended", "crashed"])


@dataclass(frozen=True)
class Found:
    """A domain of one hypervisor. record: as kvm_domain_info returns it, with `addresses` where they were asked for."""

    host: str
    uri: str
    record: Mapping[str, Any]

    @property
    def uuid(self) -> str:
        return str(self.record["uuid"])

    @property
    def name(self) -> str:
        return str(self.record["name"])

    @property
    def state(self) -> str:
        return str(self.record["state"])


@dataclass(frozen=True)
class Wish:
    """states: those alone, None for all.  names: shell patterns, any of them; none for all.  hostname: name or uuid."""

    states: Optional[Tuple[str, ...]] = None
    names: Tuple[str, ...] = ()
    hostname: str = NAME
    groups: Tuple[str, ...] = GROUPS


@dataclass(frozen=True)
class Entry:
    """A host of the inventory. groups: not yet made safe for Ansible."""

    name: str
    variables: Mapping[str, Any]
    groups: Tuple[str, ...]


def inventory_of(found: Sequence[Found], wish: Wish) -> Tuple[Tuple[Entry, ...], Tuple[str, ...]]:
    """The entries by name, and what a person should know about guests that are found more than once."""
    guests = [each for each in found if not each.record.get("moved_to")]
    chosen, warnings = _one_of_each(guests)
    wanted = [each for each in chosen if _is_wanted(each, wish)]
    shared = _shared(wanted)
    if wish.hostname == NAME:
        warnings += [
            "Different guests have the name %s, on %s: they are called %s"
            % (name, ", ".join(hosts), ", ".join("%s_%s" % (name, host) for host in hosts))
            for name, hosts in sorted(shared.items())
        ]
    entries = [_entry(each, wish, each.name in shared) for each in wanted]
    return tuple(sorted(entries, key=lambda entry: entry.name)), tuple(warnings)


def _one_of_each(guests: Sequence[Found]) -> Tuple[List[Found], List[str]]:
    """A guest that is defined on several hosts lives where it runs."""
    by_uuid: Dict[str, List[Found]] = {}
    for each in guests:
        by_uuid.setdefault(each.uuid, []).append(each)
    chosen, warnings = [], []
    for same in by_uuid.values():
        running = [each for each in same if each.state == RUNNING]
        alive = [each for each in same if each.state in _HAS_MEMORY]
        home = (running or alive or same)[0]
        chosen.append(home)
        hosts = " and ".join(each.host for each in (running if len(running) > 1 else same))
        if len(running) > 1:
            warnings.append(
                "The guest %s runs on %s at once: its disks are in danger. Look at it now" % (home.name, hosts)
            )
        elif len(same) > 1 and not alive:
            warnings.append(
                "The guest %s is defined on %s and runs on none: taken as one of %s" % (home.name, hosts, home.host)
            )
    return chosen, warnings


def _is_wanted(each: Found, wish: Wish) -> bool:
    if wish.states is not None and each.state not in wish.states:
        return False
    return not wish.names or any(fnmatch.fnmatchcase(each.name, pattern) for pattern in wish.names)


def _shared(guests: Sequence[Found]) -> Dict[str, List[str]]:
    """Names of different guests, and the hosts that have one of that name."""
    by_name: Dict[str, List[str]] = {}
    for each in guests:
        by_name.setdefault(each.name, []).append(each.host)
    return {name: sorted(hosts) for name, hosts in by_name.items() if len(hosts) > 1}


def _entry(each: Found, wish: Wish, shared: bool) -> Entry:
    name = each.uuid if wish.hostname == UUID else "%s_%s" % (each.name, each.host) if shared else each.name
    variables = {PREFIX + key: value for key, value in each.record.items()}
    variables.update({PREFIX + "host": each.host, PREFIX + "uri": each.uri})
    if "addresses" in each.record:
        variables[PREFIX + "address"] = best_address(each.record["addresses"])
    return Entry(name, variables, tuple(_groups(each, wish)))


def _groups(each: Found, wish: Wish) -> List[str]:
    groups = ["kvm_domains"]
    if HOST in wish.groups:
        groups.append("%shost_%s" % (PREFIX, each.host))
    if STATE in wish.groups:
        groups.append("%sstate_%s" % (PREFIX, each.state))
    if METADATA in wish.groups:
        groups += [
            "%s%s_%s" % (PREFIX, key, value) for key, value in sorted((each.record.get("metadata") or {}).items())
        ]
    return groups


def best_address(addresses: Sequence[Mapping[str, Any]]) -> Optional[str]:
    """The first that others can reach, IPv4 before IPv6; None where there is none."""
    usable = []
    for each in addresses:
        address = ipaddress.ip_address(str(each["address"]))
        if not (address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified):
            usable.append(address)
    return str(min(usable, key=lambda address: address.version)) if usable else None
