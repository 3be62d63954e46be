# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The network cards of this machine, what they are called and which addresses and routes they have."""

from __future__ import absolute_import, division, print_function

import os
import socket

from ansible_collections.kvmops.fleet.plugins.module_utils.p2v_agent import blocks, processes

__metaclass__ = type

NET = "/sys/class/net"


def interfaces():
    """Every interface but lo; real cards have a driver."""
    addresses = parsed_addresses(processes.output(["ip", "-o", "addr", "show"]))
    found = []
    for name in sorted(os.listdir(NET)):
        if name == "lo" or not os.path.isdir(os.path.join(NET, name)):
            continue
        permanent = first_word(processes.output(["ethtool", "-P", name]), "Permanent address:")
        found.append(
            {
                "name": name,
                "mac": told(name, "address"),
                "permanent_mac": permanent,
                "mtu": int(told(name, "mtu") or 0),
                "state": told(name, "operstate"),
                "driver": linked(name, "device/driver"),
                "master": linked(name, "master"),
                "kind": kind(name),
                "addresses": addresses.get(name, []),
            }
        )
    return found


def told(name, what):
    return blocks.word(os.path.join(NET, name, what))


def linked(name, what):
    path = os.path.join(NET, name, what)
    return os.path.basename(os.path.realpath(path)) if os.path.exists(path) else ""


def kind(name):
    """card, or what the kernel made: bridge, bond, vlan, virtual."""
    for folder, word in (("bridge", "bridge"), ("bonding", "bond"), ("device", "card")):
        if os.path.isdir(os.path.join(NET, name, folder)):
            return word
    return "vlan" if os.path.exists("/proc/net/vlan/" + name) else "virtual"


def first_word(text, behind):
    dummy, dummy, rest = text.partition(behind)
    return (rest.split() or [""])[0]


def parsed_addresses(text):
    """{interface: ["192.0.2.1/24", ...]} of `ip -o addr show`; of this link only is nobody's setting."""
    found = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[2] in ("inet", "inet6") and "link" not in fields[fields.index("scope") :][1:2]:
            found.setdefault(fields[1].partition("@")[0], []).append(fields[3])
    return found


def routes():
    """Lines of `ip route show`, of both families: gateways and what else a user set."""
    text = processes.output(["ip", "route", "show"]) + processes.output(["ip", "-6", "route", "show"])
    return [line.strip() for line in text.splitlines() if line.strip()]


def address_towards(place):
    """The address by which this machine goes to [host, port], or nothing. Connecting a datagram socket sends none."""
    try:
        host, port = place or ("", 0)
        for family, kind, protocol, dummy, place in (
            socket.getaddrinfo(host, port, 0, socket.SOCK_DGRAM) if host else []
        ):
            probe = socket.socket(family, kind, protocol)
            try:
                probe.connect(place)
                return probe.getsockname()[0]
            finally:
                probe.close()
    except (socket.error, OSError, IOError):
        pass
    return ""
