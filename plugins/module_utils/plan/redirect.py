# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the guest's networks and images are called on the destination: network_map and pool_map, put to use."""

from __future__ import annotations

import posixpath
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.destination_xml import Plug, Redirect
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Domain, Nic
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import DiskMove, End, Found, Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.names import name_problems
from ansible_collections.kvmops.fleet.plugins.module_utils.model.storage import Pool

# Pools that are a directory in which a file may be made.
FOLDERS = ("dir", "fs", "netfs")


def map_problems(option: str, wanted: Any) -> List[str]:
    """Why the option cannot be meant."""
    problems: List[str] = []
    for here, there in (wanted or {}).items():
        if not isinstance(here, str) or not isinstance(there, str) or not here.strip() or not there.strip():
            problems.append("%s has %r: %r; give names in quotes" % (option, here, there))
        else:
            problems += name_problems("%s[%s]" % (option, here), there)
    return problems


def pool_key(path: str, pool_map: Mapping[str, str], pools: Sequence[Pool]) -> Optional[str]:
    """The key of pool_map that the file falls under: its directory, or the name of a pool here with that directory."""
    folder = posixpath.normpath(posixpath.dirname(path))
    for key in pool_map:
        if key.startswith("/") and posixpath.normpath(key) == folder:
            return key
    for pool in pools:
        if pool.name in pool_map and pool.path and posixpath.normpath(pool.path) == folder:
            return pool.name
    return None


def pool_named(name: str, pools: Sequence[Pool]) -> Optional[Pool]:
    """The active pool of that name, if it is a directory."""
    for pool in pools:
        if pool.name == name and pool.active and pool.path and pool.type in FOLDERS:
            return pool
    return None


def path_there(path: str, pool_map: Mapping[str, str], here: Sequence[Pool], there: Sequence[Pool]) -> Optional[str]:
    """Where pool_map puts the file; None when it says nothing of it, or names a pool that cannot take it."""
    key = pool_key(path, pool_map, here)
    pool = pool_named(pool_map[key], there) if key is not None else None
    if pool is None or pool.path is None:
        return None
    return posixpath.join(pool.path, posixpath.basename(path))


def plug_there(nic: Nic, network_map: Mapping[str, str], dest: End) -> Optional[Plug]:
    """(kind, name) of where network_map plugs the interface in; None when it says nothing of it.

    A name that the destination has only as the other kind (a bridge for a network, a network for a bridge) means that.
    """
    if nic.source is None or nic.source not in network_map:
        return None
    name = network_map[nic.source]
    other = {"network": "bridge", "bridge": "network"}.get(nic.kind)
    if other is not None and name not in plugs(dest, nic.kind) and name in plugs(dest, other):
        return other, name
    return nic.kind, name


def plugs(end: End, kind: str) -> Sequence[str]:
    """Names of what an interface of that kind can be plugged into there; empty when that is not known."""
    return tuple({"network": end.networks, "bridge": end.bridges}.get(kind) or ())


def redirect_of(wish: Wish, found: Found, moves: Tuple[DiskMove, ...]) -> Redirect:
    """All that has another name on the destination, of the running and of the persistent configuration."""
    networks: Dict[Plug, Plug] = {}
    for domain in (found.source.domain, found.source.active_domain):
        for nic in domain.nics if domain is not None else ():
            there = plug_there(nic, wish.network_map, found.dest)
            if there is not None and nic.source is not None and there != (nic.kind, nic.source):
                networks[(nic.kind, nic.source)] = there
    return Redirect(networks, {move.path: move.arrives_at for move in moves if move.arrives_at != move.path})


def words(redirect: Redirect) -> str:
    """For the step that names them: "; network blue becomes bridge br0; /a/x is /b/x there"."""
    plugged = ["%s %s becomes %s %s" % (*here, *there) for here, there in sorted(redirect.networks.items())]
    placed = ["%s is %s there" % pair for pair in sorted(redirect.disks.items())]
    return "".join("; " + part for part in plugged + placed)


def maps_nothing(wish: Wish, found: Found, domain: Domain) -> Tuple[List[str], List[str]]:
    """(keys of network_map, keys of pool_map) that nothing of this guest falls under."""
    sources = {nic.source for nic in domain.nics}
    used = {pool_key(disk.source or "", wish.pool_map, found.source.pools) for disk in domain.images}
    return (
        sorted(key for key in wish.network_map if key not in sources),
        sorted(key for key in wish.pool_map if key not in used),
    )
