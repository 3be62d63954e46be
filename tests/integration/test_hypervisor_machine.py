# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of the role hypervisor needs a kernel of its own: modules, nested virtualisation, userfaultfd, AppArmor."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any, Iterator

import pytest
import yaml

from .fleet import LAB, ROOT, Lab

pytestmark = pytest.mark.machine

NAME = "kernel"
HOST = "hv9"
PLAY = {
    "hosts": HOST,
    "become": True,
    "gather_facts": True,
    "gather_subset": ["!all", "!min", "distribution", "ssh_pub_keys"],
    "roles": ["kvmops.fleet.hypervisor"],
}
# A disk and its backing file whose names tell AppArmor's helper nothing, in a place it does not know.
GUEST = """<domain type='kvm'><name>odd</name><memory unit='MiB'>64</memory><os><type arch='x86_64'>hvm</type></os>
<devices><disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/data/odd/top'/>
<target dev='vda' bus='virtio'/></disk></devices></domain>"""


@pytest.fixture(name="lab", scope="module")
def fixture_lab() -> Iterator[Lab]:
    """A machine with the role's packages from the start: installing is slow there. KVMOPS_LAB_KERNEL names one that is up."""
    given = os.environ.get("KVMOPS_LAB_KERNEL")
    name = given or NAME
    text = (ROOT / "roles" / "hypervisor" / "vars" / "debian-12.yml").read_text(encoding="utf-8")
    packages = ",".join([*yaml.safe_load(text)["__hypervisor_packages"], "apparmor"])
    try:
        subprocess.run([str(LAB), "up", "--name", name, "--hosts", "0"], check=True, stdin=subprocess.DEVNULL)
        words = [str(LAB), "machine", "start", HOST, "--name", name, "--memory-mib", "1024", "--packages", packages]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
        yield Lab(name, ROOT / ".lab" / name / "inventory.yml")
    finally:
        if not given:
            subprocess.run([str(LAB), "down", "--name", name], check=True, stdin=subprocess.DEVNULL)


def roll(lab: Lab, **variables: Any) -> str:
    """Run the role; what it said."""
    book = lab.inventory.parent / "kernel-book.json"
    own = {"hypervisor_transport": "ssh", "hypervisor_pools": [{"name": "odd", "path": "/data/odd"}]}
    book.write_text(json.dumps([dict(PLAY, vars=dict(own, **variables))]), encoding="utf-8")
    told = lab.playbook(str(book), timeout_s=600)
    results = [task["hosts"][HOST] for play in told["plays"] for task in play["tasks"] if HOST in task["hosts"]]
    return "changed=%d " % told["stats"][HOST]["changed"] + " ".join(str(result.get("msg", "")) for result in results)


def shell(lab: Lab, script: str, check: bool = True) -> str:
    return lab.sh(HOST, "sh", "-c", script, check=check).strip()


def test_modules_nested_userfaultfd_and_apparmor_count_at_once(lab: Lab) -> None:
    shell(
        lab,
        "modprobe -r kvm_amd kvm_intel kvm; rm -f /etc/modprobe.d/kvmops.conf; sysctl -w vm.unprivileged_userfaultfd=0",
    )
    module = "kvm_" + ("amd" if shell(lab, "grep -cw svm /proc/cpuinfo", check=False) != "0" else "intel")
    said = roll(lab, hypervisor_nested=False, hypervisor_postcopy=True, hypervisor_require_kvm=True)
    assert "QEMU cannot use KVM" not in said
    assert shell(lab, "cat /sys/module/%s/parameters/nested" % module) in ("0", "N")
    assert shell(lab, "cat /etc/modules-load.d/kvmops.conf").endswith("kvm\n" + module)
    assert shell(lab, "sysctl -n vm.unprivileged_userfaultfd") == "1"
    assert roll(lab, hypervisor_nested=False, hypervisor_postcopy=True, hypervisor_require_kvm=True).startswith(
        "changed=0 "
    )


def test_a_guest_starts_from_a_pool_in_an_unusual_place_because_of_the_override(lab: Lab) -> None:
    override = "/etc/apparmor.d/local/usr.lib.libvirt.virt-aa-helper"
    reload = "apparmor_parser --replace /etc/apparmor.d/usr.lib.libvirt.virt-aa-helper"
    assert shell(lab, "cat /sys/module/apparmor/parameters/enabled") == "Y"
    make = "cd /data/odd; qemu-img create -q -f qcow2 base 8M; qemu-img create -q -f qcow2 -b base -F qcow2 top"
    shell(lab, "%s; cat > /root/odd.xml <<'END'\n%s\nEND" % (make, GUEST))
    shell(lab, "mv %s /root/override; touch %s; %s" % (override, override, reload))
    said = shell(lab, "virsh -q create /root/odd.xml 2>&1", check=False)
    assert lab.state(HOST, "odd") is None and "error" in said, said
    shell(lab, "mv /root/override %s; %s" % (override, reload))
    shell(lab, "virsh -q create /root/odd.xml")
    confined = shell(lab, "cat /proc/$(cat /run/libvirt/qemu/odd.pid)/attr/current")
    assert confined.startswith("libvirt-") and "enforce" in confined


def test_nested_waits_while_a_guest_uses_the_module(lab: Lab) -> None:
    process = shell(lab, "cat /run/libvirt/qemu/odd.pid")
    assert "it is not reloaded" in roll(lab, hypervisor_nested=True)
    assert shell(lab, "cat /run/libvirt/qemu/odd.pid") == process and lab.state(HOST, "odd") == "running"
    lab.virsh(HOST, "destroy", "odd")
    assert "it is not reloaded" not in roll(lab, hypervisor_nested=True)
    assert shell(lab, "cat /sys/module/kvm_*/parameters/nested") in ("1", "Y")
    assert not roll(lab, hypervisor_nested=False).startswith("changed=0 ")
    assert shell(lab, "cat /sys/module/kvm_*/parameters/nested") in ("0", "N"), (
        "the module was reloaded before its option"
    )
