# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The answer of a host that was asked about its network, as values. The question is roles/host_network's look."""

from __future__ import annotations

import base64
import json
from typing import Any, Dict, List, Mapping, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.host_network import Found, Link


def read_look(text: str) -> Found:
    """One line per answer: a word that says what it is, then the rest."""
    said: Dict[str, List[str]] = {}
    for line in text.splitlines():
        word, _space, rest = line.partition(" ")
        said.setdefault(word, []).append(rest.strip())
    netif = _netif(said.get("netif", []))
    wireless = said.get("wireless", [])
    found = [_link(entry, netif, wireless) for entry in json.loads("".join(said.get("links", [])) or "[]")]
    ssh = "".join(said.get("ssh", [])).split()
    return Found(
        distribution="".join(said.get("distribution", [])).strip('"'),
        links={link.name: link for link in found},
        files=dict(_file(rest) for rest in said.get("file", [])),
        active=tuple(said.get("active", [])),
        tools=tuple(said.get("tool", [])),
        nm_devices=tuple(said.get("nm", [])),
        ssh_address=ssh[2] if len(ssh) == 4 else "",
        pending="pending" in said,
    )


def _file(rest: str) -> Tuple[str, str]:
    path, _space, content = rest.partition(" ")
    return path, base64.b64decode(content).decode("utf-8", "surrogateescape")


def _netif(lines: List[str]) -> Dict[int, Dict[str, str]]:
    """networkd's notes about links, by their index: `3 NETWORK_FILE=/etc/…`."""
    notes: Dict[int, Dict[str, str]] = {}
    for line in lines:
        index, _space, rest = line.partition(" ")
        key, equals, value = rest.partition("=")
        if equals and index.isdigit():
            notes.setdefault(int(index), {})[key] = value
    return notes


def _link(entry: Mapping[str, Any], netif: Mapping[int, Mapping[str, str]], wireless: List[str]) -> Link:
    info = entry.get("linkinfo", {})
    data = info.get("info_data", {})
    notes = netif.get(entry["ifindex"], {})
    shown = [one for one in entry.get("addr_info", []) if one.get("scope") == "global" and "local" in one]
    return Link(
        name=entry["ifname"],
        kind=info.get("info_kind", ""),
        mac=entry.get("address", ""),
        mtu=entry.get("mtu", 1500),
        master=entry.get("master"),
        parent=entry.get("link"),
        vlan_id=data.get("id") if info.get("info_kind") == "vlan" else None,
        stp=bool(data.get("stp_state", 0)),
        up="UP" in entry.get("flags", []),
        loopback="LOOPBACK" in entry.get("flags", []),
        wireless=entry["ifname"] in wireless,
        addresses=tuple("%s/%s" % (one["local"], one["prefixlen"]) for one in shown),
        dynamic=tuple("%s/%s" % (one["local"], one["prefixlen"]) for one in shown if one.get("dynamic")),
        network_file=notes.get("NETWORK_FILE", ""),
        managed=notes.get("ADMIN_STATE", "") in ("configured", "configuring", "pending"),
        client_id=notes.get("CLIENTID", ""),
    )
