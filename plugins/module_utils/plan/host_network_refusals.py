# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands against a bridge on this host. Everything is said at once, before anything changes."""

from __future__ import annotations

from typing import Dict, List, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.host_network import Bridge, Found, Job

NM = "NetworkManager.service"


def refusals(bridges: Sequence[Bridge], found: Found) -> Tuple[str, ...]:
    problems: List[str] = []
    if found.pending:
        problems.append("an earlier change waits to be confirmed or is being taken back; run again in a minute")
    for bridge in bridges:
        wrong = _name(bridge, found) + _card(bridge, bridges, found) + _port(bridge, found)
        wrong += _elsewhere(bridge, bridges, found)
        problems += ["bridge %s: %s" % (bridge.name, text) for text in wrong]
    return tuple(problems)


def _name(bridge: Bridge, found: Found) -> List[str]:
    link = found.links.get(bridge.name)
    if link is not None and link.kind != "bridge":
        return ["%s exists and is no bridge but %s" % (bridge.name, link.kind or "an interface")]
    if bridge.name in found.nm_devices:
        return ["it belongs to NetworkManager; make it there, or take it out of NetworkManager's hands"]
    return []


def _card(bridge: Bridge, bridges: Sequence[Bridge], found: Found) -> List[str]:
    if bridge.card is None:
        return []
    link = found.links.get(bridge.card)
    if link is None:
        there = sorted(name for name, link in found.links.items() if not link.loopback)
        return ["there is no interface %s; there are %s" % (bridge.card, ", ".join(there) or "none")]
    if link.loopback or link.kind in ("tun", "bridge"):
        return ["%s is %s; a bridge needs a card, a bond or a VLAN" % (bridge.card, link.kind or "the loopback")]
    if link.wireless:
        return ["%s is wireless: access points do not accept frames of guests; use routing instead" % bridge.card]
    if bridge.card in found.nm_devices:
        return [
            "%s is in the hands of NetworkManager, which this role does not configure. Let systemd-networkd, netplan or "
            "ifupdown configure it and NetworkManager ignore it, or make the bridge with nmcli" % bridge.card
        ]
    if bridge.vlan and link.master and not _is_bridge(link.master, bridges, found):
        return ["%s is part of %s; name that as the VLAN's interface" % (bridge.card, link.master)]
    return []


def _is_bridge(name: str, bridges: Sequence[Bridge], found: Found) -> bool:
    return (name in found.links and found.links[name].kind == "bridge") or name in [one.name for one in bridges]


def _port(bridge: Bridge, found: Found) -> List[str]:
    link = found.links.get(bridge.port or "")
    if link is None:
        return []
    if link.master and link.master != bridge.name:
        return ["%s is already part of %s; take it out there first" % (link.name, link.master)]
    if bridge.vlan and (link.kind != "vlan" or link.vlan_id != bridge.vlan.id or link.parent != bridge.vlan.interface):
        return ["%s exists and is not VLAN %d of %s" % (link.name, bridge.vlan.id, bridge.vlan.interface)]
    return []


def _elsewhere(bridge: Bridge, bridges: Sequence[Bridge], found: Found) -> List[str]:
    """An address that another device has would be there twice. Other bridges of the list may be about to lose it."""
    losing = [one.name for one in bridges if one.says_addresses]
    near = (bridge.name, bridge.port, bridge.card, *losing)
    problems = []
    for address in bridge.addresses or ():
        plain = address.split("/")[0]
        for link in found.links.values():
            if link.name not in near and plain in [one.split("/")[0] for one in link.addresses]:
                problems.append("address %s is on %s; remove it there first" % (plain, link.name))
    return problems


def cut_off(job: Job, carried: Dict[str, str]) -> Tuple[str, ...]:
    """Plans that would surely leave Ansible without the address it came by."""
    address = job.found.ssh_address
    if not address:
        return ()
    problems = []
    for bridge in job.work:
        for name in sorted({bridge.name, bridge.port or "", *job.cleared}):
            link = job.found.links.get(name)
            if link is None or address not in [one.split("/")[0] for one in link.addresses]:
                continue
            if bridge.says_addresses:
                stays = bool(bridge.dhcp) or any(
                    address in [one.split("/")[0] for one in other.addresses or ()] for other in job.work
                )
                if not stays:
                    problems.append(
                        "bridge %s: Ansible came by %s, which is on %s and among the addresses of no bridge; add it, or "
                        "say nothing about addresses and it is taken over" % (bridge.name, address, name)
                    )
            elif not _configured(address, carried.get(bridge.name, "")):
                problems.append(
                    "bridge %s: %s on %s, by which Ansible came, is in no file of the host's network, so nothing can "
                    "be taken over; say addresses, gateway and nameservers" % (bridge.name, address, name)
                )
    return tuple(problems)


def _configured(address: str, text: str) -> bool:
    return address in text or "dhcp" in text.lower().replace("dhcp=no", "").replace("dhcp4: false", "")
