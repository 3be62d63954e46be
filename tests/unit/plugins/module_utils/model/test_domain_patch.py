# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Domain XML in and out. xml/NAME.given.xml was given to a real libvirt, xml/NAME.libvirt-VERSION.xml came back."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, List, Tuple

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model import safe_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Boot, Cpu, Disk, Nic
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_change import Edit
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_diff_xml import differences
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_merge_xml import merge
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_patch_xml import EDITS, metadata_xml, patch
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_xml import read_domain
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils import dumped

FOLDER = Path(__file__).parent / "xml"
KEPT = sorted(path.name for path in FOLDER.glob("*.libvirt-*.xml"))
PLAIN = (FOLDER / "plain.libvirt-9.0.xml").read_text(encoding="utf-8")
MAC = "52:54:00:00:00:01"


def _given_and_kept(name: str) -> Tuple[str, str]:
    given = (FOLDER / (name.split(".libvirt-", 1)[0] + ".given.xml")).read_text(encoding="utf-8")
    return given, (FOLDER / name).read_text(encoding="utf-8")


def _lines(before: str, after: str) -> List[str]:
    """The lines that changed, - or + in front, without indentation."""
    texts = [safe_xml.render(safe_xml.parse(text)).splitlines() for text in (before, after)]
    return [line[0] + line[1:].strip() for line in difflib.ndiff(*texts) if line[0] in "+-"]


@pytest.mark.parametrize("name", KEPT)
def test_what_libvirt_adds_or_reorders_is_no_difference(name: str) -> None:
    given, kept = _given_and_kept(name)
    assert [change.words for change in differences(merge(given, kept), kept)] == []


@pytest.mark.parametrize("name", KEPT)
def test_a_dump_given_back_is_no_difference(name: str) -> None:
    kept = _given_and_kept(name)[1]
    assert differences(kept, kept) == ()
    assert _lines(kept, merge(kept, kept)) == []


@pytest.mark.parametrize("name", KEPT)
def test_a_patch_without_edits_changes_nothing(name: str) -> None:
    kept = _given_and_kept(name)[1]
    assert _lines(kept, patch(kept, ())) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('<memory unit="GiB">1<', '<memory unit="GiB">2<', "memory: 1024 MiB → 2048 MiB"),
        (' cache="writeback"', ' cache="none"', "disk sda driver cache: writeback → none"),
        (' cache="writeback"', "", "disk sda driver cache: writeback → none"),
        ("<shares>512</shares>", "<shares>768</shares>", "cputune shares: 512 → 768"),
        ("<shares>512</shares>", "", "cputune shares: 512 → none"),
        ('<timer name="hpet" present="no"/>', "", "clock timer hpet: name=hpet present=no → none"),
        ('<sound model="ich6"/>', "", "sound: model=ich6 → none"),
        ('<vcpupin vcpu="1" cpuset="1"/>', '<vcpupin vcpu="1" cpuset="0-1"/>', "vcpupin 1 cpuset: 1 → 0,1"),
        ("<title>A test</title>", "<title>Another</title>", "title: A test → Another"),
        ("<app:owner>me</app:owner>", "<app:owner>you</app:owner>", "metadata {http://example.org/app}x"),
        ('<feature policy="disable" name="vmx"/>', "", "cpu feature vmx: policy=disable name=vmx → none"),
    ],
)
def test_one_change_is_one_difference_in_words(old: str, new: str, words: str) -> None:
    given, kept = _given_and_kept("many.libvirt-9.0.xml")
    assert old in given
    found = differences(merge(given.replace(old, new), kept), kept)
    assert len(found) == 1, [change.words for change in found]
    assert words in found[0].words


def test_a_removed_disk_is_a_difference() -> None:
    given, kept = _given_and_kept("plain.libvirt-9.0.xml")
    root = safe_xml.parse(given)
    root.find("devices").remove(root.find("devices/disk[serial]"))
    found = differences(merge(safe_xml.render(root), kept), kept)
    assert [change.key for change in found] == ["disk vda"]
    assert found[0].after is None


def test_passwords_are_neither_compared_nor_shown() -> None:
    given, kept = _given_and_kept("many.libvirt-9.0.xml")
    assert "geheim" in given
    assert "geheim" not in kept
    without = safe_xml.parse(kept)
    devices = without.find("devices")
    for node in devices.findall("graphics"):
        devices.remove(node)
    told = differences(given, safe_xml.render(without))
    assert any("graphics" in change.key for change in told)
    assert "geheim" not in repr(told)


