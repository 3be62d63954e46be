# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role virt_tools: a host of a lab of its own becomes a desk, for the hypervisor kvm1.

The desk is kvm3 (Debian 13). KVMOPS_DESKS=kvm2,kvm3 tries Debian 12 too, and takes twice as long.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from .fleet import LAB, ROOT, Lab

DESKS = tuple(os.environ.get("KVMOPS_DESKS", "kvm3").split(","))
FACTS = {"gather_facts": True, "gather_subset": ["!all", "!min", "distribution", "ssh_pub_keys"]}
FILES = (
    "/etc/libvirt/libvirt.conf",
    "/etc/dconf/profile/user",
    "/etc/dconf/db/local.d/50-kvmops",
    "/etc/environment",
    "/etc/kernel/postinst.d/zz-kvmops-readable",
)
# As kernel packages call their hooks.
HOOKS = 'run-parts --exit-on-error --arg=6.1.0-0-test --arg=/boot/vmlinuz-6.1.0-0-test "/etc/kernel/$1.d"'


class Desks:
    """A lab, and the role applied to its desks."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.folder = lab.inventory.parent

    def role(self, *argv: str, check: bool = True, **variables: Any) -> Dict[str, Any]:
        """Apply the role; Ansible's recap per host, and the messages of what failed."""
        groups = {"virt_tools": {"hosts": {host: {} for host in DESKS}}, "known": {"hosts": {"kvm1": {}}}}
        (self.folder / "desks.json").write_text(json.dumps(groups))
        plays: List[Dict[str, Any]] = [
            {"hosts": "known", **FACTS},
            {
                "hosts": "virt_tools",
                **FACTS,
                "vars": {"virt_tools_hypervisors_group": "known", "virt_tools_users": ["alice"], **variables},
                "roles": ["kvmops.fleet.virt_tools"],
            },
        ]
        (self.folder / "desks-book.json").write_text(json.dumps(plays))
        inventory = str(self.folder / "desks.json")
        return self.lab.playbook(str(self.folder / "desks-book.json"), "-i", inventory, *argv, check=check)

    def changed(self, *argv: str, **variables: Any) -> List[int]:
        stats = self.role(*argv, **variables)["stats"]
        return [stats[host]["changed"] for host in DESKS]

    def alice(self, host: str, script: str) -> str:
        return self.lab.sh(host, "runuser", "-l", "alice", "-c", script)


@pytest.fixture(name="desks", scope="module")
def fixture_desks() -> Iterator[Desks]:
    """The desks, on which the role has not run yet."""
    name = "desks"
    subprocess.run([str(LAB), "up", "--name", name], check=True, stdin=subprocess.DEVNULL)
    desks = Desks(Lab(name=name, inventory=ROOT / ".lab" / name / "inventory.yml"))
    for host in DESKS:
        # A desk knows no hypervisor yet, has a kernel as Ubuntu ships it, and its users have accounts.
        desks.lab.sh(
            host,
            "sh",
            "-ec",
            "id alice || useradd -m -s /bin/bash alice; rm -f /etc/ssh/ssh_known_hosts;"
            "echo kernel > /boot/vmlinuz-6.1.0-0-old; chmod 600 /boot/vmlinuz-6.1.0-0-old",
        )
    yield desks
    subprocess.run([str(LAB), "down", "--name", name], check=True, stdin=subprocess.DEVNULL)


def test_check_then_real_then_nothing_left(desks: Desks) -> None:
    for host in DESKS:
        desks.lab.sh(host, "touch", "/root/before")
    would = desks.changed("--check", "--diff")
    assert min(would) > 0, would
    for host in DESKS:
        touched = desks.lab.sh(
            host, "find", "/etc", "/boot", "/home", "/usr", "-newer", "/root/before", "-not", "-type", "d"
        )
        assert touched == ""

    assert min(desks.changed("--diff")) > 0
    assert max(desks.changed()) == 0
    assert max(desks.changed("--check", "--diff")) == 0


def test_the_suite_is_there(desks: Desks) -> None:
    for host in DESKS:
        for tool in ("virt-manager", "virt-install", "virt-clone", "virt-xml", "virt-viewer", "virsh"):
            assert desks.alice(host, f"{tool} --version").strip(), tool
        for tool in ("virt-v2v", "guestfish", "virt-p2v-make-disk", "nbdkit", "nbdcopy", "virt-customize"):
            assert desks.alice(host, f"{tool} --version").strip(), tool


def test_virsh_of_every_user_knows_the_hypervisor(desks: Desks) -> None:
    for host in DESKS:
        # A key of alice's own, an account on the hypervisor: an administrator's part.
        key = desks.alice(
            host, "mkdir -m 700 .ssh && ssh-keygen -q -t ed25519 -N '' -f .ssh/id_ed25519; cat .ssh/*.pub"
        )
        script = (
            "id alice > /dev/null 2>&1 || useradd -m -G libvirt alice; mkdir -p ~alice/.ssh;"
            'echo "$1" >> ~alice/.ssh/authorized_keys; chown -R alice: ~alice/.ssh; chmod -R go= ~alice/.ssh'
        )
        desks.lab.sh("kvm1", "sh", "-ec", script, "sh", key.strip())
        # No terminal, no question: the host key is known, and nothing was accepted on the way.
        assert desks.alice(host, "virsh -q -c kvm1 hostname < /dev/null").strip() == "kvm1"
        assert desks.alice(host, "ls .ssh").split() == ["id_ed25519", "id_ed25519.pub"]


