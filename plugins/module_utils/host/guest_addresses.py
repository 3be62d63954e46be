# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The addresses of a running guest, as its host or its agent knows them."""

from __future__ import annotations

from typing import Any, List, Mapping, Sequence

from ansible_collections.kvmops.fleet.plugins.module_utils.host import libvirt_api
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import flag

LEASE, ARP, AGENT = "lease", "arp", "agent"
_SOURCES = {
    LEASE: "VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE",
    ARP: "VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP",
    AGENT: "VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT",
}


def addresses_of(dom: Any, sources: Sequence[str]) -> List[Mapping[str, Any]]:
    """What the first of the sources that knows any says: interface, mac, address, prefix, source.

    lease: of libvirt's own networks. arp: the host's table of neighbours. agent: the guest agent, which the guest has to
    run, over a connection that may write. A source that cannot say is passed over: it is no error for a guest to have none.
    """
    for source in sources:
        try:
            told = dom.interfaceAddresses(flag(_SOURCES[source]), 0)
        except libvirt_api.libvirt.libvirtError:
            continue
        found = [
            {
                "interface": interface,
                "mac": about.get("hwaddr"),
                "address": each["addr"],
                "prefix": each["prefix"],
                "source": source,
            }
            for interface, about in sorted((told or {}).items())
            for each in about.get("addrs") or ()
        ]
        if found:
            return found
    return []
