# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role host_network on hosts whose one cable carries the address that Ansible uses.

Short part: two bare hosts, one run by systemd-networkd and one by ifupdown. Marked `machine`: machines with kernels of their
own, run by networkd, netplan and ifupdown, with VLANs and restarts, which hosts of the lab cannot have.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence

import pytest

from .fleet import LAB, ROOT, Lab, until

NETWORKD, IFUPDOWN = "kvm1", "kvm2"
ADDRESS = {"kvm1": "10.77.0.11", "kvm2": "10.77.0.12"}
BOTH = "kvm1,kvm2"
# A wrong prefix: the address is there, and the way back is not.
WRONG = [{"name": "br0", "interface": "host0", "addresses": ["{{ ansible_host }}/32"]}]
# As a guest's tap would: a device of a namespace, with an address of its own.
GUEST = """
ip netns add guest
ip link add tap0 type veth peer name eth0 netns guest
ip link set tap0 master br0 up
ip -n guest address add 10.77.0.{0}/24 dev eth0
ip -n guest link set eth0 up
"""
MACHINES = {"nd1": "networkd", "np1": "netplan", "if1": "ifupdown"}
# What the distribution's installers leave, with a route, IPv6 and a name server besides.
BY_NETWORKD = """
cat > /etc/systemd/network/20-wired.network <<EOF
[Match]
Name={card}*

[Network]
Address={address}/24
Address=fd77::{number}/64
DNS=10.77.0.1
IPv6AcceptRA=no

[Route]
Destination=198.51.100.0/24
Gateway=10.77.0.1
EOF
"""
BY_IFUPDOWN = """
cat > /etc/network/interfaces <<EOF
# The loopback network interface
auto lo
iface lo inet loopback

# The primary network interface
auto {card}
iface {card} inet static
    address {address}/24
    up ip route add 198.51.100.0/24 via 10.77.0.1 dev {card}
iface {card} inet6 static
    address fd77::{number}/64
EOF
rm -f /etc/systemd/network/* /etc/network/interfaces.d/*
systemctl -q disable --now systemd-networkd.socket systemd-networkd.service
systemctl -q enable networking.service
"""
BY_NETPLAN = """
install -m 600 /dev/stdin /etc/netplan/50-cloud-init.yaml <<EOF
network:
  version: 2
  ethernets:
    primary:
      match: {{macaddress: "$(cat /sys/class/net/{card}/address)"}}
      set-name: {card}
      addresses: [{address}/24, "fd77::{number}/64"]
      nameservers: {{addresses: [10.77.0.1]}}
      accept-ra: false
      routes: [{{to: 198.51.100.0/24, via: 10.77.0.1}}]
EOF
rm -f /etc/systemd/network/*
"""
ALL = ",".join(MACHINES)
# An emulated machine needs a minute to start Python when all of them do at once.
SLOW_S = 300
# A second card whose cable leads to a DHCP server.
DHCP = """
apt-get -q update
apt-get -qy install --no-install-recommends dnsmasq-base
ip netns add far
ip link add nic1 type veth peer name eth0 netns far
ip -n far address add 10.99.0.1/24 dev eth0
ip -n far link set eth0 up
nsenter --net=/run/netns/far dnsmasq --conf-file=/dev/null --port=0 --interface=eth0 --bind-interfaces \\
  --dhcp-range=10.99.0.50,10.99.0.99,1h --dhcp-option=3 --dhcp-leasefile=/run/far.leases --pid-file=/run/far.pid
printf '[Match]\nName=nic1\n[Network]\nDHCP=ipv4\n' > /etc/systemd/network/30-nic1.network
networkctl reload
ip link set nic1 up
"""
SETTINGS = {"networkd": BY_NETWORKD, "ifupdown": BY_IFUPDOWN, "netplan": BY_NETPLAN}


def roll_out(
    lab: Lab, hosts: str, bridges: Sequence[Mapping[str, Any]], *argv: str, confirm_s: int = 60
) -> Dict[str, Any]:
    """The role alone; what Ansible tells of it, also when it fails."""
    book = lab.inventory.parent / ("network-%s.json" % hosts.replace(",", "-"))
    role = {"role": "kvmops.fleet.host_network", "host_network_bridges": bridges, "host_network_confirm_s": confirm_s}
    book.write_text(json.dumps([{"hosts": hosts, "gather_facts": False, "roles": [role]}]), encoding="utf-8")
    return lab.playbook(str(book), *argv, check=False)


