# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The definition of a copy: what is its own, what stays, and what cannot be had by two."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.kvmops.fleet.plugins.module_utils.model.clone import Clone, DiskCopy
from ansible_collections.kvmops.fleet.plugins.module_utils.model.clone_xml import clone_xml, oddities
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_xml import read_domain

FOLDER = Path(__file__).parent / "xml"
UUID = "6a3d9e8f-1111-4222-8333-444455556666"
GOLD = """
<domain type='qemu'>
  <name>gold</name><uuid>%s</uuid><genid>%s</genid><title>a title</title>
  <metadata>
    <k:fleet xmlns:k='urn:kvmops:fleet:1'><k:group>web</k:group><k:cloud_init>salt user-data=00</k:cloud_init></k:fleet>
    <x:else xmlns:x='urn:x'>kept</x:else>
  </metadata>
  <memory unit='MiB'>64</memory><vcpu>1</vcpu>
  <sysinfo type='smbios'><system><entry name='uuid'>%s</entry><entry name='sku'>7</entry></system></sysinfo>
  <os firmware='efi'><type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <nvram template='/usr/share/OVMF/OVMF_VARS.fd'>/var/lib/libvirt/qemu/nvram/gold_VARS.fd</nvram></os>
  <devices>
    <disk type='volume' device='disk'><driver name='qemu' type='qcow2' cache='none'/>
      <source pool='default' volume='gold.qcow2'/><backingStore type='file'/><target dev='vda' bus='virtio'/><serial>S1</serial></disk>
    <disk type='file' device='cdrom'><source file='/i/gold-cidata.iso'/><target dev='sda' bus='scsi'/></disk>
    <disk type='file' device='cdrom'><source file='/i/install.iso'/><target dev='sdb' bus='scsi'/></disk>
    <interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/><target dev='tap7'/><model type='virtio'/></interface>
    <serial type='pty'><log file='/var/log/gold.log' append='on'/></serial>
    <graphics type='vnc' port='5999' autoport='no' passwd='geheim'/>
    <vsock><cid auto='no' address='3'/></vsock>
  </devices>
</domain>""" % (UUID, UUID, UUID)
CLONE = Clone(
    source="gold",
    name="web1",
    disks=(DiskCopy("vda", "/i/gold.qcow2", "/i/web1.qcow2", "qcow2", "default"),),
    macs=("52:54:00:00:00:02",),
    dropped=("sda",),
    nvram="/var/lib/libvirt/qemu/nvram/web1_VARS.fd",
    serial_log="/var/log/web1.log",
)


def test_nothing_of_its_own_is_left() -> None:
    text = clone_xml(GOLD, CLONE)
    for own in (UUID, "gold", "tap7", "52:54:00:00:00:01", "5999", "salt", 'address="3"', "backingStore"):
        assert own not in text, own


def test_all_else_stays() -> None:
    text = clone_xml(GOLD, CLONE)
    for kept in ("a title", "kept", "sku", "geheim", "S1", 'cache="none"', "OVMF_VARS.fd", "/i/install.iso"):
        assert kept in text, kept
    domain = read_domain(text)
    assert (domain.name, domain.uuid, dict(domain.metadata)) == ("web1", "", {"group": "web"})
    assert [(disk.kind, disk.source) for disk in domain.disks] == [
        ("file", "/i/web1.qcow2"),
        ("file", "/i/install.iso"),
    ]
    assert (domain.nvram, domain.serial_log) == (CLONE.nvram, CLONE.serial_log)
    assert [nic.mac for nic in domain.nics] == ["52:54:00:00:00:02"]


def test_a_uuid_that_was_given_is_taken() -> None:
    given = "11111111-2222-4333-8444-555555555555"
    assert read_domain(clone_xml(GOLD, Clone(source="gold", name="web1", uuid=given))).uuid == given


def test_what_two_cannot_have_is_told() -> None:
    assert list(oddities(GOLD)) == []
    exotic = (FOLDER / "exotic.libvirt-9.0.xml").read_text(encoding="utf-8")
    assert [words.split(" (")[-1] for words in oddities(exotic)] == [
        "hostdev)",
        "it has the TPM of the host",
        "qemu:commandline)",
    ]
    odd = """<domain><devices><disk><target dev='vda'/><encryption format='luks'/></disk>
    <serial type='file'><source path='/var/log/x'/></serial><channel type='unix'><target type='virtio'/></channel></devices></domain>"""
    assert list(oddities(odd)) == ["disk vda is encrypted", "its serial is /var/log/x of the host"]
