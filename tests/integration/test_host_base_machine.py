# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role host_base on a machine with a kernel of its own: the firewall is there before anybody can come, ufw and nftables."""

from __future__ import annotations

import json
import subprocess
from typing import Any, Dict, Iterator, List

import pytest

from .doors import probe, reached
from .fleet import LAB, ROOT, Lab, until

pytestmark = pytest.mark.machine

NAME = "firewall"
TOOLS = {"fw1": "ufw", "fw2": "nftables"}
RELEASES = {"fw1": "bookworm", "fw2": "trixie"}
PORTS = (22, 8080, 16514)
SERVE = """
printf '[Service]\\nExecStart=/usr/bin/python3 -m http.server --bind :: %d\\n[Install]\\nWantedBy=multi-user.target\\n' \
  > /etc/systemd/system/serve%d.service
systemctl enable --now serve%d
"""


@pytest.fixture(name="lab", scope="module")
def fixture_lab() -> Iterator[Lab]:
    subprocess.run([str(LAB), "up", "--name", NAME, "--hosts", "0"], check=True, stdin=subprocess.DEVNULL)
    lab = Lab(NAME, ROOT / ".lab" / NAME / "inventory.yml")
    try:
        for machine, tool in TOOLS.items():
            words = ("--os", RELEASES[machine], "--packages", tool, "--memory-mib", "512")
            lab.lab("machine", "start", machine, *words)
            for port in (8080, 16514):
                lab.sh(machine, "sh", "-ec", SERVE % (port, port, port))
        yield lab
    finally:
        subprocess.run([str(LAB), "down", "--name", NAME], check=True, stdin=subprocess.DEVNULL)


def addresses(lab: Lab) -> List[str]:
    words = [str(ROOT / ".venv/bin/ansible-inventory"), "-i", str(lab.inventory), "--list"]
    told = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return [told["_meta"]["hostvars"][machine]["ansible_host"] for machine in TOOLS]


def roll(lab: Lab, *argv: str) -> Dict[str, int]:
    """The role on both machines; what changed on each."""
    book = lab.inventory.parent / "firewall-book.json"
    plain: Dict[str, Any] = {
        "hosts": "machines",
        "become": True,
        "gather_subset": ["!all", "!min", "distribution", "ssh_pub_keys"],
        "roles": ["kvmops.fleet.host_base"],
        "vars": {
            "host_base_hosts_group": "machines",
            "host_base_mesh": False,
            "host_base_firewall_tool": "{{ %r[inventory_hostname] }}" % TOOLS,
        },
    }
    book.write_text(json.dumps([plain]), encoding="utf-8")
    told = lab.playbook(str(book), *argv, timeout_s=600)
    return {machine: told["stats"][machine]["changed"] for machine in TOOLS}


def test_strangers_stay_outside_and_still_do_after_a_restart(lab: Lab) -> None:
    first, second = addresses(lab)
    ask = probe(PORTS, first, second, timeout_s=2)
    stranger = ("outsider", "--address", "10.77.0.250/24", "--", *ask)
    until(lambda: reached(lab.lab(*stranger)) == {first: list(PORTS), second: list(PORTS)}, 60, "all ports are open")

    assert min(roll(lab).values()) > 0
    assert set(roll(lab).values()) == {0} and set(roll(lab, "--check").values()) == {0}
    for restarted in (False, True):
        if restarted:
            lab.lab("machine", "reboot", *TOOLS)
            until(
                lambda: "active" in lab.sh("fw2", "systemctl", "is-active", "serve16514", check=False), 120, "it serves"
            )
        assert reached(lab.lab(*stranger)) == {first: [], second: []}
        assert reached(lab.lab("ns", "--", *ask)) == {first: [22], second: [22]}
        assert reached(lab.sh("fw2", *probe(PORTS, first, timeout_s=2))) == {first: [22, 16514]}
        assert reached(lab.sh("fw1", *probe(PORTS, second, timeout_s=2))) == {second: [22, 16514]}
    assert "Status: active" in lab.sh("fw1", "ufw", "status")
    assert "kvmops_fleet" in lab.sh("fw2", "nft", "list", "tables")
    assert set(roll(lab).values()) == {0}