def test_what_only_the_host_knows_is_kept() -> None:
    given, kept = _given_and_kept("small.libvirt-9.0.xml")
    merged = safe_xml.parse(merge(given, kept))
    found = safe_xml.parse(kept)
    for path, attribute in (
        ("os/type", "machine"),
        ("devices/interface/mac", "address"),
        ("devices/disk/address", "bus"),
    ):
        assert found.find(path).get(attribute) is not None
        assert merged.find(path).get(attribute) == found.find(path).get(attribute)
    assert merged.findtext("uuid") == found.findtext("uuid")
    assert len(merged.findall("devices/controller")) == len(found.findall("devices/controller"))


DISK = Disk(target="vdc", bus="virtio", kind="block", source="/dev/vg0/x", format="raw", shareable=True)
CASES: List[Tuple[str, Any, List[str]]] = [
    (
        "memory",
        {"mib": 512},
        [
            '-<memory unit="KiB">262144</memory>',
            '-<currentMemory unit="KiB">262144</currentMemory>',
            '+<memory unit="MiB">512</memory>',
            '+<currentMemory unit="MiB">512</currentMemory>',
        ],
    ),
    (
        "memory",
        {"mib": 128, "ceiling_mib": 512},
        [
            '-<memory unit="KiB">262144</memory>',
            '-<currentMemory unit="KiB">262144</currentMemory>',
            '+<memory unit="MiB">512</memory>',
            '+<currentMemory unit="MiB">128</currentMemory>',
        ],
    ),
    ("max_memory", {"mib": 512}, ['-<memory unit="KiB">262144</memory>', '+<memory unit="MiB">512</memory>']),
    (
        "vcpus",
        {"count": 1, "ceiling": 4},
        ['-<vcpu placement="static">2</vcpu>', '+<vcpu placement="static" current="1">4</vcpu>'],
    ),
    (
        "max_vcpus",
        {"count": 4},
        ['-<vcpu placement="static">2</vcpu>', '+<vcpu placement="static" current="2">4</vcpu>'],
    ),
    ("vcpus", {"count": 4}, ['-<vcpu placement="static">2</vcpu>', '+<vcpu placement="static">4</vcpu>']),
    ("domain_type", {"kind": "kvm"}, ['-<domain type="qemu">', '+<domain type="kvm">']),
    (
        "machine",
        {"machine": "pc"},
        ['-<type arch="x86_64" machine="pc-q35-7.2">hvm</type>', '+<type arch="x86_64" machine="pc">hvm</type>'],
    ),
    ("firmware", {"kind": "efi"}, ["-<os>", '+<os firmware="efi">']),
    (
        "boot",
        {"boot": Boot(initrd="", cmdline="x")},
        [
            "-<initrd>/srv/initrd</initrd>",
            '-<cmdline>console=ttyS0 a="b" &lt;c&gt; &amp; d</cmdline>',
            "+<cmdline>x</cmdline>",
        ],
    ),
    (
        "cpu",
        {"cpu": Cpu("host-model")},
        [
            '-<cpu mode="custom" match="exact" check="none">',
            '-<model fallback="forbid">Westmere</model>',
            '-<feature policy="disable" name="vmx"/>',
            "-</cpu>",
            '+<cpu mode="host-model"/>',
        ],
    ),
    (
        "metadata",
        {"values": {"group": "web", "priority": "6"}},
        ["-<kvmops:priority>5</kvmops:priority>", "+<kvmops:priority>6</kvmops:priority>"],
    ),
    (
        "disk_add",
        {"disk": DISK},
        [
            '+<disk type="block" device="disk">',
            '+<driver name="qemu" type="raw"/>',
            '+<source dev="/dev/vg0/x"/>',
            '+<target dev="vdc" bus="virtio"/>',
            "+<shareable/>",
            "+</disk>",
        ],
    ),
    (
        "disk_set",
        {"target": "vda", "field": "cache", "value": None},
        ['-<driver name="qemu" type="qcow2" cache="none"/>', '+<driver name="qemu" type="qcow2"/>'],
    ),
    (
        "disk_set",
        {"target": "sda", "field": "source", "value": "/srv/a.iso", "kind": "file"},
        ['+<source file="/srv/a.iso"/>'],
    ),
    (
        "disk_set",
        {"target": "vdb", "field": "source", "value": None},
        [
            '-<disk type="network" device="disk">',
            '+<disk type="file" device="disk">',
            '-<source protocol="nfs" name="/srv/x.qcow2">',
            '-<host name="10.77.0.10"/>',
            "-</source>",
        ],
    ),
    (
        "disk_set",
        {"target": "vdb", "field": "source", "value": "nbd://h:1/x", "kind": "network"},
        [
            '-<source protocol="nfs" name="/srv/x.qcow2">',
            '-<host name="10.77.0.10"/>',
            '+<source protocol="nbd" name="x">',
            '+<host name="h" port="1"/>',
        ],
    ),
    ("disk_set", {"target": "vda", "field": "serial", "value": "D2"}, ["-<serial>D1</serial>", "+<serial>D2</serial>"]),
    ("disk_set", {"target": "vda", "field": "readonly", "value": True}, ["+<readonly/>"]),
    (
        "disk_drop",
        {"target": "sda"},
        [
            '-<disk type="file" device="cdrom">',
            '-<driver name="qemu" type="raw"/>',
            '-<target dev="sda" bus="sata"/>',
            "-<readonly/>",
            '-<address type="drive" controller="0" bus="0" target="0" unit="0"/>',
            "-</disk>",
        ],
    ),
    (
        "nic_add",
        {"nic": Nic(mac=None, kind="network", source="lan", model="virtio")},
        ['+<interface type="network">', '+<source network="lan"/>', '+<model type="virtio"/>', "+</interface>"],
    ),
    (
        "nic_set",
        {"mac": MAC, "kind": "network", "source": "lan"},
        [
            '-<interface type="bridge">',
            '+<interface type="network">',
            '-<source bridge="br0"/>',
            '+<source network="lan"/>',
        ],
    ),
    ("nic_set", {"mac": MAC, "link": "down"}, ['+<link state="down"/>']),
    ("nic_set", {"mac": MAC, "model": "e1000e"}, ['-<model type="virtio"/>', '+<model type="e1000e"/>']),
    ("serial_log", {"path": ""}, ['-<log file="/var/log/web1.log" append="on"/>'] * 2),
    (
        "tpm",
        {"kind": "emulator"},
        ['+<tpm model="tpm-crb">', '+<backend type="emulator" version="2.0"/>', "+</tpm>"],
    ),
]


