# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host's network: the bridges it shall have, and what was found on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

AUTO, NETPLAN, NETWORKD, IFUPDOWN = "auto", "netplan", "networkd", "ifupdown"
BACKENDS = (NETPLAN, NETWORKD, IFUPDOWN)

# The first line of every file of ours.
MARK = "# Managed by kvmops.fleet host_network."
# Keeps cloud-init from writing its file again at the next start.
CLOUD_INIT = "/etc/cloud/cloud.cfg.d/99-kvmops-network.cfg"
CLOUD_INIT_TEXT = MARK + "\nnetwork:\n  config: disabled\n"


@dataclass(frozen=True)
class Vlan:
    """name: of the device that carries the tag."""

    interface: str
    id: int
    name: str


@dataclass(frozen=True)
class Route:
    to: str
    via: str
    metric: Optional[int] = None


@dataclass(frozen=True)
class Bridge:
    """One bridge as wanted. None: not said. interface and vlan exclude each other."""

    name: str
    interface: Optional[str] = None
    vlan: Optional[Vlan] = None
    addresses: Optional[Tuple[str, ...]] = None
    dhcp: Optional[bool] = None
    gateway: Optional[str] = None
    gateway6: Optional[str] = None
    nameservers: Tuple[str, ...] = ()
    search: Tuple[str, ...] = ()
    routes: Tuple[Route, ...] = ()
    mtu: Optional[int] = None
    stp: bool = False
    mac: Optional[str] = None

    @property
    def port(self) -> Optional[str]:
        """The device that becomes a port of the bridge."""
        return self.vlan.name if self.vlan else self.interface

    @property
    def card(self) -> Optional[str]:
        """The interface below it all."""
        return self.vlan.interface if self.vlan else self.interface

    @property
    def says_addresses(self) -> bool:
        return self.addresses is not None or self.dhcp is not None

    @property
    def gateways(self) -> Tuple[str, ...]:
        return tuple(gateway for gateway in (self.gateway, self.gateway6) if gateway)


@dataclass(frozen=True)
class Link:
    """A network device as `ip` shows it. kind: bridge, vlan, bond, veth…; empty for a card.

    addresses: all of global scope, with prefix. network_file: what networkd configured it from, and managed: whether
    networkd says that it does. client_id: what networkd's DHCP client calls itself, in hexadecimal digits.
    """

    name: str
    kind: str = ""
    mac: str = ""
    mtu: int = 1500
    master: Optional[str] = None
    parent: Optional[str] = None
    vlan_id: Optional[int] = None
    stp: bool = False
    up: bool = False
    loopback: bool = False
    wireless: bool = False
    addresses: Tuple[str, ...] = ()
    dynamic: Tuple[str, ...] = ()
    network_file: str = ""
    managed: bool = False
    client_id: str = ""


@dataclass(frozen=True)
class Found:
    """files: text by path. active: systemd units. tools: commands that exist. nm_devices: what NetworkManager has.

    ssh_address: the address of this host to which Ansible is connected; empty when it is not by ssh.
    pending: an earlier change waits for its confirmation, or is being taken back.
    """

    distribution: str = ""
    links: Mapping[str, Link] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    active: Tuple[str, ...] = ()
    tools: Tuple[str, ...] = ()
    nm_devices: Tuple[str, ...] = ()
    ssh_address: str = ""
    pending: bool = False


@dataclass(frozen=True)
class Yaml:
    """How netplan's files are read and written; handed in, because nouns and decisions import no library."""

    load: Callable[[str], Any]
    dump: Callable[[Any], str]


@dataclass(frozen=True)
class Files:
    """What a backend wants: text by path, and the commands around writing them.

    before: run while the old files are in place. after: run with the new ones.
    undo_before: run to take it back, the new files still in place. undo_after: run with the old ones.
    carried: where the addresses of a bridge that says none come from, as text by bridge; None: it has none.
    """

    files: Dict[str, str] = field(default_factory=dict)
    before: Tuple[Tuple[str, ...], ...] = ()
    after: Tuple[Tuple[str, ...], ...] = ()
    undo_before: Tuple[Tuple[str, ...], ...] = ()
    undo_after: Tuple[Tuple[str, ...], ...] = ()
    carried: Dict[str, str] = field(default_factory=dict)
    problems: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """What a backend is asked for. work: bridges that must be written or set up.

    cleared: devices whose own addresses go away, besides the ports of the bridges.
    """

    work: Tuple[Bridge, ...]
    found: Found
    cleared: Tuple[str, ...] = ()

    def mac(self, bridge: Bridge) -> str:
        """The bridge's address: as said, or that of the interface, so that neighbours and DHCP servers know it."""
        if bridge.mac:
            return bridge.mac
        card = self.found.links.get(bridge.port or "") or self.found.links.get(bridge.card or "")
        return card.mac if card else ""