def changed(told: Dict[str, Any]) -> Dict[str, int]:
    failed = {host: stats for host, stats in told["stats"].items() if stats["failures"] or stats["unreachable"]}
    assert not failed, said(told)
    return {host: stats["changed"] for host, stats in told["stats"].items()}


def said(told: Dict[str, Any], *hosts: str) -> str:
    """Every message of the run, or those of some hosts."""
    tasks = [task["hosts"] for play in told["plays"] for task in play["tasks"]]
    results = [result for task in tasks for host, result in task.items() if host in (hosts or task)]
    return "\n".join(str(result.get("msg", "")) for result in results)


def addresses(lab: Lab, host: str, device: str) -> List[str]:
    shown = json.loads(lab.sh(host, "ip", "-json", "address", "show", "dev", device))
    return ["%(local)s/%(prefixlen)s" % one for one in shown[0]["addr_info"] if one["scope"] == "global"]


def state_of(lab: Lab, host: str) -> str:
    """Everything a rollback has to bring back."""
    script = (
        "for f in $(find /etc/systemd/network /etc/network /etc/netplan /etc/systemd/system -type f -o -type l | sort); do"
        " echo $f $(sha256sum < $f); done; ip -json address; ip route; ip -6 route show proto static"
    )
    # Counters of time and of index are no part of it.
    return re.sub(
        r'"(valid_life_time|preferred_life_time|ifindex|link_index)":\d+,?|expires \d+sec',
        "",
        lab.sh(host, "sh", "-c", script),
    )


def guest_answers(lab: Lab, number: int) -> bool:
    return "is alive" in lab.lab("ns", "--", "fping", "-r", "0", "10.77.0.%d" % number, check=False)


def is_back(lab: Lab, host: str, before: str) -> None:
    """IPv6 addresses take a second until they are no longer tentative."""
    until(lambda: state_of(lab, host) == before, 15, "%s is as it was:\n%s" % (host, before))


def is_applied(lab: Lab, host: str) -> bool:
    """Whether the host runs its new network, unconfirmed."""
    return '"applied"' in lab.sh(host, "cat", "/var/lib/kvmops/host_network/state.json")


def moved(lab: Lab, host: str, card: str, address: str, same_mac: bool = True) -> None:
    """An outsider's look: the bridge has what the card had."""
    number = address.rsplit(".", 1)[1]
    assert sorted(addresses(lab, host, "br0")) == ["%s/24" % address, "fd77::%s/64" % number]
    assert addresses(lab, host, card) == []
    shown = lab.sh(host, "cat", "/sys/class/net/br0/address", "/sys/class/net/%s/address" % card).split()
    assert shown[0] == shown[1] or not same_mac
    assert "dev br0" in lab.sh(host, "ip", "route", "get", "198.51.100.7")
    assert lab.sh(host, "ls", "/sys/class/net/br0/brif").split() == [card]
    assert "kvmops-host-network" not in lab.sh(host, "systemctl", "list-units", "--all", "--no-legend", "--plain")


