"""Cuts, losses and silence on the lab's switch, as one nftables table.

They live outside the hosts: nothing that a role does to a host's own firewall can undo them.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvmlab.network import lab_netns
from kvmlab.run import run
from kvmlab.state import Fault

TABLE = "kvmlab"
CONTROLLER = "controller"
PORTS = {
    "all": (),
    "control": ("22", "16509", "16514"),
    "data": ("49152-49215",),
    "storage": ("111", "2049", "20048"),
}
RARP = "0x8035"
CHAINS = ("prerouting", "forward", "input", "output")


def apply(lab: str, faults: Iterable[Fault]) -> None:
    """Make the switch's table what these faults ask for."""
    run(["ip", "netns", "exec", lab_netns(lab), "nft", "-f", "-"], stdin=render(faults))


def render(faults: Iterable[Fault]) -> str:
    """The nft script that replaces the table by one for these faults."""
    chains: dict[str, list[str]] = {name: [] for name in CHAINS}
    for fault in faults:
        if fault.kind == "cut":
            ports, ways, other = fault.detail.split()
            _cut(chains, fault.host, other, ports)
            if ways == "both":
                _cut(chains, other, fault.host, ports)
        elif fault.kind == "drop":
            percent, ways = fault.detail.split()
            loss = f"numgen random mod 1000 < {round(float(percent) * 10)} counter drop"
            chains["forward"].append(f'iifname "{fault.host}" {loss}')
            if ways == "both":
                chains["forward"].append(f'oifname "{fault.host}" {loss}')
        elif fault.kind == "mute":
            # Before the switch learns from a frame at which port its sender is; in forward and input it has done so already.
            for what in (f"ether type {{ arp, {RARP} }}", "meta l4proto ipv6-icmp"):
                chains["prerouting"].append(f'iifname "{fault.host}" {what} counter drop')
    text = f"add table bridge {TABLE}\ndelete table bridge {TABLE}\n"
    if any(chains.values()):
        text += f"table bridge {TABLE} {{\n"
        for name, rules in chains.items():
            body = "".join(f"        {rule}\n" for rule in rules)
            text += f"    chain {name} {{\n        type filter hook {name} priority 0; policy accept;\n{body}    }}\n"
        text += "}\n"
    return text


def _cut(chains: dict[str, list[str]], sender: str, receiver: str, ports: str) -> None:
    """Drop what goes from one to the other: towards these ports, and answers from them."""
    if receiver == CONTROLLER:
        chain, match = "input", f'iifname "{sender}"'
    elif sender == CONTROLLER:
        chain, match = "output", f'oifname "{receiver}"'
    else:
        chain, match = "forward", f'iifname "{sender}" oifname "{receiver}"'
    if ports == "all":
        chains[chain].append(f"{match} counter drop")
        return
    numbers = ", ".join(PORTS[ports])
    chains[chain] += [
        f"{match} meta l4proto tcp tcp {side} {{ {numbers} }} counter drop" for side in ("dport", "sport")
    ]