@pytest.mark.parametrize(("name", "args", "expected"), CASES, ids=["%s %s" % (one[0], one[1]) for one in CASES])
def test_an_edit_changes_just_that(name: str, args: Any, expected: List[str]) -> None:
    assert sorted(_lines(PLAIN, patch(PLAIN, [Edit(name, args)]))) == sorted(expected)


def test_graphics_and_nic_drop() -> None:
    after = read_domain(patch(PLAIN, [Edit("graphics", {"kind": "none"}), Edit("nic_drop", {"mac": MAC})]))
    assert after.graphics == ()
    assert [nic.mac for nic in after.nics] == ["52:54:00:00:00:02"]
    assert read_domain(patch(PLAIN, [Edit("graphics", {"kind": "spice"})])).graphics == ("spice",)


def test_a_running_guest_on_a_bridged_network_is_on_the_network() -> None:
    """As libvirt 9.0 shows it while it runs; its migratable form and its definition say network."""
    interface = "<interface type='bridge'><source network='lan' portid='3d653c33' bridge='br0'/></interface>"
    nics = read_domain("<domain type='qemu'><name>x</name><devices>%s</devices></domain>" % interface).nics
    assert [(nic.kind, nic.source) for nic in nics] == [("network", "lan")]


def test_every_edit_is_tried_here() -> None:
    assert {name for name, dummy, dummy2 in CASES} | {"graphics", "nic_drop", "seed_record"} == set(EDITS)


def test_memory_of_numa_cells_is_shared_out() -> None:
    kept = _given_and_kept("many.libvirt-9.0.xml")[1]
    after = safe_xml.parse(patch(kept, [Edit("memory", {"mib": 1537})]))
    sizes = [int(cell.get("memory")) for cell in after.iterfind("cpu/numa/cell")]
    assert sum(sizes) == 1537 * 1024
    assert max(sizes) - min(sizes) <= 1


