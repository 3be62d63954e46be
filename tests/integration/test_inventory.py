# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventory plugin kvm by Ansible's own command, over ssh, on hosts of which one is not there."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

import pytest
import yaml

from .fleet import ROOT, Lab, Task, answers, guest, until

# libvirt 9.0 fails to read the neighbours of a host ("wrong nlmsg len").
RELEASES = "trixie,trixie,bookworm"
NOBODY = "10.77.0.99"


class Told(NamedTuple):
    """What ansible-inventory --list printed, its warnings, and how long it took."""

    hosts: Dict[str, Dict[str, Any]]
    groups: Dict[str, List[str]]
    warnings: str
    seconds: float


class Site:
    def __init__(self, lab: Lab, folder: Path) -> None:
        self.folder = folder
        listed = yaml.safe_load(lab.inventory.read_text(encoding="utf-8"))["all"]
        self.addresses = {
            name: about["ansible_host"] for name, about in listed["children"]["hypervisors"]["hosts"].items()
        }
        # The lab's hosts are behind a door of their own; a site's are not, and its URIs need no command.
        self.ssh = folder / "ssh"
        words = ["ssh", *shlex.split(listed["vars"]["ansible_ssh_common_args"])]
        words += ["-i", listed["vars"]["ansible_ssh_private_key_file"]]
        self.ssh.write_text('#!/bin/sh\nexec %s "$@"\n' % shlex.join(words), encoding="utf-8")
        self.ssh.chmod(0o755)

    def uri(self, address: str) -> str:
        return "qemu+ssh://root@%s/system?command=%s" % (address, self.ssh)

    def read(self, **options: Any) -> Told:
        uris = {name: self.uri(address) for name, address in self.addresses.items()}
        path = self.folder / "fleet.kvm.yml"
        path.write_text(json.dumps(dict({"plugin": "kvmops.fleet.kvm", "uris": uris}, **options)), encoding="utf-8")
        start = time.monotonic()
        done = subprocess.run(
            [str(ROOT / ".venv" / "bin" / "ansible-inventory"), "-i", str(path), "--list"],
            cwd=ROOT,
            env=dict(os.environ, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg")),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        # What comes from a plugin is no template, and Ansible marks it so.
        told = json.loads(done.stdout, object_hook=lambda found: found.get("__ansible_unsafe", found))
        hosts = told.pop("_meta")["hostvars"]
        groups = {name: sorted(group.get("hosts", ())) for name, group in told.items()}
        return Told(hosts, groups, done.stderr, time.monotonic() - start)


@pytest.fixture(name="site")
def fixture_site(clean: Lab, tmp_path: Path) -> Site:
    return Site(clean, tmp_path)


def test_guests_of_all_hosts_are_there_and_the_host_that_is_not_is_a_warning(clean: Lab, site: Site) -> None:
    clean.play("kvm1", [Task("kvm_domain", guest("web1", 61, metadata={"group": "web"}))])
    clean.play("kvm2", [Task("kvm_domain", guest("db1", 62, state="shutdown"))])
    until(lambda: answers(clean, 61), 60, "web1 answers")
    clean.sh("kvm1", "ping", "-c", "1", "-W", "5", "10.77.0.61")
    uris = {name: site.uri(address) for name, address in site.addresses.items()}
    told = site.read(uris=dict(uris, kvm9=site.uri(NOBODY)), timeout_s=8, compose={"ansible_host": "kvm_address"})
    assert sorted(told.hosts) == ["db1", "web1"]
    web1, db1 = told.hosts["web1"], told.hosts["db1"]
    assert web1["kvm_host"] == "kvm1" and web1["kvm_state"] == "running" and web1["ansible_host"] == "10.77.0.61"
    assert db1["kvm_host"] == "kvm2" and db1["kvm_state"] == "shutoff" and db1["kvm_memory_mib"] == 128
    assert told.groups["kvm_group_web"] == told.groups["kvm_host_kvm1"] == told.groups["kvm_state_running"] == ["web1"]
    assert "The guests of kvm9 are missing" in told.warnings
    print("\n%.1f s with a host that is not there; %s" % (told.seconds, told.warnings))


def test_a_guest_that_moved_is_where_it_runs_and_once(clean: Lab, site: Site) -> None:
    clean.play("kvm1", [Task("kvm_domain", guest("web1", 61))])
    moved = clean.one("kvm1", "kvm_migrate", name="web1", host="kvm2", keep_source="definition")
    assert moved["changed"] and clean.state("kvm1", "web1") == "shut off"
    told = site.read(addresses=[])
    assert list(told.hosts) == ["web1"] and told.hosts["web1"]["kvm_host"] == "kvm2" and not told.warnings
    assert "kvm_address" not in told.hosts["web1"]
    assert site.read(states=["shutoff"]).hosts == {}