@pytest.fixture(name="bare", scope="module")
def fixture_bare() -> Iterator[Lab]:
    """Hosts without the lab's own bridge."""
    name = "bridges"
    subprocess.run(
        [str(LAB), "up", "--bare", "--name", name, "--hosts", "2", "--os", "bookworm,trixie"],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    lab = Lab(name, Path(ROOT) / ".lab" / name / "inventory.yml")
    again = "ip link delete br0; ip address flush dev host0; "
    install = "apt-get -q update && apt-get -qy install --no-install-recommends ifupdown sudo"
    settings = "rm -f /etc/systemd/network/*; " + BY_NETWORKD.format(card="host", address=ADDRESS[NETWORKD], number=11)
    lab.sh(NETWORKD, "sh", "-ec", settings + again + "networkctl reload; networkctl reconfigure host0")
    lab.sh(IFUPDOWN, "sh", "-ec", install)
    settings = BY_IFUPDOWN.format(card="host0", address=ADDRESS[IFUPDOWN], number=12)
    lab.sh(IFUPDOWN, "sh", "-ec", settings + again + "ifup host0")
    # The cable's device has another MAC address than the lab's bridge had.
    lab.lab("ns", "--", "ip", "neigh", "flush", "all")
    yield lab
    subprocess.run([str(LAB), "down", "--name", name], check=True, stdin=subprocess.DEVNULL)


def test_the_address_moves_to_the_bridge(bare: Lab) -> None:
    bridges: List[Dict[str, Any]] = [
        {"name": "br0", "interface": "host0"},
        {"name": "brint", "addresses": ["192.168.55.1/24", "fd55::1/64"]},
    ]
    before = {host: state_of(bare, host) for host in ADDRESS}
    told = roll_out(bare, BOTH, bridges, "--check", "--diff")
    assert all(changed(told).values())
    for host, address in ADDRESS.items():
        assert "address %s/24 moves from host0 to br0" % address in said(told)
        assert state_of(bare, host) == before[host]

    assert all(changed(roll_out(bare, BOTH, bridges)).values())
    for host, address in ADDRESS.items():
        moved(bare, host, "host0", address)
        assert sorted(addresses(bare, host, "brint")) == ["192.168.55.1/24", "fd55::1/64"]
        # The lab's kernel has the module loaded; frames of guests pass the firewall no more.
        values = bare.sh(host, "sh", "-c", "cat /proc/sys/net/bridge/bridge-nf-call-* 2> /dev/null || true").split()
        assert set(values) <= {"0"}

    again = roll_out(bare, BOTH, bridges)
    assert set(changed(again).values()) == {0}
    done = [
        task["task"]["name"]
        for play in again["plays"]
        for task in play["tasks"]
        if not all(result.get("skipped") for result in task["hosts"].values())
    ]
    assert len(done) <= 3, done
    assert set(changed(roll_out(bare, BOTH, bridges, "--check")).values()) == {0}

    # Somebody deletes a bridge, somebody wants larger packets in another: done, and who is in it stays in it.
    for number, host in enumerate(ADDRESS, 150):
        bare.sh(host, "ip", "link", "delete", "brint")
        bare.sh(host, "sh", "-ec", GUEST.format(number))
        until(partial(guest_answers, bare, number), 10, "the guest answers")
    bridges[0]["mtu"] = 1400
    assert all(changed(roll_out(bare, BOTH, bridges)).values())
    for number, (host, address) in enumerate(ADDRESS.items(), 150):
        assert sorted(addresses(bare, host, "brint")) == ["192.168.55.1/24", "fd55::1/64"]
        assert bare.sh(host, "cat", "/sys/class/net/br0/mtu", "/sys/class/net/host0/mtu").split() == ["1400", "1400"]
        until(partial(guest_answers, bare, number), 10, "the guest still answers")
        bare.sh(host, "ip", "netns", "delete", "guest")
        until(lambda on=host: "tap0" not in bare.sh(on, "ls", "/sys/class/net"), 10, "the guest is gone")
        moved(bare, host, "host0", address)


def test_a_network_that_cuts_ansible_off_is_taken_back(bare: Lab) -> None:
    """A wrong prefix: the address is there, and the way back is not."""
    before = {host: state_of(bare, host) for host in ADDRESS}
    started = time.monotonic()
    told = roll_out(bare, BOTH, WRONG, confirm_s=10)
    assert time.monotonic() - started < 90
    assert said(told).count("has its old network again. nobody reached the host within 10 s") == len(ADDRESS)
    assert said(told).count("taking the change back") >= len(ADDRESS)
    for host in ADDRESS:
        assert told["stats"][host]["failures"] == 1
        is_back(bare, host, before[host])


def test_a_change_that_fails_is_taken_back_at_once(bare: Lab) -> None:
    """ifup runs what the administrator wrote, and that fails; a bridge that was there is there again."""
    before = state_of(bare, IFUPDOWN)
    hook = "/etc/network/if-pre-up.d/broken"
    bare.sh(IFUPDOWN, "sh", "-c", "printf '#!/bin/sh\\ntest $IFACE != brnew\\n' > %s; chmod 755 %s" % (hook, hook))
    told = roll_out(bare, IFUPDOWN, [{"name": "brnew"}])
    bare.sh(IFUPDOWN, "rm", hook)
    assert told["stats"][IFUPDOWN]["failures"] == 1 and "the change failed: ifup --force brnew" in said(told)
    is_back(bare, IFUPDOWN, before)


def test_a_host_that_restarts_in_the_middle_has_its_old_network(bare: Lab) -> None:
    files = "find /etc/systemd/network /etc/network /etc/systemd/system -type f -exec sha256sum {} + | sort"
    before = {host: bare.sh(host, "sh", "-c", files) for host in ADDRESS}
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(roll_out, bare, BOTH, WRONG)
        for host, address in ADDRESS.items():
            until(partial(is_applied, bare, host), 60, "the wrong network is there")
            assert addresses(bare, host, "br0") == ["%s/32" % address]
        for host in ADDRESS:
            bare.lab("fault", "power-off", host)
        for host in ADDRESS:
            bare.lab("fault", "power-on", host)
        told = run.result()
    for host, address in ADDRESS.items():
        assert "the host restarted before the change was confirmed" in said(told, host)
        assert told["stats"][host]["failures"] == 1
        assert bare.sh(host, "sh", "-c", files) == before[host]
        # The lab gives a host another cable when it comes back.
        moved(bare, host, "host0", address, same_mac=False)


def test_refusals_change_nothing(bare: Lab) -> None:
    before = state_of(bare, NETWORKD)
    bad = [
        {"name": "br1", "interface": "eth9"},
        {"name": "br1", "interface": "host0"},
        {"name": "br2", "vlan": {"interface": "host0", "id": 5000}},
        {"name": "host0"},
    ]
    told = roll_out(bare, NETWORKD, bad)
    assert told["stats"][NETWORKD]["failures"] == 1 and told["stats"][NETWORKD]["changed"] == 0
    for words in (
        "no interface eth9",
        "the name br1",
        "already part of br0",
        "vlan.id 5000",
        "host0 exists and is no bridge",
    ):
        assert words in said(told)
    assert state_of(bare, NETWORKD) == before

    # By sudo, which hides where Ansible came from.
    away = [{"name": "br0", "interface": "host0", "addresses": ["10.77.0.99/24"]}]
    told = roll_out(bare, IFUPDOWN, away, "-e", "ansible_become=true")
    assert "Ansible came by 10.77.0.12, which is on br0" in said(told)
    assert told["stats"][IFUPDOWN]["changed"] == 0


def test_the_dhcp_server_gives_the_bridge_the_same_address(bare: Lab) -> None:
    """Last, because of the card that it adds."""
    bare.sh(NETWORKD, "sh", "-ec", DHCP)
    (lease,) = until(lambda: addresses(bare, NETWORKD, "nic1"), 20, "nic1 has an address")
    told = roll_out(bare, NETWORKD, [{"name": "brd", "interface": "nic1"}])
    assert changed(told)[NETWORKD] and "address %s moves from nic1 to brd" % lease in said(told)
    assert until(lambda: addresses(bare, NETWORKD, "brd"), 20, "brd has an address") == [lease]
    assert len(bare.sh(NETWORKD, "cat", "/run/far.leases").splitlines()) == 1
    assert changed(roll_out(bare, NETWORKD, [{"name": "brd", "interface": "nic1"}])) == {NETWORKD: 0}
    bare.sh(NETWORKD, "sh", "-c", "kill $(cat /run/far.pid); ip netns delete far")


@pytest.fixture(name="machines", scope="module")
def fixture_machines() -> Iterator[Lab]:
    name = "bridges-machines"
    packages = "netplan.io,ifupdown"
    subprocess.run([str(LAB), "up", "--name", name, "--hosts", "0"], check=True, stdin=subprocess.DEVNULL)
    lab = Lab(name, Path(ROOT) / ".lab" / name / "inventory.yml")
    lab_start = [str(LAB), "machine", "start", *MACHINES, "--name", name, "--packages", packages, "--memory-mib", "768"]
    subprocess.run(lab_start, check=True, stdin=subprocess.DEVNULL)
    try:
        for machine, backend in MACHINES.items():
            card, address = card_of(lab, machine)
            settings = SETTINGS[backend].format(card=card, address=address, number=address.rsplit(".", 1)[1])
            clean = "rm -f /etc/systemd/network/*; mkdir -p /etc/netplan; : > /etc/network/interfaces; "
            lab.sh(machine, "sh", "-ec", clean + settings)
        reboot(lab)
        yield lab
    finally:
        subprocess.run([str(LAB), "down", "--name", name], check=True, stdin=subprocess.DEVNULL)


def card_of(lab: Lab, machine: str) -> tuple[str, str]:
    """The only card, and its IPv4 address."""
    for link in json.loads(lab.sh(machine, "ip", "-json", "-4", "address")):
        for one in link["addr_info"]:
            if one["local"].startswith("10.77.0."):
                return str(link["ifname"]), str(one["local"])
    raise AssertionError("%s has no address" % machine)


def reboot(lab: Lab) -> None:
    subprocess.run([str(LAB), "machine", "reboot", *MACHINES, "--name", lab.name], check=True, stdin=subprocess.DEVNULL)


@pytest.mark.machine
def test_bridges_on_machines_survive_a_restart(machines: Lab) -> None:
    found = {machine: card_of(machines, machine) for machine in MACHINES}
    (card,) = {card for card, _address in found.values()}
    bridges = [
        {"name": "br0", "interface": card},
        {
            "name": "br20",
            "vlan": {"interface": card, "id": 20},
            "addresses": ["10.20.0.{{ ansible_host.split('.')[3] }}/24"],
            "mtu": 1400,
        },
        {"name": "br30", "vlan": {"interface": card, "id": 30, "name": "storage"}, "stp": True},
        {"name": "brint", "addresses": ["192.168.55.1/24", "fd55::1/64"]},
    ]
    told = roll_out(machines, ALL, bridges, confirm_s=SLOW_S)
    assert all(changed(told).values())
    for backend in MACHINES.values():
        assert "'by %s'" % backend in said(told)
    assert set(changed(roll_out(machines, ALL, bridges, confirm_s=SLOW_S)).values()) == {0}
    for restarted in (False, True):
        if restarted:
            reboot(machines)
        for machine, (_card, address) in found.items():
            moved(machines, machine, card, address)
            assert addresses(machines, machine, "br20") == ["10.20.0.%s/24" % address.rsplit(".", 1)[1]]
            assert sorted(addresses(machines, machine, "brint")) == ["192.168.55.1/24", "fd55::1/64"]
            shown = "cat /sys/class/net/br30/bridge/stp_state /sys/class/net/br20/mtu /sys/class/net/%s/mtu" % card
            assert machines.sh(machine, "sh", "-c", shown).split() == ["1", "1400", "1500"]
            assert machines.sh(machine, "ls", "/sys/class/net/br20/brif", "/sys/class/net/br30/brif").split()[1::2] == [
                "%s.20" % card,
                "storage",
            ]
            # VLAN 20 is one network: the machines reach each other in it.
            for _other, neighbour in found.values():
                number = neighbour.rsplit(".", 1)[1]
                machines.sh(machine, "ping", "-c", "3", "-W", "5", "10.20.0.%s" % number)
    assert set(changed(roll_out(machines, ALL, bridges, confirm_s=SLOW_S)).values()) == {0}


@pytest.mark.machine
def test_a_wrong_vlan_on_a_machine_is_taken_back(machines: Lab) -> None:
    """The address goes to a VLAN where nobody is."""
    before = {machine: state_of(machines, machine) for machine in MACHINES}
    (card,) = {machines.sh(machine, "ls", "/sys/class/net/br0/brif").strip() for machine in MACHINES}
    wrong = [
        {"name": "br0", "interface": card, "addresses": []},
        {"name": "brwrong", "vlan": {"interface": card, "id": 99}, "addresses": ["{{ ansible_host }}/24"]},
    ]
    told = roll_out(machines, ALL, wrong, confirm_s=20)
    assert said(told).count("has its old network again. nobody reached the host within 20 s") == len(MACHINES), said(
        told
    )
    for machine in MACHINES:
        assert told["stats"][machine]["failures"] == 1
        is_back(machines, machine, before[machine])
