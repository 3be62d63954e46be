# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role host_base on ready hosts of both releases: firewall, ssh gate, clock, and taking it all away again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from .doors import probe, reached
from .fleet import Lab, until

HOSTS = {"kvm1": "10.77.0.11", "kvm2": "10.77.0.12", "kvm3": "10.77.0.13"}
PORTS = (22, 111, 2049, 8080, 16514, 49152)
# Both releases, one address family each.
LOOKED_AT = {"kvm1": "10.77.0.11", "kvm3": "10.77.0.13"}

LISTEN = """
import select, socket
doors = []
for port in %r:
    for family in (socket.AF_INET, socket.AF_INET6):
        door = socket.socket(family)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            door.bind(("", port))
        except OSError:
            continue
        door.listen()
        doors.append(door)
while True:
    for door in select.select(doors, [], [])[0]:
        door.accept()[0].close()
"""


@pytest.fixture(name="base", scope="module")
def fixture_base(lab: Lab) -> Iterator[Lab]:
    """A lab whose hosts listen on every port that is asked about; rolled out with the defaults again afterwards."""
    for number, host in enumerate(HOSTS, start=1):
        lab.sh(host, "ip", "address", "replace", f"fd00:77::1{number}/64", "dev", "br0", "nodad")
        lab.sh(host, "systemd-run", "--quiet", "--unit=listen", "--collect", "python3", "-c", LISTEN % (PORTS,))
    yield lab
    play(lab)
    for number, host in enumerate(HOSTS, start=1):
        lab.sh(host, "systemctl", "stop", "listen", check=False)
        lab.sh(host, "ip", "address", "del", f"fd00:77::1{number}/64", "dev", "br0", check=False)


def play(lab: Lab, *argv: str, fails: bool = False, inventory: Any = None, **variables: Any) -> Dict[str, Any]:
    """Run the role on the hypervisors; what Ansible tells."""
    book = lab.inventory.parent / "host-base.json"
    gather = ["!all", "!min", "distribution", "ssh_pub_keys"]
    roles = {"hosts": "hypervisors", "gather_subset": gather, "roles": ["kvmops.fleet.host_base"]}
    book.write_text(json.dumps([roles]), encoding="utf-8")
    where = Lab(lab.name, inventory) if inventory else lab
    return where.playbook(str(book), "-e", json.dumps(variables), *argv, check=not fails, timeout_s=200)


def changed(told: Dict[str, Any]) -> Dict[str, int]:
    return {host: stats["changed"] for host, stats in told["stats"].items()}


def messages(told: Dict[str, Any]) -> str:
    return json.dumps([task["hosts"] for play in told["plays"] for task in play["tasks"]])


def outsider(lab: Lab, *addresses: str) -> Dict[str, List[int]]:
    """The ports that a machine reaches that is no peer."""
    where = ("--address", "10.77.0.250/24", "--address", "fd00:77::250/64")
    return reached(lab.lab("outsider", *where, "--", *probe(PORTS, *addresses)))


def assert_closed(lab: Lab) -> None:
    """Strangers reach nothing; peers what migration needs; the controller ssh."""
    strange = outsider(lab, *LOOKED_AT.values(), "fd00:77::11", "fd00:77::13")
    assert strange == {address: [] for address in strange}
    ask = probe(PORTS, *LOOKED_AT.values())
    assert reached(lab.sh("kvm2", *ask)) == {address: [22, 16514, 49152] for address in LOOKED_AT.values()}
    assert reached(lab.lab("ns", "--", *ask)) == {address: [22] for address in LOOKED_AT.values()}
    for address in LOOKED_AT.values():
        lab.sh("kvm2", "ping", "-c1", "-W2", address)


def test_peers_pass_and_strangers_do_not(base: Lab) -> None:
    assert_closed(base)
    told = play(base)
    assert set(changed(told).values()) == {0}
    assert "ssh is open to controller (10.77.0.1), peer kvm2" in messages(told)


