# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bridges in systemd-networkd's files.

Nothing of others is changed: our files sort first, and networkd takes the first that matches. What the interface's
own file says about addresses, routes and names goes to the bridge word by word.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.host_network import MARK, Bridge, Files, Found, Job

FOLDER = "/etc/systemd/network/"
# In [Network], these hang other devices on an interface: they stay with it.
STACKED = ("VLAN", "MACVLAN", "IPVLAN", "MACVTAP", "IPVTAP", "VXLAN", "Tunnel", "Xfrm", "MACsec")

Section = Tuple[str, List[Tuple[str, str]]]


def own_path(name: str, kind: str = "network") -> str:
    return "%s00-kvmops-%s.%s" % (FOLDER, name, kind)


def owns(bridge: Bridge, found: Found) -> bool:
    return own_path(bridge.name, "netdev") in found.files


def render(job: Job) -> Files:
    files: Dict[str, str] = {}
    carried: Dict[str, str] = {}
    problems: List[str] = []
    devices: List[str] = []
    for bridge in job.work:
        files[own_path(bridge.name, "netdev")] = _netdev(bridge, job)
        body = _addresses(bridge) if bridge.says_addresses else _carried(bridge, job)
        carried[bridge.name] = text(body)
        link: List[Tuple[str, str]] = [("MTUBytes", str(bridge.mtu))] if bridge.mtu else []
        if not bridge.port:
            # It has no carrier until a guest runs; nobody shall wait for it.
            link.append(("RequiredForOnline", "no"))
            body = _with(body, "Network", [("ConfigureWithoutCarrier", "yes")])
        files[own_path(bridge.name)] = _file(bridge.name, link, body)
        devices.append(bridge.name)
    for name in sorted(_below(job)):
        problems += _overtaken(name, job.found)
        files[own_path(name)] = _below_file(name, job)
        devices.append(name)
    for vlan in (bridge.vlan for bridge in job.work if bridge.vlan):
        if vlan.name not in job.found.links or own_path(vlan.name, "netdev") in job.found.files:
            files[own_path(vlan.name, "netdev")] = text(
                [("NetDev", [("Name", vlan.name), ("Kind", "vlan")]), ("VLAN", [("Id", str(vlan.id))])]
            )
    files = {path: MARK + "\n" + one for path, one in files.items()}
    written = [path for path, one in files.items() if job.found.files.get(path) != one]
    known = [name for name in devices if name in job.found.links and (own_path(name) in written or not written)]
    again = (("networkctl", "reconfigure", *known),) if known else ()
    return Files(
        files=files,
        # A device that somebody deleted is made again only by a new start.
        after=(("networkctl", "reload") if written else ("systemctl", "restart", "systemd-networkd.service"), *again),
        undo_after=(("networkctl", "reload"), *again),
        carried=carried,
        problems=tuple(problems),
    )


def _netdev(bridge: Bridge, job: Job) -> str:
    mac = job.mac(bridge)
    stp = [("STP", "yes")] if bridge.stp else [("STP", "no"), ("ForwardDelaySec", "0")]
    return text(
        [
            ("NetDev", [("Name", bridge.name), ("Kind", "bridge")] + ([("MACAddress", mac)] if mac else [])),
            ("Bridge", stp),
        ]
    )


def _addresses(bridge: Bridge) -> List[Section]:
    network = [("Address", address) for address in bridge.addresses or ()]
    network += [("Gateway", gateway) for gateway in bridge.gateways]
    network += [("DNS", server) for server in bridge.nameservers]
    if bridge.search:
        network.append(("Domains", " ".join(bridge.search)))
    network.append(("DHCP", "yes" if bridge.dhcp else "no"))
    if not bridge.addresses and not bridge.dhcp:
        network += [("LinkLocalAddressing", "no"), ("IPv6AcceptRA", "no")]
    sections: List[Section] = [("Network", network)]
    for route in bridge.routes:
        metric = [] if route.metric is None else [("Metric", str(route.metric))]
        sections.append(("Route", [("Destination", route.to), ("Gateway", route.via), *metric]))
    return sections


def _carried(bridge: Bridge, job: Job) -> List[Section]:
    """What the interface had, or what the bridge has by now."""
    own = job.found.files.get(own_path(bridge.name))
    source = parse(own) if own is not None else _source(bridge.port, job.found)
    body = _addressing(source)
    if own is None and body:
        body += _same_lease(bridge.port, job.found, body)
    return body or [("Network", [("LinkLocalAddressing", "no"), ("IPv6AcceptRA", "no")])]


def _source(name: Optional[str], found: Found) -> List[Section]:
    """The file that configures a device, with what extends it."""
    if name is None:
        return []
    path = own_path(name) if own_path(name) in found.files else _file_of(name, found)
    sections = parse(found.files.get(path, ""))
    extends = "/%s.d/" % path.rsplit("/", 1)[-1]
    for other in sorted(found.files, key=lambda one: one.rsplit("/", 1)[-1]):
        if path and extends in other:
            sections += parse(found.files[other])
    return sections


