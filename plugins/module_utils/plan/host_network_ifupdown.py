# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bridges in ifupdown's files.

The stanzas of the interface move to a file of ours under the bridge's name. The bridge is made with `ip`, so that
neither bridge-utils nor vlan need to be installed while the network changes.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Dict, List

from ansible_collections.kvmops.fleet.plugins.module_utils.model.host_network import (
    CLOUD_INIT,
    CLOUD_INIT_TEXT,
    MARK,
    Bridge,
    Files,
    Found,
    Job,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.host_network_drift import differences

MAIN = "/etc/network/interfaces"
FOLDER = "/etc/network/interfaces.d/"
NOTE = "# %s is configured by kvmops.fleet host_network, see " + FOLDER
STARTS = re.compile(r"^\s*(iface|mapping|auto|allow-\S+|source|source-directory|no-auto-down|no-scripts|template)\b")
# In a stanza, what is about the card.
OF_THE_CARD = ("hwaddress", "mtu", "vlan-raw-device", "vlan_raw_device")


def own_path(name: str) -> str:
    return "%skvmops-%s" % (FOLDER, name)


def owns(bridge: Bridge, found: Found) -> bool:
    return own_path(bridge.name) in found.files


def names(name: str, found: Found) -> bool:
    """Whether ifupdown's files configure that interface."""
    return any(_stanzas(name, text) for path, text in found.files.items() if _is_ours_to_read(path))


def render(job: Job) -> Files:
    found = job.found
    old = {path: text for path, text in found.files.items() if _is_ours_to_read(path)}
    new = dict(old)
    carried: Dict[str, str] = {}
    taken = list({name: None for bridge in job.work for name in (bridge.port,) if name} | dict.fromkeys(job.cleared))
    for bridge in job.work:
        if bridge.says_addresses:
            body = _addresses(bridge)
        elif own_path(bridge.name) in old:
            body = _own_body(bridge, old[own_path(bridge.name)])
        else:
            body = [_for_bridge(one, bridge) for one in _all_stanzas(bridge.port, old)]
        carried[bridge.name] = "\n".join("\n".join(lines) for lines in body)
        new[own_path(bridge.name)] = _own(bridge, body, job)
    for path, text in old.items():
        if not _is_own(path):
            new[path] = _without(taken, text)
    main = new.get(MAIN, "")
    if not re.search(r"(?m)^\s*source(-directory)?\s+\S*interfaces\.d", main):
        new[MAIN] = main + ("\n" if main and not main.endswith("\n\n") else "") + "source /etc/network/interfaces.d/*\n"
    files = {path: text for path, text in new.items() if not _is_own(path) or _named(path, job)}
    files = {path: text for path, text in files.items() if text != old.get(path) or _named(path, job)}
    if any("cloud-init" in path for path in files) and CLOUD_INIT not in found.files:
        files[CLOUD_INIT] = CLOUD_INIT_TEXT
    # What somebody deleted or changed by hand comes again, though its file is as it should be.
    dirty = [
        bridge
        for bridge in job.work
        if found.files.get(own_path(bridge.name)) != new[own_path(bridge.name)] or differences(bridge, found)
    ]
    return _commands(Files(files, carried=carried), dirty, taken, found)


def _commands(plain: Files, dirty: List[Bridge], taken: List[str], found: Found) -> Files:
    """A device goes down as it came up, with the files it came up by."""
    concerned = [bridge.port for bridge in dirty if bridge.port] + [bridge.card for bridge in dirty if bridge.card]
    devices = [name for name in taken if names(name, found) and name in found.links and name in concerned]
    bridges = [bridge.name for bridge in dirty]
    ours = [bridge.name for bridge in dirty if owns(bridge, found)]
    # A card that is taken down leaves its VLANs without a way out for a moment only: the bridge brings it up again.
    return replace(
        plain,
        before=tuple(("ifdown", "--force", name) for name in devices + ours),
        after=tuple(("ifup", "--force", name) for name in bridges),
        undo_before=tuple(("ifdown", "--force", name) for name in reversed(bridges)),
        undo_after=tuple(("ifup", "--force", name) for name in devices + ours),
    )


def _is_ours_to_read(path: str) -> bool:
    return path == MAIN or path.startswith(FOLDER)


def _is_own(path: str) -> bool:
    return path.startswith(FOLDER + "kvmops-")


def _named(path: str, job: Job) -> bool:
    return path in [own_path(bridge.name) for bridge in job.work]


def _blocks(text: str) -> List[List[str]]:
    """Lines by stanza; what stands before the first is a block of its own."""
    blocks: List[List[str]] = [[]]
    for line in text.splitlines():
        if STARTS.match(line) or (line.startswith("#") and blocks[-1] and not blocks[-1][-1].strip()):
            blocks.append([])
        blocks[-1].append(line)
    return blocks


def _stanzas(name: str, text: str) -> List[List[str]]:
    return [block for block in _blocks(text) if block and block[0].split()[:2] == ["iface", name]]


def _all_stanzas(name: object, old: Dict[str, str]) -> List[List[str]]:
    return [block for path in sorted(old) for block in _stanzas(str(name), old[path]) if not _is_own(path)]


def _without(taken: List[str], text: str) -> str:
    """The file without those devices; each leaves a note where it stood."""
    lines: List[str] = []
    for block in _blocks(text):
        words = block[0].split() if block else []
        if words[:1] == ["iface"] and words[1] in taken:
            note = NOTE % words[1]
            lines += [] if note in lines else [note]
            lines += [""] if not block[-1].strip() and lines[-1].strip() else []
        elif words and re.match(r"auto$|allow-", words[0]) and set(words[1:]) & set(taken):
            left = [word for word in words[1:] if word not in taken]
            lines += ([" ".join([words[0], *left])] if left else []) + block[1:]
        else:
            lines += block
    return "\n".join(lines).rstrip("\n") + "\n" if lines != text.splitlines() else text


def _for_bridge(block: List[str], bridge: Bridge) -> List[str]:
    """A stanza of the interface under the bridge's name."""
    lines = [line.strip() for line in block if line.strip() and not line.strip().startswith("#")]
    family_and_method = lines[0].split()[2:]
    body = [line for line in lines[1:] if line.split()[0] not in OF_THE_CARD]
    port = re.compile(r"(?<![\w.-])%s(?![\w.-])" % re.escape(bridge.port or ""))
    return [" ".join(["iface", bridge.name, *family_and_method])] + ["    " + port.sub(bridge.name, x) for x in body]


def _own_body(bridge: Bridge, text: str) -> List[List[str]]:
    """The addresses in a file of ours, without the lines that make the bridge."""
    blocks = _stanzas(bridge.name, text)
    bare = [[line for line in block if line.strip() and not line.endswith(" # bridge")] for block in blocks]
    return [block for block in bare if block[0].split()[2:] != ["inet", "manual"] or len(block) > 1]


def _addresses(bridge: Bridge) -> List[List[str]]:
    blocks: List[List[str]] = [["iface %s inet dhcp" % bridge.name]] if bridge.dhcp else []
    for address in bridge.addresses or ():
        family = "inet6" if ":" in address else "inet"
        stanza = ["iface %s %s static" % (bridge.name, family), "    address %s" % address]
        # Nobody is in that bridge yet who could have the same address; the check for it would never end, and ifup fail.
        blocks.append(stanza + (["    dad-attempts 0"] if family == "inet6" and not bridge.port else []))
    for family, gateway in (("inet", bridge.gateway), ("inet6", bridge.gateway6)):
        block = next((one for one in blocks if one[0].split()[2:] == [family, "static"]), None)
        if gateway and block:
            block.append("    gateway %s" % gateway)
        elif gateway and blocks:
            blocks[0].append("    up ip route replace default via %s dev %s" % (gateway, bridge.name))
    if blocks:
        last = blocks[-1]
        for route in bridge.routes:
            metric = "" if route.metric is None else " metric %d" % route.metric
            last.append("    up ip route replace %s via %s dev %s%s" % (route.to, route.via, bridge.name, metric))
        if bridge.nameservers:
            blocks[0].append("    dns-nameservers %s" % " ".join(bridge.nameservers))
        if bridge.search:
            blocks[0].append("    dns-search %s" % " ".join(bridge.search))
    return blocks


def _own(bridge: Bridge, body: List[List[str]], job: Job) -> str:
    blocks = [list(block) for block in body] or [["iface %s inet manual" % bridge.name]]
    blocks[0][1:1] = ["    %s # bridge" % line for line in _make(bridge, job)]
    stanzas = "\n".join("\n".join(block) + "\n" for block in blocks)
    return '%s Lines that end in "# bridge" make the bridge.\nauto %s\n%s' % (MARK, bridge.name, stanzas)


def _make(bridge: Bridge, job: Job) -> List[str]:
    name, mac = bridge.name, job.mac(bridge)
    stp = "stp_state 1" if bridge.stp else "stp_state 0 forward_delay 0"
    there = "test -e /sys/class/net/%s || ip link add"
    # From its first moment: udev gives a bridge that has none yet an address of its own, and may be late with it.
    lines = ["pre-up %s name %s%s type bridge" % (there % name, name, " address %s" % mac if mac else "")]
    lines.append("pre-up ip link set dev %s type bridge %s" % (name, stp))
    if mac:
        lines.append("pre-up ip link set dev %s address %s" % (name, mac))
    mtu = " mtu %d" % bridge.mtu if bridge.mtu else ""
    if bridge.vlan:
        vlan = bridge.vlan
        lines.append("pre-up ip link set dev %s up" % vlan.interface)
        if bridge.mtu:
            # The interface needs as much at least.
            enough = "test $(cat /sys/class/net/%s/mtu) -ge %d" % (vlan.interface, bridge.mtu)
            lines.append("pre-up %s || ip link set dev %s%s" % (enough, vlan.interface, mtu))
        lines.append(
            "pre-up %s link %s name %s type vlan id %d" % (there % vlan.name, vlan.interface, vlan.name, vlan.id)
        )
    if bridge.port:
        lines.append("pre-up ip link set dev %s%s master %s up" % (bridge.port, mtu, name))
    lines.append("pre-up ip link set dev %s%s up" % (name, mtu))
    # The bridge itself stays when it goes down, and so do the guests in it.
    if bridge.port:
        lines.append("post-down ip link set dev %s nomaster" % bridge.port)
    return lines
