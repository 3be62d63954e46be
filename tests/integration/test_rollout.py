# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kvmops.fleet.site on bare hosts: what a check run does and says, what the log holds, what a second run costs."""

from __future__ import annotations

import base64
import os
import re
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from .fleet import ANSIBLE_PLAYBOOK, LAB, ROOT, Lab

HOSTS = ("kvm1", "kvm2", "kvm3")
# Actions that never leave the controller.
LOCAL = {
    "assert",
    "debug",
    "fail",
    "include_tasks",
    "include_vars",
    "meta",
    "set_fact",
    "set_stats",
    "validate_argument_spec",
}
# Facts, and a look per role that has something to do; that of the hypervisor asks libvirt too.
ROUND_TRIPS = 3
# What any command over ssh leaves, what time leaves, and apt's index of its own lists.
NOT_OURS = r"^/(root/\.ansible|var/log|var/lib/systemd|var/cache/apt/(src)?pkgcache\.bin)(/|$)"


@pytest.fixture(name="bare", scope="module")
def fixture_bare() -> Iterator[Lab]:
    name = "rollout"
    words = ["--bare", "--name", name, "--hosts", "3", "--os", "bookworm,bookworm,trixie"]
    subprocess.run([str(LAB), "up", *words], check=True, stdin=subprocess.DEVNULL)
    yield Lab(name=name, inventory=Path(ROOT) / ".lab" / name / "inventory.yml")
    subprocess.run([str(LAB), "down", "--name", name], check=True, stdin=subprocess.DEVNULL)


def written(lab: Lab, host: str, since: str) -> List[str]:
    """Files, folders and links on the host's own disk that changed after that moment."""
    found = lab.sh(host, "find", "/", "-xdev", "-newerct", "@" + since, "!", "-type", "d").split()
    return [path for path in found if not re.search(NOT_OURS, path)]


def round_trips(told: Dict[str, Any], host: str) -> List[str]:
    """The tasks of a run that went to the host."""
    trips = []
    for play in told["plays"]:
        for task in play["tasks"]:
            result = task["hosts"].get(host, {"skipped": True})
            action = result.get("action", "").rpartition(".")[2]
            if not result.get("skipped") and action not in LOCAL:
                trips.append(task["task"]["name"])
    return trips


def test_a_check_run_on_bare_hosts_gets_to_its_end_says_what_would_change_and_touches_nothing(bare: Lab) -> None:
    since = {host: bare.sh(host, "date", "+%s.%N").strip() for host in HOSTS}
    told = bare.playbook("kvmops.fleet.site", "--check")
    assert told["rc"] == 0
    assert all(told["stats"][host]["changed"] >= 5 for host in HOSTS), told["stats"]
    assert {host: written(bare, host, since[host]) for host in HOSTS} == {host: [] for host in HOSTS}


def test_no_secret_is_in_the_most_talkative_output(bare: Lab) -> None:
    words = [str(ANSIBLE_PLAYBOOK), "-i", str(bare.inventory), "kvmops.fleet.site", "-vvv", "--diff"]
    environment = dict(os.environ, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), ANSIBLE_NOCOLOR="1")
    done = subprocess.run(
        words, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    log = done.stdout + done.stderr
    assert done.returncode == 0, log[-4000:]
    assert "PRIVATE KEY" not in log
    keys = [lines for host in HOSTS for lines in private_keys(bare.sh(host, "sh", "-c", READ_KEYS))]
    keys += private_keys("".join(path.read_text() for path in authority_keys(bare)))
    assert len(keys) > len(HOSTS), "the hosts have no private keys to look for"
    assert [line for lines in keys for line in lines if line in log] == []


READ_KEYS = "grep -rlsE 'BEGIN ([A-Z]+ )?PRIVATE KEY' /root/.ssh /etc/pki | sort -u | xargs cat"


def authority_keys(lab: Lab) -> List[Path]:
    """Private keys that the rollout made on the controller."""
    told = lab.inventory.read_text(encoding="utf-8")
    folders = [Path(found) for found in re.findall(r'hypervisor_tls_ca_dir: "?([^"\n]+)', told)]
    folders = folders or [lab.inventory.parent]
    return [
        path
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "PRIVATE KEY" in path.read_text(encoding="utf-8", errors="replace")
    ]


def private_keys(text: str) -> List[List[str]]:
    """The lines of each private key in PEM form, without its marks, and without those that hold its public half only."""
    found = re.findall(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\n.*?\n-----END [A-Z ]*PRIVATE KEY-----\n", text, re.S)
    return [secret_lines(key) for key in found]


def secret_lines(key: str) -> List[str]:
    read = load_ssh_private_key if "OPENSSH" in key else load_pem_private_key
    public = read(key.encode(), None).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    lines = [line for line in key.split("\n")[1:-2] if len(line) > 20]
    secret = [line for line in lines if base64.b64decode(line + "=" * (-len(line) % 4)) not in public]
    assert secret, "a key without a secret was found"
    return secret


def test_a_second_run_changes_nothing_and_costs_few_round_trips(bare: Lab) -> None:
    told = bare.playbook("kvmops.fleet.site")
    assert {host: told["stats"][host]["changed"] for host in HOSTS} == dict.fromkeys(HOSTS, 0)
    # The first host also carries what a play does once.
    trips = round_trips(told, "kvm2")
    assert len(trips) <= ROUND_TRIPS, trips
    in_check = bare.playbook("kvmops.fleet.site", "--check")
    assert {host: in_check["stats"][host]["changed"] for host in HOSTS} == dict.fromkeys(HOSTS, 0)
