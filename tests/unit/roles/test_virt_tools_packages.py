# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which file of vars/ a role takes on which release: asked of the role's own task, with facts that were written down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ANSIBLE_PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
# As Ansible's setup reports them.
RELEASES = {
    "bookworm": ("Debian", "12.12", "12"),
    "trixie": ("Debian", "13.2", "13"),
    "jammy": ("Ubuntu", "22.04", "22"),
    "noble": ("Ubuntu", "24.04", "24"),
    "resolute": ("Ubuntu", "26.04", "26"),
    "fedora": ("Fedora", "43", "43"),
}


@pytest.fixture(name="tools", scope="module")
def fixture_tools(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[str]]]:
    """Release -> what virt_tools would install there, per role of the host."""
    folder = tmp_path_factory.mktemp("releases")
    words = ("distribution", "distribution_version", "distribution_major_version")
    hosts = {
        name: {
            "ansible_connection": "local",
            "facts": {f"ansible_{word}": value for word, value in zip(words, values, strict=True)},
        }
        for name, values in RELEASES.items()
    }
    (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    tasks = [
        # cacheable: as if setup had found them.
        {
            "ansible.builtin.set_fact": {f"ansible_{word}": "{{ facts.ansible_%s }}" % word for word in words}
            | {"cacheable": True}
        },
        {"ansible.builtin.include_role": {"name": "kvmops.fleet.virt_tools", "tasks_from": "release"}},
        {"name": "found", "ansible.builtin.debug": {"msg": "{{ __virt_tools_packages }}"}},
    ]
    (folder / "book.json").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    environment = dict(
        os.environ,
        ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"),
        ANSIBLE_STDOUT_CALLBACK="ansible.posix.json",
    )
    done = subprocess.run(
        [str(ANSIBLE_PLAYBOOK), "-i", str(folder / "hosts.json"), str(folder / "book.json")],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    told = json.loads(done.stdout[done.stdout.index("{\n") :])
    found = next(task for task in told["plays"][0]["tasks"] if task["task"]["name"] == "found")
    return {name: result["msg"] for name, result in found["hosts"].items()}


def test_every_release_has_both_lists_and_others_none(tools):
    for name, packages in tools.items():
        assert set(packages) == {"workstation", "conversion"}
        assert all(packages.values()) == (name != "fedora"), name


@pytest.mark.parametrize(
    ("package", "releases"),
    [
        ("virtinst", {"bookworm", "jammy", "noble"}),
        ("virt-install", {"trixie", "resolute"}),
        ("libguestfs-tools", {"bookworm", "jammy", "noble"}),
        ("guestfish", {"trixie", "resolute"}),
        ("dconf-cli", {"bookworm", "trixie", "jammy", "noble", "resolute"}),
        ("nbdkit", {"bookworm", "trixie", "jammy", "noble", "resolute"}),
    ],
)
def test_names_that_differ(tools, package, releases):
    assert {name for name, lists in tools.items() if package in lists["workstation"] + lists["conversion"]} == releases