def _file_of(name: str, found: Found) -> str:
    return found.links[name].network_file if name in found.links else ""


def _overtaken(name: str, found: Found) -> List[str]:
    path = _file_of(name, found)
    ours = own_path(name).rsplit("/", 1)[-1]
    if path and path != own_path(name) and path.rsplit("/", 1)[-1] < ours:
        return ["%s is configured by %s, which sorts before %s: rename it" % (name, path, ours)]
    return []


def _same_lease(name: Optional[str], found: Found, body: List[Section]) -> List[Section]:
    """The DHCP server knows its client by a number that networkd would make anew for a bridge."""
    link = found.links.get(name or "")
    client = link.client_id.lower() if link else ""
    said = dict(pair for section, pairs in body for pair in pairs if section.startswith("DHCP"))
    if len(client) < 10 or not client.startswith("ff") or "IAID" in said or said.get("ClientIdentifier") == "mac":
        return []
    return [("DHCPv4", [("IAID", str(int(client[2:10], 16)))])]


def _addressing(sections: List[Section]) -> List[Section]:
    """Without what concerns the device itself, and without the mark that it is part of something."""
    kept: List[Section] = []
    for name, pairs in sections:
        if name in ("Match", "Link"):
            continue
        if name == "Network":
            drop = (*STACKED, "Bridge", "ConfigureWithoutCarrier")
            pairs = [pair for pair in pairs if pair[0] not in drop]
        if pairs:
            kept.append((name, pairs))
    return kept


def _below(job: Job) -> List[str]:
    """Ports, and the interfaces below VLANs."""
    return list({name: None for bridge in job.work for name in (bridge.port, bridge.card) if name})


def _below_file(name: str, job: Job) -> str:
    source = _source(name, job.found)
    master = next((bridge.name for bridge in job.work if bridge.port == name), None)
    if master is None:
        # The interface of a VLAN may itself be a port, of a bridge that needs no work.
        master = next((value for _s, pairs in source for key, value in pairs if key == "Bridge"), None)
    vlans = [bridge.vlan.name for bridge in job.work if bridge.vlan and bridge.vlan.interface == name]
    stacked = [pair for section, pairs in source for pair in pairs if section == "Network" and pair[0] in STACKED]
    stacked += [("VLAN", vlan) for vlan in vlans if ("VLAN", vlan) not in stacked]
    link = [pair for section, pairs in source for pair in pairs if section == "Link" and pair[0] != "MTUBytes"]
    link += _mtu(name, job, source)
    if master:
        network = [("Bridge", master), ("LinkLocalAddressing", "no")]
        return _file(name, link, [("Network", network + stacked)])
    if name in job.cleared or not source:
        return _file(name, link, [("Network", [("LinkLocalAddressing", "no"), ("IPv6AcceptRA", "no"), *stacked])])
    return _file(name, link, _with(_addressing(source), "Network", stacked))


def _mtu(name: str, job: Job, source: List[Section]) -> List[Tuple[str, str]]:
    """As the bridge has it. The interface of a VLAN needs as much at least; what it has already may be more."""
    old = [
        int(value) for s, pairs in source for k, value in pairs if (s, k) == ("Link", "MTUBytes") and value.isdigit()
    ]
    port = [bridge.mtu for bridge in job.work if bridge.mtu and bridge.port == name]
    live = job.found.links[name].mtu if name in job.found.links else 0
    above = [bridge.mtu for bridge in job.work if bridge.mtu and bridge.port != name and bridge.card == name]
    raised = port or [*old, *(mtu for mtu in above if mtu > live)]
    return [("MTUBytes", str(max([*raised, *(above if port else ())])))] if raised else []


def _with(sections: List[Section], name: str, pairs: List[Tuple[str, str]]) -> List[Section]:
    """More lines in the first section of that name."""
    done = False
    result: List[Section] = []
    for section, old in sections:
        if section == name and not done:
            old, done = old + pairs, True
        result.append((section, old))
    return result if done else [(name, list(pairs)), *result]


def _file(name: str, link: List[Tuple[str, str]], body: List[Section]) -> str:
    head: List[Section] = [("Match", [("Name", name)])]
    return text(head + ([("Link", link)] if link else []) + body)


def parse(content: str) -> List[Section]:
    """Sections and their lines, in order; a section may come several times."""
    sections: List[Section] = []
    for line in content.replace("\\\n", " ").splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            sections.append((line[1:-1], []))
        elif line and line[0] not in "#;" and "=" in line and sections:
            key, _equals, value = line.partition("=")
            sections[-1][1].append((key.strip(), value.strip()))
    return sections


def text(sections: List[Section]) -> str:
    return "\n".join("[%s]\n%s" % (name, "".join("%s=%s\n" % pair for pair in pairs)) for name, pairs in sections)
