from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from kvmlab import machine_qemu, paths
from kvmlab.errors import LabError
from kvmlab.images import Images
from kvmlab.inventory import render
from kvmlab.machine_shape import Image, Machine, check_machine, free_address, read_packages
from kvmlab.machines import shell_words
from kvmlab.paths import LabPaths, MachinePaths
from kvmlab.run import Process
from kvmlab.shape import plan_shape
from kvmlab.state import MachineRecord, describe, load

PM1 = Machine("pm1", "10.77.0.51", Image(packages=("ufw",)), nics=3)


def test_addresses_are_the_first_free_ones_and_end_before_those_of_guests():
    assert free_address([]) == "10.77.0.51"
    assert free_address(["10.77.0.51", "10.77.0.53"]) == "10.77.0.52"
    with pytest.raises(LabError, match="all 49 addresses"):
        free_address([f"10.77.0.{number}" for number in range(51, 100)])


def test_cards_have_ports_that_linux_can_name_and_addresses_of_their_own():
    widest = replace(PM1, name="a" * 12, nics=8)
    check_machine(widest)
    assert max(len(widest.port(nic)) for nic in range(8)) <= 15
    assert len({machine.mac(nic) for machine in (PM1, replace(PM1, address="10.77.0.52")) for nic in range(3)}) == 6
    assert PM1.port(0) == "pm1"


def test_qemu_names_the_cards_so_that_linux_calls_them_what_the_configuration_says():
    words = machine_qemu.command(PM1, MachinePaths(Path("/m")), {"apt": "/cache/repo"})
    cards = [word for word in words if word.startswith("e1000,")]
    assert [card.partition("addr=")[2].partition(",")[0] for card in cards] == ["0x10", "0x11", "0x12"]
    assert [PM1.interface(nic) for nic in range(3)] == ["enp0s16", "enp0s17", "enp0s18"]
    assert "local,id=apt,path=/cache/repo,security_model=none,readonly=on" in words
    assert not {"-kernel", "-initrd", "-append"} & set(words)


def test_disks_behind_the_first_have_a_port_and_a_serial_number_each():
    words = machine_qemu.command(replace(PM1, disks=3), MachinePaths(Path("/m")), {})
    disks = [word for word in words if word.startswith("ide-hd,")]
    assert [disk.partition("bus=")[2] for disk in disks] == [
        "ide.0,serial=LAB-PM1",
        "ide.1,serial=LAB-PM1-1",
        "ide.2,serial=LAB-PM1-2",
    ]
    assert [word.partition(",")[0] for word in words if word.startswith("file=/m")] == [
        "file=/m/disk.qcow2",
        "file=/m/disk1.qcow2",
        "file=/m/disk2.qcow2",
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "PM1"}, "lower-case"),
        ({"name": "a" * 13}, "at most 12"),
        ({"memory_mib": 64}, "--memory-mib 64"),
        ({"cpus": 0}, "--cpus 0"),
        ({"nics": 9}, "--nics 9"),
        ({"disks": 5}, "--disks 5"),
        ({"image": Image(layout="xfs")}, "boots by BIOS from MBR"),
        ({"image": Image(release="jessie")}, "unknown release"),
        ({"image": Image(disk_gib=1)}, "--disk-gib 1"),
        ({"image": Image(table="mbr", firmware="uefi")}, "UEFI boots from GPT"),
        ({"image": Image(packages=("a b",))}, "name of a package"),
        ({"image": Image(packages=("--purge",))}, "name of a package"),
    ],
)
def test_impossible_machines_are_refused_with_the_option_and_the_reason(change, says):
    with pytest.raises(LabError, match=says):
        check_machine(replace(PM1, **change))


def test_packages_come_from_names_lists_and_files(tmp_path):
    own = tmp_path / "own.txt"
    own.write_text("# mine\nufw\nvlan [trixie]\n")
    assert read_packages(f"acl,{own}", "bookworm") == ("acl", "ufw")
    assert read_packages(f"acl, {own}", "trixie") == ("acl", "ufw", "vlan")
    assert "libvirt-daemon-system" in read_packages("hypervisor", "bookworm")
    assert read_packages("", "bookworm") == ()
    with pytest.raises(LabError, match="no such file"):
        read_packages("./nowhere.txt", "bookworm")


def test_the_order_of_packages_makes_no_other_image():
    assert read_packages("ufw,acl,ufw", "bookworm") == read_packages("acl,ufw", "bookworm")


def test_machines_are_a_group_of_their_own_and_no_hypervisors():
    children = yaml.safe_load(render(plan_shape(1, "bookworm"), LabPaths("x"), [PM1]))["all"]["children"]
    assert children["machines"]["hosts"] == {"pm1": {"ansible_host": "10.77.0.51", "kvmlab_release": "bookworm"}}
    assert list(children["hypervisors"]["hosts"]) == ["kvm1"]
    assert "machines" not in yaml.safe_load(render(plan_shape(1, "bookworm"), LabPaths("x")))["all"]["children"]


def test_a_record_with_machines_reads_back_as_it_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "STATE", tmp_path)
    lab = describe("x", plan_shape(0, ""), Images({}, {}, Path("/g")), bare=True)
    lab.machines["pm1"] = MachineRecord(PM1, "/cache/disk", {"apt": "/p"}, "line\n", Process(2**22 + 1, 5), True)
    lab.save()
    assert load("x") == lab
    assert lab.on_switch("pm1").address == "10.77.0.51"
    with pytest.raises(LabError, match="its machines: pm1"):
        lab.machine("pm2")


def test_a_command_reaches_the_other_end_word_by_word():
    assert shell_words(["echo", "a b", "it's", "$HOME"]) == "'echo' 'a b' 'it'\\''s' '$HOME'"
