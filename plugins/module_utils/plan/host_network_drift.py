# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""In what a bridge of a host differs from the wanted one."""

from __future__ import annotations

from typing import List

from ansible_collections.kvmops.fleet.plugins.module_utils.model.host_network import Bridge, Found, Link


def differences(bridge: Bridge, found: Found) -> List[str]:
    """How the running bridge differs from the wanted one, in words."""
    link = found.links.get(bridge.name)
    if link is None:
        return ["it does not exist"]
    wrong = []
    port = found.links.get(bridge.port or "")
    if bridge.port and (port is None or port.master != bridge.name):
        wrong.append("%s is not in it" % bridge.port)
    elif port is not None and not port.up:
        wrong.append("%s is down" % port.name)
    if bridge.vlan and port is not None and port.vlan_id != bridge.vlan.id:
        wrong.append("%s does not carry VLAN %d" % (port.name, bridge.vlan.id))
    if bridge.mtu and link.mtu != bridge.mtu and _is_up(link, bridge):
        wrong.append("its mtu is %d, not %d" % (link.mtu, bridge.mtu))
    if bridge.stp != link.stp:
        wrong.append("STP is %s" % ("on" if link.stp else "off"))
    if bridge.mac and link.mac != bridge.mac:
        wrong.append("its address is %s, not %s" % (link.mac, bridge.mac))
    if not link.up:
        wrong.append("it is down")
    wrong += ["it lacks %s" % address for address in bridge.addresses or () if address not in link.addresses]
    return wrong


def _is_up(link: Link, bridge: Bridge) -> bool:
    # Without a port a bridge shows what its ports would give it.
    return link.up or bridge.port is not None