def test_rules_flushed_or_edited_by_hand_are_repaired_and_others_stay(base: Lab) -> None:
    base.sh("kvm1", "nft", "flush", "chain", "inet", "kvmops_fleet", "input")
    base.sh("kvm3", "nft", "insert rule inet kvmops_fleet input accept")
    base.sh("kvm3", "nft", "add table inet mine; add chain inet mine c")
    assert outsider(base, "10.77.0.13") == {"10.77.0.13": list(PORTS)}
    told = play(base)
    assert {host for host, number in changed(told).items() if number} == {"kvm1", "kvm3"}
    assert_closed(base)
    assert set(changed(play(base)).values()) == {0}
    base.sh("kvm3", "nft", "delete", "table", "inet", "mine")


def test_a_power_cut_does_not_open_the_host(base: Lab) -> None:
    base.lab("fault", "power-off", "kvm1")
    base.lab("fault", "power-on", "kvm1")
    base.sh("kvm1", "systemd-run", "--quiet", "--unit=listen", "--collect", "python3", "-c", LISTEN % (PORTS,))
    base.sh("kvm1", "ip", "address", "replace", "fd00:77::11/64", "dev", "br0", "nodad")
    until(lambda: base.sh("kvm1", "nc", "-z", "127.0.0.1", "49152", check=False) is not None, 10, "listening")
    assert_closed(base)


def test_nftables_service_of_the_administrator_comes_first(base: Lab) -> None:
    """Debian's unit begins with an empty ruleset: ours has to be there whatever is done to it."""
    for act in ("start", "reload", "restart", "stop"):
        base.sh("kvm1", "systemctl", act, "nftables")
        assert "kvmops_fleet" in base.sh("kvm1", "nft", "list", "tables"), act
    base.sh("kvm1", "nft", "add table inet mine")
    base.sh("kvm1", "systemctl", "restart", "kvmops-firewall")
    assert "table inet mine" in base.sh("kvm1", "nft", "list", "tables")
    base.sh("kvm1", "nft", "delete", "table", "inet", "mine")


def test_a_change_that_locks_ansible_out_is_taken_back(base: Lab) -> None:
    before = base.sh("kvm3", "nft", "-s", "list", "table", "inet", "kvmops_fleet")
    private = {"__host_base_controllers": [], "host_base_firewall_confirm_s": 5}
    told = play(base, "--limit", "kvm3", fails=True, **private)
    assert told["rc"] != 0 and "took them back" in messages(told)
    assert base.sh("kvm3", "nft", "-s", "list", "table", "inet", "kvmops_fleet") == before
    assert set(changed(play(base)).values()) == {0}


def test_openings_that_are_declared_and_those_that_are_not(base: Lab) -> None:
    allow = [
        {"port": 8080, "from": ["10.77.0.250", "fd00:77::/64"]},
        {"port": "2049", "from": "peers"},
        {"port": 123, "proto": "udp", "from": "any"},
    ]
    extra = {"host_base_firewall_allow": allow, "host_base_firewall_admin_networks": ["fd00:77::/64"]}
    check = play(base, "--check", "--limit", "kvm1", **extra)
    assert changed(check)["kvm1"] > 0 and outsider(base, "10.77.0.11") == {"10.77.0.11": []}
    play(base, "--limit", "kvm1", **extra)
    assert outsider(base, "10.77.0.11", "fd00:77::11") == {"10.77.0.11": [8080], "fd00:77::11": [22, 8080, 16514]}
    assert reached(base.sh("kvm2", *probe(PORTS, "10.77.0.11"))) == {"10.77.0.11": [22, 2049, 16514, 49152]}
    play(base, "--limit", "kvm1")
    assert_closed(base)


def test_wrong_values_are_refused_all_at_once(base: Lab) -> None:
    wrong = {
        "host_base_firewall_admin_networks": ["10.0.0.0/33", "kvm9"],
        "host_base_firewall_allow": [{"port": "99999", "from": "any"}, {"port": 80, "from": "10.0.0.1; accept"}],
        "host_base_migration_address": "fd00::1::2",
        "host_base_mesh_image_dirs": ["/srv/../etc"],
    }
    told = play(base, fails=True, **wrong)
    said = messages(told)
    for word in ("10.0.0.0/33", "kvm9", "99999", "10.0.0.1; accept", "fd00::1::2", "/srv/../etc"):
        assert word in said, word
    assert set(changed(told).values()) == {0}


