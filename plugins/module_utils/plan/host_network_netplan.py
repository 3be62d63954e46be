# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bridges in netplan's files.

netplan adds lists of several files together, so what an interface no longer has must leave the file that says it. Only
the entry of that interface is changed there; what it said about addresses, routes and names goes to the bridge.
"""

from __future__ import annotations

import copy
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.host_network import (
    CLOUD_INIT,
    CLOUD_INIT_TEXT,
    MARK,
    Bridge,
    Files,
    Found,
    Job,
    Yaml,
)

FOLDER = "/etc/netplan/"
KINDS = ("ethernets", "bonds", "vlans")
# What says how a device is addressed; the rest of an entry is about the device itself.
ADDRESSING = (
    "accept-ra addresses critical dhcp-identifier dhcp4 dhcp4-overrides dhcp6 dhcp6-overrides gateway4 gateway6 "
    "ignore-carrier ipv6-address-generation ipv6-address-token ipv6-mtu ipv6-privacy link-local nameservers optional "
    "optional-addresses routes routing-policy"
).split()
Entry = Dict[str, Any]


def own_path(name: str) -> str:
    return "%s90-kvmops-%s.yaml" % (FOLDER, name)


def owns(bridge: Bridge, found: Found) -> bool:
    return own_path(bridge.name) in found.files


def render(job: Job, yaml: Yaml) -> Files:
    found = job.found
    read = {path: yaml.load(text) for path, text in found.files.items() if _is_netplan(path)}
    broken = [path for path, content in read.items() if content is not None and not isinstance(content, dict)]
    documents: Dict[str, Entry] = {path: dict(content or {}) for path, content in read.items() if path not in broken}
    problems = ["%s holds no netplan configuration" % path for path in broken]
    problems += _network_manager(documents)
    changed = copy.deepcopy(documents)
    carried: Dict[str, str] = {}
    files: Dict[str, str] = {}
    ports = [name for bridge in job.work for name in (bridge.port,) if name]
    for bridge in job.work:
        entry = _addresses(bridge) if bridge.says_addresses else _carried(bridge, documents, found)
        carried[bridge.name] = yaml.dump(entry)
        lease = _same_lease(bridge, entry, found)
        if lease:
            files["/etc/systemd/network/10-netplan-%s.network.d/kvmops.conf" % bridge.name] = lease
        changed[own_path(bridge.name)] = {"network": _own(bridge, entry, documents, job)}
    for name in [*ports, *job.cleared]:
        for path, document in changed.items():
            if not _is_own(path):
                _strip(name, document, found)
    for path, document in changed.items():
        if document != documents.get(path) and not (path in documents and _is_own(path) and not _named(path, job)):
            files[path] = (
                (MARK if _is_own(path) else "# Changed by kvmops.fleet host_network.") + "\n" + yaml.dump(document)
            )
        elif _is_own(path) and _named(path, job):
            files[path] = found.files[path]
    if any("cloud-init" in path for path in files) and CLOUD_INIT not in found.files:
        files[CLOUD_INIT] = CLOUD_INIT_TEXT
    commands = (("netplan", "generate"), ("netplan", "apply"))
    return Files(files=files, after=commands, undo_after=commands, carried=carried, problems=tuple(problems))


def _is_netplan(path: str) -> bool:
    return path.startswith(FOLDER) and path.endswith(".yaml")


def _is_own(path: str) -> bool:
    return path.startswith(FOLDER + "90-kvmops-")


def _named(path: str, job: Job) -> bool:
    return path in [own_path(bridge.name) for bridge in job.work]


def _network_manager(documents: Mapping[str, Entry]) -> List[str]:
    return [
        "%s says renderer: NetworkManager, which this role does not configure; use networkd there" % path
        for path, document in documents.items()
        if "NetworkManager" in str(document.get("network") or "")
    ]


def _entries(document: Entry) -> List[Tuple[str, str, Entry]]:
    """kind, id and entry of every device that can be a port."""
    network = document.get("network") or {}
    return [
        (kind, str(key), entry)
        for kind in KINDS
        for key, entry in (network.get(kind) or {}).items()
        if isinstance(entry, dict)
    ]


def _means(name: str, key: str, entry: Mapping[str, Any], found: Found) -> bool:
    """Whether an entry is about that device: by its id, or by what it is matched by."""
    match = entry.get("match")
    if not match:
        return key == name
    if "set-name" in entry:
        return bool(entry["set-name"] == name)
    link = found.links.get(name)
    mac = str(match.get("macaddress") or "").lower()
    return bool(match.get("name") == name or (mac and link is not None and not link.kind and link.mac == mac))


def _id(name: str, documents: Mapping[str, Entry], found: Found) -> Optional[str]:
    for _path, document in sorted(documents.items()):
        for _kind, key, entry in _entries(document):
            if _means(name, key, entry, found):
                return key
    return None


def _addresses(bridge: Bridge) -> Entry:
    entry: Entry = {"dhcp4": bool(bridge.dhcp)}
    if bridge.addresses:
        entry["addresses"] = list(bridge.addresses)
    routes: List[Entry] = [{"to": "0.0.0.0/0" if "." in via else "::/0", "via": via} for via in bridge.gateways]
    for route in bridge.routes:
        routes.append(
            dict({"to": route.to, "via": route.via}, **({} if route.metric is None else {"metric": route.metric}))
        )
    if routes:
        entry["routes"] = routes
    servers: Entry = {}
    if bridge.nameservers:
        servers["addresses"] = list(bridge.nameservers)
    if bridge.search:
        servers["search"] = list(bridge.search)
    if servers:
        entry["nameservers"] = servers
    if not bridge.addresses and not bridge.dhcp:
        entry.update({"link-local": [], "accept-ra": False})
    return entry


def _carried(bridge: Bridge, documents: Mapping[str, Entry], found: Found) -> Entry:
    """What the bridge has by now, or else what the interface has in all files together."""
    own = documents.get(own_path(bridge.name))
    if own is not None:
        bridges = (own.get("network") or {}).get("bridges") or {}
        return _addressing(bridges.get(bridge.name) or {})
    merged: Entry = {}
    for _path, document in sorted(documents.items(), key=lambda item: item[0].rsplit("/", 1)[-1]):
        for _kind, key, entry in _entries(document):
            if bridge.port and _means(bridge.port, key, entry, found):
                _merge(merged, _addressing(entry))
    return merged or {"dhcp4": False, "link-local": [], "accept-ra": False}


def _merge(into: Entry, more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        elif isinstance(value, list) and isinstance(into.get(key), list):
            into[key] = into[key] + [one for one in value if one not in into[key]]
        else:
            into[key] = copy.deepcopy(value)


def _addressing(entry: Mapping[str, Any]) -> Entry:
    return {key: copy.deepcopy(value) for key, value in entry.items() if key in ADDRESSING}


def _strip(name: str, document: Entry, found: Found) -> None:
    for _kind, key, entry in _entries(document):
        if _means(name, key, entry, found):
            for word in [word for word in entry if word in ADDRESSING]:
                del entry[word]


def _own(bridge: Bridge, entry: Entry, documents: Mapping[str, Entry], job: Job) -> Entry:
    network: Entry = {"version": 2}
    others = {path: document for path, document in documents.items() if not _is_own(path)}
    mtu = {"mtu": bridge.mtu} if bridge.mtu else {}
    ids = {name: _id(name, others, job.found) for name in (bridge.card, bridge.port) if name}
    if bridge.card:
        key = ids[bridge.card]
        kind = _kind(bridge.card, others, job.found)
        below = mtu if bridge.port == bridge.card else _enough(bridge, key or bridge.card, kind, documents, job)
        if key is None or below:
            # Without an entry netplan does not know the interface; it is given no address.
            plain = {} if key is not None else {"dhcp4": False, "link-local": []}
            network[kind] = {key or bridge.card: dict(plain, **below)}
    if bridge.vlan:
        tag = {"id": bridge.vlan.id, "link": ids[bridge.vlan.interface] or bridge.vlan.interface, "link-local": []}
        if ids[bridge.vlan.name] is None:
            network["vlans"] = {bridge.vlan.name: dict(tag, **mtu)}
    parameters: Entry = {"stp": bridge.stp}
    if not bridge.stp:
        parameters["forward-delay"] = 0
    mac = job.mac(bridge)
    own: Entry = {"interfaces": [ids[bridge.port] or bridge.port] if bridge.port else []}
    own.update({"macaddress": mac} if mac else {})
    own.update(mtu)
    own["parameters"] = parameters
    if not bridge.port:
        own["optional"] = True
        if entry.get("addresses"):
            own["ignore-carrier"] = True
    network["bridges"] = {bridge.name: dict(own, **entry)}
    return network


def _enough(bridge: Bridge, key: str, kind: str, documents: Mapping[str, Entry], job: Job) -> Entry:
    """The interface of a VLAN needs as much at least; what it has already may be more."""
    own = (documents.get(own_path(bridge.name)) or {}).get("network") or {}
    said = ((own.get(kind) or {}).get(key) or {}).get("mtu")
    link = job.found.links.get(bridge.card or "")
    low = bridge.mtu and (link is None or link.mtu < bridge.mtu or said)
    return {"mtu": bridge.mtu} if low else {}


def _kind(name: str, documents: Mapping[str, Entry], found: Found) -> str:
    for document in documents.values():
        for kind, key, entry in _entries(document):
            if _means(name, key, entry, found):
                return kind
    return "ethernets"


def _same_lease(bridge: Bridge, entry: Mapping[str, Any], found: Found) -> str:
    """As in host_network_networkd: the DHCP server shall know its client again."""
    path = "/etc/systemd/network/10-netplan-%s.network.d/kvmops.conf" % bridge.name
    if path in found.files:
        return found.files[path]
    link = found.links.get(bridge.port or "")
    client = link.client_id.lower() if link else ""
    if bridge.says_addresses or not entry.get("dhcp4") or entry.get("dhcp-identifier") == "mac":
        return ""
    if len(client) < 10 or not client.startswith("ff"):
        return ""
    return "%s\n[DHCPv4]\nIAID=%d\n" % (MARK, int(client[2:10], 16))
