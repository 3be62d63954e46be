"""Namespaces, the lab's switch, links and their rate."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from kvmlab.paths import LabPaths
from kvmlab.run import run
from kvmlab.shape import NETWORK, PREFIX, Host

SWITCH = "switch"
CONTROLLER = f"{NETWORK}.1"
OUTSIDER = "outsider"
NETNS_DIR = Path("/run/netns")


def lab_netns(name: str) -> str:
    """Namespace of the switch; the controller's end of the lab."""
    return f"kvmlab-{name}"


def host_netns(name: str, host: str) -> str:
    """Namespace a host lives in."""
    return f"kvmlab-{name}.{host}"


def create_switch(paths: LabPaths) -> None:
    """The lab's own namespace with a bridge; nothing leads out of it."""
    netns = lab_netns(paths.name)
    run(["ip", "netns", "add", netns])
    ip = ["ip", "-n", netns]
    run([*ip, "link", "set", "lo", "up"])
    run([*ip, "link", "add", SWITCH, "type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0"])
    run([*ip, "addr", "add", f"{CONTROLLER}/{PREFIX}", "dev", SWITCH])
    run([*ip, "link", "set", SWITCH, "up"])


def connect(name: str, host: Host, rate: str) -> None:
    """A namespace for the host and its cable: `host0` inside, a port named after the host on the switch."""
    netns, lab = host_netns(name, host.name), lab_netns(name)
    run(["ip", "netns", "add", netns])
    run(["ip", "link", "add", "host0", "netns", netns, "type", "veth", "peer", "name", host.name, "netns", lab])
    run(["ip", "-n", netns, "link", "set", "lo", "up"])
    run(["ip", "-n", lab, "link", "set", host.name, "master", SWITCH, "up"])
    set_rate(name, host.name, rate)


def disconnect(name: str, host: str) -> None:
    """Remove the host's namespace, and with it cable, bridge and taps."""
    if (NETNS_DIR / host_netns(name, host)).exists():
        run(["ip", "netns", "del", host_netns(name, host)])
    # The namespace lives on for as long as a dying process holds it; the cable must go at once.
    run(["ip", "-n", lab_netns(name), "link", "del", host], check=False)


def plug_in(name: str, port: str) -> None:
    """A port of the switch for a machine's card."""
    ip = ["ip", "-n", lab_netns(name)]
    unplug(name, port)
    run([*ip, "tuntap", "add", "dev", port, "mode", "tap"])
    run([*ip, "link", "set", port, "master", SWITCH, "up"])


def unplug(name: str, port: str) -> None:
    """Remove the port, if it is there."""
    run(["ip", "-n", lab_netns(name), "link", "del", port], check=False)


def set_rate(name: str, host: str, rate: str) -> None:
    """Limit both directions of a host's link: at the switch's port towards it, at host0 away from it.

    An empty rate takes the limit away.
    """
    for netns, device in ((lab_netns(name), host), (host_netns(name, host), "host0")):
        tc = ["tc", "-n", netns, "qdisc"]
        if rate:
            # 256 KiB: a burst smaller than a segmentation-offloaded packet would hold back every one of them.
            run([*tc, "replace", "dev", device, "root", "tbf", "rate", rate, "burst", "256kb", "latency", "50ms"])
        else:
            run([*tc, "del", "dev", device, "root"], check=False)


def remove_switch(name: str) -> None:
    """Remove every namespace of the lab."""
    for path in sorted(NETNS_DIR.glob(f"{lab_netns(name)}.*")):
        run(["ip", "netns", "del", path.name])
    if (NETNS_DIR / lab_netns(name)).exists():
        run(["ip", "netns", "del", lab_netns(name)])


@contextlib.contextmanager
def outsider(name: str, addresses: list[str]) -> Iterator[list[str]]:
    """A machine on the switch that is nobody's peer, for as long as it is needed. Gives how to start a command on it."""
    netns, lab = host_netns(name, OUTSIDER), lab_netns(name)
    run(["ip", "netns", "add", netns])
    try:
        run(["ip", "link", "add", "host0", "netns", netns, "type", "veth", "peer", "name", OUTSIDER, "netns", lab])
        run(["ip", "-n", lab, "link", "set", OUTSIDER, "master", SWITCH, "up"])
        for address in addresses:
            # nodad: an address that is still being checked cannot be used yet.
            nodad = ["nodad"] if ":" in address else []
            run(["ip", "-n", netns, "addr", "add", address, "dev", "host0", *nodad])
        for device in ("lo", "host0"):
            run(["ip", "-n", netns, "link", "set", device, "up"])
        yield ["ip", "netns", "exec", netns]
    finally:
        disconnect(name, OUTSIDER)


def port_open(name: str, address: str, port: int) -> bool:
    """Whether something listens there, asked from the controller's end."""
    words = ["ip", "netns", "exec", lab_netns(name), "nc", "-z", "-w", "1", address, str(port)]
    return run(words, check=False).returncode == 0