def test_metadata_is_safe_for_any_text() -> None:
    text = "<&>\"'ä"
    assert safe_xml.parse(metadata_xml({"group": text}))[0].text == text


def test_memory_modules_are_in_no_numa_cell() -> None:
    """libvirt adds them to the cells: shared out among the cells as well, a second run would change the memory again."""
    kept = _dump("memory-devices")
    after = safe_xml.parse(patch(kept, [Edit("memory", {"mib": 3072})]))
    assert [cell.get("memory") for cell in after.iterfind("cpu/numa/cell")] == [str(2048 * 1024)]


@pytest.mark.parametrize(
    ("count", "topology"),
    [
        (8, {"sockets": "1", "dies": "1", "cores": "8", "threads": "1"}),
        (3, {"sockets": "1", "dies": "1", "cores": "3", "threads": "1"}),
    ],
)
def test_more_cpus_are_more_cores(count: int, topology: Any) -> None:
    after = safe_xml.parse(patch(_dump("windows"), [Edit("vcpus", {"count": count})]))
    assert {name: after.find("cpu/topology").get(name) for name in topology} == topology


@pytest.mark.parametrize(
    ("count", "topology", "cells"),
    [(16, "2 4 2", ["0-7", "8-15"]), (9, "none", ["0-3", "4-8"]), (1, "none", [None, "0-0"])],
)
def test_cpus_are_shared_out_among_numa_cells(count: int, topology: str, cells: List[Any]) -> None:
    after = safe_xml.parse(patch(_dump("numa-cells"), [Edit("vcpus", {"count": count})]))
    found = after.find("cpu/topology")
    told = "none" if found is None else " ".join(found.get(name) for name in ("sockets", "cores", "threads"))
    assert told == topology
    assert [cell.get("cpus") for cell in after.iterfind("cpu/numa/cell")] == cells


def test_another_image_is_encrypted_like_the_one_before() -> None:
    edit = Edit("disk_set", {"target": "vda", "field": "source", "value": "/srv/new.qcow2", "kind": "file"})
    source = safe_xml.parse(patch(_dump("encryption"), [edit])).find("devices/disk/source")
    assert source.get("file") == "/srv/new.qcow2"
    assert source.find("encryption/secret").get("uuid") == "0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f"


def test_what_goes_with_spice_goes() -> None:
    after = safe_xml.parse(patch(_dump("spice"), [Edit("graphics", {"kind": "vnc"})]))
    assert [node.get("type") for node in after.iterfind("devices/graphics")] == ["vnc"]
    assert not [node.tag for node in after.find("devices") if (node.get("type") or "").startswith("spice")]


def test_a_disk_on_another_bus_finds_a_free_place() -> None:
    """vda by its letter would be where the CD-ROM sda is."""
    edit = Edit("disk_set", {"target": "vda", "field": "bus", "value": "sata"})
    disk = safe_xml.parse(patch(_dump("cloud-init"), [edit])).find("devices/disk")
    assert (disk.find("target").get("bus"), disk.find("address").get("unit")) == ("sata", "1")


def _dump(name: str) -> str:
    return next(dump.kept for dump in dumped.dumps() if dump.name == name)


def test_a_first_scsi_disk_brings_a_controller_that_clouds_know() -> None:
    disk = Edit("disk_add", {"disk": Disk(target="sdz", device="cdrom", bus="scsi", source="/a.iso", optional=True)})
    added = _lines(PLAIN, patch(PLAIN, [disk]))
    assert '+<controller type="scsi" index="0" model="virtio-scsi"/>' in added
    assert '+<source file="/a.iso" startupPolicy="optional"/>' in added
    again = Edit("disk_add", {"disk": Disk(target="sdy", bus="scsi", source="/b.img")})
    assert sum("<controller" in line for line in _lines(PLAIN, patch(PLAIN, [disk, again]))) == 1


def test_what_is_remembered_of_a_seed_stands_beside_the_values_of_the_user() -> None:
    edits = [Edit("metadata", {"values": {"group": "web"}}), Edit("seed_record", {"record": "a b"})]
    assert dict(read_domain(patch(PLAIN, edits)).metadata) == {"group": "web", "cloud_init": "a b"}
    assert read_domain(patch(PLAIN, edits[1:] + [Edit("seed_record", {"record": "c"})])).metadata["cloud_init"] == "c"
