# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The example site stays what the roles understand: every variable is declared, every value is of its kind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "inventory" / "example"
BIN = Path(sys.executable).parent


def ansible(command: str, *argv: object) -> str:
    """Run one of Ansible's commands; its output."""
    words = [str(BIN / command), *(str(word) for word in argv)]
    environment = dict(os.environ, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"))
    done = subprocess.run(
        words, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def specs() -> dict[str, dict[str, object]]:
    """Role -> the options it declares."""
    found = {}
    for path in ROOT.glob("roles/*/meta/argument_specs.yml"):
        declared = yaml.safe_load(path.read_text(encoding="utf-8"))
        found[path.parents[1].name] = declared["argument_specs"]["main"]["options"]
    return found


def complaints(site: dict[str, object]) -> list[str]:
    """What the roles would not understand in an inventory, as ansible-inventory --list prints it."""
    roles, found = specs(), []
    for host, variables in site["_meta"]["hostvars"].items():
        ours = {name: value for name, value in variables.items() if not name.startswith("ansible_")}
        declared = {name for options in roles.values() for name in options}
        found += [f"{host}: no role declares {name}" for name in sorted(set(ours) - declared)]
        for options in roles.values():
            given = {name: value for name, value in ours.items() if name in options}
            found += [f"{host}: {message}" for message in ArgumentSpecValidator(options).validate(given).error_messages]
    return found


@pytest.fixture(name="site", scope="module")
def fixture_site() -> dict[str, object]:
    return json.loads(ansible("ansible-inventory", "-i", EXAMPLE, "--list"))


def test_four_hypervisors_one_file_server_one_desk(site):
    racks = [site[rack]["hosts"] for rack in site["hypervisors"]["children"]]
    assert sorted(host for hosts in racks for host in hosts) == ["kvm01", "kvm02", "kvm03", "kvm04"]
    assert site["nfs_servers"]["hosts"] == ["files01"]
    assert site["virt_tools"]["hosts"] == ["desk01"]


def test_every_variable_is_declared_and_of_its_kind(site):
    assert complaints(site) == []


def test_every_role_is_shown(site):
    used = {name for variables in site["_meta"]["hostvars"].values() for name in variables}
    assert [role for role, options in specs().items() if not used & set(options)] == []


def test_what_is_wrong_is_noticed(tmp_path):
    copy = shutil.copytree(EXAMPLE, tmp_path / "site")
    extra = {"host_base_colour": "red", "hypervisor_transport": "carrier pigeon"}
    (copy / "host_vars" / "kvm01.yml").write_text(yaml.safe_dump(extra))
    found = complaints(json.loads(ansible("ansible-inventory", "-i", copy, "--list")))
    assert "kvm01: no role declares host_base_colour" in found
    assert [line for line in found if line.startswith("kvm01: value of hypervisor_transport must be one of")]


def test_every_playbook_takes_it():
    books = sorted((ROOT / "playbooks").glob("*.yml"))
    assert books
    ansible("ansible-playbook", "-i", EXAMPLE, "--syntax-check", *books)
