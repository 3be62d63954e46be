# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bridges as wanted + the host's network as found → files to write, commands, and what happens in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.host_network import (
    AUTO,
    BACKENDS,
    IFUPDOWN,
    NETPLAN,
    NETWORKD,
    Bridge,
    Files,
    Found,
    Job,
    Link,
    Yaml,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import (
    host_network_ifupdown as ifupdown,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import (
    host_network_netplan as netplan,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import (
    host_network_networkd as networkd,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.host_network_drift import differences
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.host_network_refusals import cut_off, refusals
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.host_network_request import read_bridges

OWNS = {NETPLAN: netplan.owns, NETWORKD: networkd.owns, IFUPDOWN: ifupdown.owns}


@dataclass(frozen=True)
class Live:
    """A setting of a device that is there, which the backends do not all change: to what, and what it was."""

    device: str
    wanted: Tuple[str, ...]
    found: Tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """steps: in words; none means that everything is as wanted. files: only those that change, text by path.

    created: devices that do not exist yet, the last made first. joined: (bridge, port) that must be there at the end.
    """

    backend: str = ""
    problems: Tuple[str, ...] = ()
    steps: Tuple[str, ...] = ()
    files: Tuple[Tuple[str, str], ...] = ()
    commands: Files = field(default_factory=Files)
    live: Tuple[Live, ...] = ()
    created: Tuple[str, ...] = ()
    joined: Tuple[Tuple[str, str], ...] = ()


def network_outcome(wanted: Sequence[Mapping[str, Any]], found: Found, backend: str, yaml: Yaml) -> Outcome:
    bridges, problems = read_bridges(wanted)
    chosen = backend_of(backend, found, bridges)
    if chosen not in BACKENDS:
        problems += (chosen,)
    problems += refusals(bridges, found)
    if problems:
        return Outcome(problems=problems)
    ours, foreign = [], []
    for bridge in bridges:
        if OWNS[chosen](bridge, found) or bridge.name not in found.links:
            ours.append(bridge)
        else:
            foreign += foreign_problems(bridge, found)
    job = Job(tuple(ours), found, tuple(sorted(_cleared(ours, found))))
    rendered = _render(chosen, job, yaml) if ours else Files()
    problems = (*foreign, *rendered.problems, *cut_off(job, rendered.carried))
    if problems:
        return Outcome(backend=chosen, problems=tuple(problems))
    changed = tuple((p, t) for p, t in sorted(rendered.files.items()) if found.files.get(p) != t)
    steps = _steps(job, rendered, [path for path, _text in changed])
    if not steps:
        return Outcome(backend=chosen)
    return Outcome(
        backend=chosen,
        steps=tuple(steps),
        files=changed,
        commands=rendered,
        live=tuple(_live(job)),
        created=tuple(_created(job)),
        joined=tuple((bridge.name, bridge.port) for bridge in ours if bridge.port),
    )


def backend_of(asked: str, found: Found, bridges: Sequence[Bridge]) -> str:
    """The backend, or a sentence that says why there is none."""
    cards = [bridge.card for bridge in bridges if bridge.card in found.links and bridge.card]
    if asked not in (AUTO, *BACKENDS):
        return 'host_network_backend "%s" is not known; there are %s' % (asked, ", ".join((AUTO, *BACKENDS)))
    runs = {
        NETPLAN: "netplan" in found.tools,
        NETWORKD: "systemd-networkd.service" in found.active,
        IFUPDOWN: "ifup" in found.tools,
    }
    if asked != AUTO:
        needs = {NETPLAN: "netplan is not installed", NETWORKD: "systemd-networkd does not run"}
        return (
            asked
            if runs[asked]
            else "host_network_backend is %s, but %s here"
            % (
                asked,
                needs.get(asked, "ifupdown is not installed"),
            )
        )
    plans = any(path.startswith(netplan.FOLDER) for path in found.files)
    if runs[NETPLAN] and (plans or found.distribution == "ubuntu"):
        return NETPLAN
    # A bridge that is there has taken the interface's place in the files.
    names = [*cards, *(bridge.name for bridge in bridges)]
    if runs[IFUPDOWN] and any(ifupdown.names(name, found) for name in names):
        return IFUPDOWN
    if runs[NETWORKD]:
        return NETWORKD
    if runs[IFUPDOWN]:
        return IFUPDOWN
    return (
        "nobody this role knows configures the network here: neither netplan, systemd-networkd nor ifupdown; "
        "install and start one of them"
    )


def _render(backend: str, job: Job, yaml: Yaml) -> Files:
    if backend == NETPLAN:
        return netplan.render(job, yaml)
    return networkd.render(job) if backend == NETWORKD else ifupdown.render(job)


def foreign_problems(bridge: Bridge, found: Found) -> List[str]:
    """A bridge that somebody else made is left as it is, or refused when it is not as wanted."""
    wrong = differences(bridge, found)
    if not wrong:
        return []
    where = found.links[bridge.name].network_file
    return [
        "bridge %s exists and is not this role's%s, and it differs: %s. Change it there, or leave what differs out of "
        "host_network_bridges, or remove it (ip link delete %s)"
        % (bridge.name, ", see %s" % where if where else "", "; ".join(wrong), bridge.name)
    ]


def _cleared(bridges: Sequence[Bridge], found: Found) -> List[str]:
    """Interfaces below VLANs whose address is wanted on the bridge: an address is in one place only."""
    return [
        bridge.vlan.interface
        for bridge in bridges
        if bridge.vlan and _shared(bridge.addresses, found.links.get(bridge.vlan.interface))
    ]


def _shared(addresses: Optional[Tuple[str, ...]], link: Optional[Link]) -> List[str]:
    if link is None:
        return []
    plain = [address.split("/")[0] for address in addresses or ()]
    return [address for address in link.addresses if address.split("/")[0] in plain]


def _steps(job: Job, rendered: Files, changed: Sequence[str]) -> List[str]:
    found = job.found
    steps: List[str] = []
    for bridge in job.work:
        over = "without an interface"
        if bridge.vlan:
            over = "over VLAN %d of %s" % (bridge.vlan.id, bridge.vlan.interface)
        elif bridge.interface:
            over = "over %s" % bridge.interface
        wrong = differences(bridge, found)
        if bridge.name not in found.links:
            steps.append("bridge %s is made %s" % (bridge.name, over))
        elif wrong:
            steps.append("bridge %s is put right: %s" % (bridge.name, "; ".join(wrong)))
        steps += _moves(bridge, rendered.carried.get(bridge.name, ""), job)
    if changed and not steps:
        steps.append("what the files say about %s changes" % ", ".join(bridge.name for bridge in job.work))
    return steps + ["%s is %s" % (path, "changed" if path in found.files else "written") for path in changed]


def _moves(bridge: Bridge, carried: str, job: Job) -> List[str]:
    """Where the addresses of the interfaces below go."""
    steps = []
    for name in sorted({name for name in (bridge.port, bridge.card) if name}):
        link = job.found.links.get(name)
        if link is None or (name != bridge.port and name not in job.cleared):
            continue
        for address in link.addresses:
            if address in (bridge.addresses or ()) or not bridge.says_addresses:
                steps.append("address %s moves from %s to %s" % (address, name, bridge.name))
            elif address in link.dynamic and bridge.dhcp:
                steps.append("address %s leaves %s, and %s asks for one" % (address, name, bridge.name))
            else:
                steps.append("address %s leaves %s" % (address, name))
    if bridge.says_addresses:
        old = job.found.links[bridge.name].addresses if bridge.name in job.found.links else ()
        dynamic = job.found.links[bridge.name].dynamic if bridge.name in job.found.links else ()
        gone = [address for address in old if address not in (bridge.addresses or ()) and address not in dynamic]
        steps += ["address %s leaves %s" % (address, bridge.name) for address in gone]
        moved = " ".join(steps)
        new = [address for address in bridge.addresses or () if address not in old and address + " " not in moved]
        steps += ["address %s comes to %s" % (address, bridge.name) for address in new]
    return steps


def _live(job: Job) -> List[Live]:
    """Guests stay in a bridge while this changes."""
    settings: List[Live] = []
    for bridge in job.work:
        link = job.found.links.get(bridge.name)
        if link is not None and link.stp != bridge.stp:
            settings.append(Live(bridge.name, _stp(bridge.stp), _stp(link.stp)))
        if link is not None and bridge.mac and link.mac != bridge.mac:
            settings.append(Live(bridge.name, ("address", bridge.mac), ("address", link.mac)))
        cards: Dict[str, None] = {name: None for name in (bridge.card, bridge.port, bridge.name) if name}
        for name in _too_small(cards, bridge, job):
            settings.append(Live(name, ("mtu", str(bridge.mtu)), ("mtu", str(job.found.links[name].mtu))))
    return settings


def _stp(on: bool) -> Tuple[str, ...]:
    return ("type", "bridge", "stp_state", "1") if on else ("type", "bridge", "stp_state", "0", "forward_delay", "0")


def _too_small(names: Mapping[str, None], bridge: Bridge, job: Job) -> List[str]:
    """Of devices that exist, those with another mtu; what is below a VLAN may have more."""
    chosen = []
    for name in names:
        link = job.found.links.get(name)
        below = bridge.vlan is not None and name == bridge.vlan.interface
        if link is not None and bridge.mtu is not None and (link.mtu < bridge.mtu if below else link.mtu != bridge.mtu):
            chosen.append(name)
    return chosen


def _created(job: Job) -> List[str]:
    names = [bridge.name for bridge in job.work] + [bridge.vlan.name for bridge in job.work if bridge.vlan]
    return [name for name in names if name not in job.found.links]