def ssh(lab: Lab, words: str, stdin: str = "") -> str:
    """What kvm2's root gets from kvm1: output, errors and exit code."""
    script = 'printf \'%s\' "$1" | ssh -o BatchMode=yes root@kvm1 "$2" 2>&1; echo "exit $?"'
    return lab.sh("kvm2", "sh", "-c", script, "sh", stdin, words)


def test_the_key_of_a_peer_opens_libvirt_and_images_only(base: Lab) -> None:
    for words in ("id", "dd of=/root/x", "sh -c 'virt-ssh-helper 'qemu:///system''; id", "python3 -c 'print(1)'", ""):
        said = ssh(base, words)
        assert "refused" in said and "exit 77" in said and "uid=" not in said, words
    assert "does not run commands; it sent 'dd of=/root/x'" in base.sh(
        "kvm1", "journalctl", "-t", "kvmops-ssh-gate", "-o", "cat", "--no-pager"
    )
    far = "python3 -c 'import os; os.mkdir(\"/root/hacked\")' kvmops-far-side 2"
    ask = '0\n{"do": "%s", "with": {"path": "%s"}}\n'
    assert "in no storage pool" in ssh(base, far, ask % ("digest", "/etc/shadow"))
    assert '"answer": {}' in ssh(base, far, ask % ("remove", "/var/lib/libvirt/images/nothing"))
    base.sh("kvm1", "test", "!", "-e", "/root/hacked")
    for uri in ("system", "system?proxy=netcat", "system?proxy=native"):
        assert base.virsh("kvm2", "-c", f"qemu+ssh://root@kvm1/{uri}", "hostname") == "kvm1"
    assert "qemu:///system only" in base.sh(
        "kvm2", "sh", "-c", "virsh -c qemu+ssh://root@kvm1/session hostname 2>&1 || true"
    )
    play(base, "--limit", "kvm1", host_base_mesh_image_dirs=["/srv/more"])
    assert "No such file" in ssh(base, far, ask % ("digest", "/srv/more/x"))


def without(lab: Lab, host: str) -> Path:
    """The lab's inventory as if the host had left."""
    lines = lab.inventory.read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.strip() == f"{host}:")
    depth = len(lines[start]) - len(lines[start].lstrip())
    end = start + 1
    while end < len(lines) and len(lines[end]) - len(lines[end].lstrip()) > depth:
        end += 1
    path = lab.inventory.parent / "without.yml"
    path.write_text("\n".join(lines[:start] + lines[end:]) + "\n", encoding="utf-8")
    return path


def test_who_left_is_forgotten_and_who_is_absent_keeps_nothing(base: Lab) -> None:
    play(base, inventory=without(base, "kvm2"))
    for host in LOOKED_AT:
        for file in ("/etc/hosts", "/root/.ssh/authorized_keys", "/etc/ssh/ssh_known_hosts", "/root/.ssh/config"):
            assert "kvm2" not in base.sh(host, "cat", file), (host, file)
        assert "10.77.0.12" not in base.sh(host, "nft", "list", "table", "inet", "kvmops_fleet")
    (base.inventory.parent / "host_vars").mkdir(exist_ok=True)
    variables = base.inventory.parent / "host_vars" / "kvm2.yml"
    variables.write_text("host_base_mesh_state: absent\n", encoding="utf-8")
    try:
        play(base)
        assert set(changed(play(base)).values()) == {0}
        assert "kvm2" not in base.sh("kvm1", "cat", "/root/.ssh/authorized_keys")
        left = base.sh("kvm2", "sh", "-c", "ls /root/.ssh/id_kvmops* /usr/local/lib/kvmops/ssh-gate 2>/dev/null; true")
        assert left == "" and "kvmops" not in base.sh("kvm2", "cat", "/root/.ssh/authorized_keys", "/root/.ssh/config")
    finally:
        variables.unlink()
    play(base)
    assert base.virsh("kvm2", "-c", "qemu+ssh://root@kvm3/system", "hostname") == "kvm3"


def test_the_clock_is_checked(base: Lab) -> None:
    said = messages(play(base, host_base_time_max_skew_s=-1))
    assert "the clock is not synchronised" in said and "ahead of the controller" in said and "differ by" in said
    assert "clock" not in messages(play(base, "--tags", "firewall", host_base_time="unmanaged"))


