# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a user wrote about bridges, read strictly. Every problem is found at once."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.host_network import Bridge, Route, Vlan

# Linux takes fifteen characters. A dot or a colon means something else to ip, sysctl or ifupdown.
NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_-]{0,14}$")
DEVICE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$")
MAC = re.compile(r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$")
DOMAIN = re.compile(r"^~?[A-Za-z0-9._-]+$")
KNOWN = (
    "name interface vlan addresses dhcp gateway gateway6 nameservers search routes mtu stp mac".split()
)  # fmt: skip


def read_bridges(wanted: Sequence[Mapping[str, Any]]) -> Tuple[Tuple[Bridge, ...], Tuple[str, ...]]:
    """The bridges and what is wrong with them; bridges with problems are left out."""
    bridges: List[Bridge] = []
    problems: List[str] = []
    for number, entry in enumerate(wanted):
        where = "bridge %s" % (entry.get("name") or "number %d" % (number + 1))
        wrong = _wrong(entry)
        problems += ["%s: %s" % (where, text) for text in wrong]
        if not wrong:
            bridges.append(_bridge(entry))
    return tuple(bridges), tuple(problems + _twice(bridges))


def _twice(bridges: Sequence[Bridge]) -> List[str]:
    problems = []
    for what, names in (
        ("the name %s is given", [bridge.name for bridge in bridges]),
        ("%s is a port", [bridge.port for bridge in bridges if bridge.port]),
    ):
        for name in sorted({name for name in names if names.count(name) > 1}):
            problems.append("%s to several bridges; one device can be in one bridge only" % (what % name))
    addresses = [address for bridge in bridges for address in bridge.addresses or ()]
    for address in sorted({one for one in addresses if addresses.count(one) > 1}):
        problems.append("address %s is given to several bridges" % address)
    return problems


def _wrong(entry: Mapping[str, Any]) -> List[str]:
    name, vlan = str(entry.get("name") or ""), entry.get("vlan")
    wrong = ["unknown option %s; known are %s" % (key, ", ".join(KNOWN)) for key in entry if key not in KNOWN]
    if not NAME.match(name):
        wrong.append("a name has 1 to 15 of the characters A-Z a-z 0-9 _ - and begins with a letter")
    if entry.get("interface") and vlan:
        wrong.append("interface and vlan exclude each other; a VLAN names its interface itself")
    for device in (entry.get("interface"), (vlan or {}).get("interface"), (vlan or {}).get("name")):
        if device and not DEVICE.match(str(device)):
            wrong.append('"%s" cannot be the name of a network device' % device)
        if device == name:
            wrong.append("a bridge cannot be its own interface")
    if vlan:
        wrong += _wrong_vlan(vlan)
    wrong += _wrong_addresses(entry)
    mtu = entry.get("mtu")
    if mtu is not None and not 576 <= int(mtu) <= 65535:
        wrong.append("mtu %s is not between 576 and 65535" % mtu)
    if entry.get("mac") and (not MAC.match(str(entry["mac"]).lower()) or int(str(entry["mac"])[:2], 16) & 1):
        wrong.append("mac %s is not the address of one device, such as 52:54:00:12:34:56" % entry["mac"])
    return wrong


def _wrong_vlan(vlan: Mapping[str, Any]) -> List[str]:
    wrong = []
    if not vlan.get("interface"):
        wrong.append("vlan.interface is missing")
    number = vlan.get("id")
    if number is None or not 1 <= int(number) <= 4094:
        wrong.append("vlan.id %s is not between 1 and 4094" % number)
    elif vlan.get("interface") and not vlan.get("name") and len(_vlan_name(vlan)) > 15:
        wrong.append("the name %s is longer than 15 characters; give another as vlan.name" % _vlan_name(vlan))
    return wrong


def _wrong_addresses(entry: Mapping[str, Any]) -> List[str]:
    wrong = []
    for address in entry.get("addresses") or []:
        if "/" not in str(address) or _interface(address) is None:
            wrong.append("%s is not an address with prefix, such as 192.0.2.10/24" % address)
    for key, version in (("gateway", 4), ("gateway6", 6)):
        if entry.get(key) and _version(entry[key]) != version:
            wrong.append("%s %s is not an IPv%d address" % (key, entry[key], version))
    wrong += ["nameserver %s is not an IP address" % n for n in entry.get("nameservers") or [] if _version(n) is None]
    wrong += ["%s is not a domain" % domain for domain in entry.get("search") or [] if not DOMAIN.match(str(domain))]
    for route in entry.get("routes") or []:
        network = None if route.get("to") is None else _interface(route["to"])
        if network is None or network.ip != network.network.network_address:
            wrong.append("route to %s: not a network such as 198.51.100.0/24" % route.get("to"))
        elif _version(route.get("via")) != network.version:
            wrong.append("route to %s: via %s is not an address of that kind" % (route["to"], route.get("via")))
    if entry.get("addresses") is None and entry.get("dhcp") is None:
        alone = [key for key in ("gateway", "gateway6", "nameservers", "search", "routes") if entry.get(key)]
        if alone:
            wrong.append(
                "%s without addresses or dhcp: say all of the host's own network, or nothing of it, which takes over "
                "what the interface has" % ", ".join(alone)
            )
    return wrong


def _interface(text: Any) -> Any:
    try:
        return ipaddress.ip_interface(str(text))
    except ValueError:
        return None


def _version(text: Any) -> Optional[int]:
    try:
        return ipaddress.ip_address(str(text)).version
    except ValueError:
        return None


def _vlan_name(vlan: Mapping[str, Any]) -> str:
    return str(vlan.get("name") or "%s.%s" % (vlan["interface"], vlan["id"]))


def _bridge(entry: Mapping[str, Any]) -> Bridge:
    vlan = entry.get("vlan")
    addresses = entry.get("addresses")
    return Bridge(
        name=str(entry["name"]),
        interface=entry.get("interface") or None,
        vlan=Vlan(str(vlan["interface"]), int(vlan["id"]), _vlan_name(vlan)) if vlan else None,
        addresses=None if addresses is None else tuple(_interface(one).with_prefixlen for one in addresses),
        dhcp=entry.get("dhcp"),
        gateway=entry.get("gateway") or None,
        gateway6=entry.get("gateway6") or None,
        nameservers=tuple(str(one) for one in entry.get("nameservers") or ()),
        search=tuple(str(one) for one in entry.get("search") or ()),
        routes=tuple(Route(str(one["to"]), str(one["via"]), one.get("metric")) for one in entry.get("routes") or ()),
        mtu=None if entry.get("mtu") is None else int(entry["mtu"]),
        stp=bool(entry.get("stp")),
        mac=str(entry["mac"]).lower() if entry.get("mac") else None,
    )