def test_virt_manager_of_every_user_has_it(desks: Desks) -> None:
    for host in DESKS:
        desks.lab.sh(host, "sh", "-c", "id bob > /dev/null 2>&1 || useradd -m bob")  # the role has never heard of him
        for key in ("uris", "autoconnect"):
            path = f"/org/virt-manager/virt-manager/connections/{key}"
            assert desks.lab.sh(host, "runuser", "-l", "bob", "-c", f"dconf read {path}").strip() == (
                "['qemu+ssh://kvm1/system']"
            )
    schema = desks.lab.sh(DESKS[0], "cat", "/usr/share/glib-2.0/schemas/org.virt-manager.virt-manager.gschema.xml")
    assert 'path="/org/virt-manager/virt-manager/connections/"' in schema


def test_tls_when_its_users_have_certificates(desks: Desks) -> None:
    # kvm2 and kvm3 are hypervisors besides, so root has a certificate that kvm1 accepts; alice may not read its key.
    assert max(desks.changed()) == 0
    for host in DESKS:
        desks.alice(host, "mkdir -p .pki/libvirt && touch .pki/libvirt/clientkey.pem")
    assert min(desks.changed()) == 3  # aliases, virt-manager's list, its database
    for host in DESKS:
        assert "qemu+tls://kvm1/system" in desks.lab.sh(host, "cat", "/etc/libvirt/libvirt.conf")
        assert desks.lab.virsh(host, "-c", "kvm1", "hostname") == "kvm1"
        desks.alice(host, "rm -r .pki")
    assert min(desks.changed()) == 3


def test_libguestfs_can_read_kernels_of_today_and_tomorrow(desks: Desks) -> None:
    for host in DESKS:
        desks.alice(host, "cat /boot/vmlinuz-6.1.0-0-old")
        script = "echo new > /boot/vmlinuz-6.1.0-0-test; chmod 600 /boot/vmlinuz-6.1.0-0-test;" + HOOKS
        desks.lab.sh(host, "sh", "-ec", script, "sh", "postinst")
        desks.alice(host, "cat /boot/vmlinuz-6.1.0-0-test")
        listed = desks.lab.sh(host, "dpkg-statoverride", "--list", "/boot/*")
        assert "root root 0644 /boot/vmlinuz-6.1.0-0-test" in listed.replace(" 644 ", " 0644 ")
        desks.lab.sh(host, "sh", "-ec", "rm /boot/vmlinuz-6.1.0-0-test;" + HOOKS, "sh", "postrm")
        assert "0-test" not in desks.lab.sh(host, "dpkg-statoverride", "--list", "/boot/*")
        assert "kvm" in desks.alice(host, "id -Gn").split()
        # There is no KVM in the lab: a new session is told so.
        assert "force_tcg" in desks.lab.sh(host, "sh", "-c", "su -l alice -c env")


def test_repair_and_removal(desks: Desks) -> None:
    desks.lab.sh(
        DESKS[0],
        "sh",
        "-ec",
        "chmod 600 /boot/vmlinuz-6.1.0-0-old; rm /etc/dconf/db/local; sed -i s/kvm1/kvm9/ /etc/libvirt/libvirt.conf",
    )
    assert desks.changed()[0] == 3
    desks.alice(DESKS[0], "cat /boot/vmlinuz-6.1.0-0-old")
    assert "kvm1" in desks.alice(DESKS[0], "dconf read /org/virt-manager/virt-manager/connections/uris")

    assert min(desks.changed(virt_tools_hypervisors_group="nobody", virt_tools_force_tcg="never")) > 0
    for host in DESKS:
        assert desks.lab.sh(host, "sh", "-c", "grep -l kvmops.fleet $* || true", "sh", *FILES[:4]).strip() == ""
        assert desks.alice(host, "dconf read /org/virt-manager/virt-manager/connections/uris").strip() == ""


def test_what_cannot_be_done_is_refused_before_anything_changes(desks: Desks) -> None:
    desks.lab.sh(DESKS[0], "sh", "-c", "echo 'uri_aliases = [ \"own=qemu:///session\" ]' >> /etc/libvirt/libvirt.conf")
    told = desks.role(
        check=False,
        virt_tools_users=["nobody-here"],
        virt_tools_extra_connections={"a b": "qemu:///system", "c": '"; rm'},
    )
    assert told["rc"] != 0
    assert max(told["stats"][host]["changed"] for host in DESKS) == 0
    said = json.dumps(told["plays"])
    for words in ("nobody-here", "a b", "rm", "virt_tools_extra_connections"):
        assert words in said, words
    desks.lab.sh(DESKS[0], "sed", "-i", "/own=qemu/d", "/etc/libvirt/libvirt.conf")


def test_check_mode_ends_well_on_a_bare_host(tmp_path: Path) -> None:
    name = "desks-bare"
    subprocess.run([str(LAB), "up", "--name", name, "--bare", "--hosts", "1"], check=True, stdin=subprocess.DEVNULL)
    try:
        lab = Lab(name=name, inventory=ROOT / ".lab" / name / "inventory.yml")
        book = tmp_path / "book.json"
        book.write_text(json.dumps([{"hosts": "kvm1", **FACTS, "roles": ["kvmops.fleet.virt_tools"]}]))
        told = lab.playbook(str(book), "--check", "--diff")
        assert told["stats"]["kvm1"]["changed"] > 0
        assert lab.sh("kvm1", "sh", "-c", "ls /etc/dconf /etc/libvirt 2> /dev/null || true") == ""
    finally:
        subprocess.run([str(LAB), "down", "--name", name], check=True, stdin=subprocess.DEVNULL)
