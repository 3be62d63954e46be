from __future__ import annotations

import yaml
from kvmlab.inventory import render
from kvmlab.paths import LabPaths
from kvmlab.shape import plan_shape


def rendered(name: str, *arguments: object) -> dict:
    return yaml.safe_load(render(plan_shape(*arguments), LabPaths(name)))["all"]


def test_hosts_addresses_and_the_lab_only_variables():
    everything = rendered("lab", 2, "bookworm,trixie")
    group = everything["children"]["hypervisors"]
    assert {name: values["ansible_host"] for name, values in group["hosts"].items()} == {
        "kvm1": "10.77.0.11",
        "kvm2": "10.77.0.12",
    }
    assert group["vars"]["hypervisor_qemu_conf"] == {"cgroup_controllers": [], "security_driver": "none"}
    assert group["vars"]["kvmlab_guest_dir"] == "/srv/lab/guest"
    assert "storage" not in everything["children"]


def test_the_storage_host_is_no_hypervisor():
    children = rendered("lab", 1, "bookworm", "nfs")["children"]
    assert list(children["hypervisors"]["hosts"]) == ["kvm1"]
    assert children["storage"]["hosts"]["nas"]["ansible_host"] == "10.77.0.10"


def test_ssh_is_pinned_and_goes_through_the_namespace_of_its_own_lab():
    one, other = rendered("one", 1, "bookworm")["vars"], rendered("other", 1, "bookworm")["vars"]
    assert "ip netns exec kvmlab-one nc %h %p" in one["ansible_ssh_common_args"]
    assert "StrictHostKeyChecking=yes" in one["ansible_ssh_common_args"]
    assert one["ansible_control_path_dir"] != other["ansible_control_path_dir"]


def test_the_default_lab_has_the_short_inventory_path(tmp_path):
    assert LabPaths("lab").inventory(tmp_path) == tmp_path / ".lab/inventory.yml"
    assert LabPaths("x").inventory(tmp_path) == tmp_path / ".lab/x/inventory.yml"