def test_the_clock_is_kept_by_chrony(base: Lab) -> None:
    """kvm3 asks kvm1. Both leave the clock itself alone (-x): it is this machine's."""
    for host in LOOKED_AT:
        base.sh(host, "sh", "-c", "echo 'DAEMON_OPTS=\"-F 1 -x\"' > /etc/default/chrony")
    base.sh(
        "kvm1",
        "sh",
        "-c",
        "mkdir -p /etc/chrony/conf.d; printf 'local stratum 8\\nallow\\n' > /etc/chrony/conf.d/lab.conf",
    )
    allow = [{"port": 123, "proto": "udp", "from": ["peers"]}]
    play(base, "--limit", "kvm1", host_base_time="managed", host_base_firewall_allow=allow)
    kept = {"host_base_time": "managed", "host_base_time_servers": ["10.77.0.11"]}
    play(base, "--limit", "kvm3", **kept)
    until(lambda: "Normal" in base.sh("kvm3", "chronyc", "-n", "tracking", check=False), 30, "kvm3 has the time")
    again = play(base, "--limit", "kvm3", **kept)
    assert changed(again)["kvm3"] == 0 and "WARNING" not in messages(again)
    assert "10.77.0.11" in base.sh("kvm3", "chronyc", "-n", "sources")
    for host in LOOKED_AT:
        base.sh(host, "apt-get", "purge", "--yes", "-qq", "chrony")
    play(base)


def test_ufw_does_the_same(base: Lab) -> None:
    """On both releases, from nftables and back; the administrator's own rule stays throughout."""
    hosts = ("--limit", "kvm1,kvm3")
    play(base, *hosts, host_base_firewall_tool="ufw")
    assert_closed(base)
    assert "kvmops_fleet" not in base.sh("kvm1", "nft", "list", "tables")
    assert set(changed(play(base, *hosts)).values()) == {0}, "auto stays with ufw where ufw is on"
    for host in LOOKED_AT:
        base.sh(host, "ufw", "allow", "from", "10.77.0.250", "to", "any", "port", "8080", "proto", "tcp")
        base.sh(host, "ip6tables", "-F", "ufw6-user-input")
    told = play(base, *hosts, inventory=without(base, "kvm2"))
    assert min(changed(told).values()) > 0
    for host, address in LOOKED_AT.items():
        assert "10.77.0.12" not in base.sh(host, "ufw", "status")
        assert outsider(base, address) == {address: [8080]}
    play(base, *hosts)
    assert reached(base.sh("kvm2", *probe(PORTS, "10.77.0.13")))["10.77.0.13"] == [22, 16514, 49152]
    refused = play(base, *hosts, fails=True, host_base_firewall_tool="nftables")
    assert "ufw is on" in messages(refused) and set(changed(refused).values()) == {0}
    for host in LOOKED_AT:
        base.sh(host, "ufw", "disable")
    play(base, *hosts)
    for host in LOOKED_AT:
        assert "kvmops" not in base.sh(host, "cat", "/etc/ufw/user.rules")
        assert "10.77.0.250" in base.sh(host, "cat", "/etc/ufw/user.rules")
        base.sh(host, "apt-get", "purge", "--yes", "-qq", "ufw")
    assert_closed(base)


def test_unmanaged_touches_nothing_and_disabled_warns(base: Lab) -> None:
    base.sh("kvm1", "nft", "flush", "chain", "inet", "kvmops_fleet", "input")
    assert set(changed(play(base, "--limit", "kvm1", host_base_firewall="unmanaged")).values()) == {0}
    assert "dport" not in base.sh("kvm1", "nft", "list", "table", "inet", "kvmops_fleet")
    told = play(base, "--limit", "kvm1", host_base_firewall="disabled")
    assert changed(told)["kvm1"] == 1 and "WARNING the firewall is switched off" in messages(told)
    assert outsider(base, "10.77.0.11") == {"10.77.0.11": list(PORTS)}
    assert "kvmops" not in base.sh("kvm1", "systemctl", "cat", "nftables.service")
    again = play(base, "--limit", "kvm1", host_base_firewall="disabled")
    assert changed(again)["kvm1"] == 0 and "WARNING the firewall is switched off" in messages(again)
    play(base, "--limit", "kvm1")
    assert_closed(base)
