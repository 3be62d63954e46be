# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Round trips of many different domains, as real libvirts keep them. See tests/tools/domain_dumps."""

from __future__ import annotations

from typing import Set

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model import safe_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_diff_xml import differences
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_merge_xml import merge
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_patch_xml import patch
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_xml import read_domain
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils import dumped
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.dumped import Dump

DUMPS = dumped.dumps()

# What a release takes and does not keep, without a word; kvm_domain warns of it.
NOT_KEPT = {
    "9.0 audio-usb": ["sound.multichannel"],
    "9.0 crypto": ["crypto"],
    "9.0 iothreadids": ["iothreadids.iothread.poll"],
    "9.0 network-nbd": ["disk vdc.source.reconnect"],
    "9.0 network-ssh": ["disk vda.source.identity", "disk vda.source.knownHosts"],
    "9.0 virtiofs-idmap": ["filesystem share.idmap"],
}


@pytest.mark.parametrize("dump", DUMPS, ids=str)
def test_a_patch_without_edits_changes_nothing(dump: Dump) -> None:
    again = patch(dump.kept, ())
    assert dumped.canonical(again) == dumped.canonical(dump.kept)
    assert patch(again, ()) == again


@pytest.mark.parametrize("dump", DUMPS, ids=str)
def test_it_is_read_as_it_stands(dump: Dump) -> None:
    domain = read_domain(dump.kept)
    root = safe_xml.parse(dump.kept)
    assert (domain.name, domain.uuid) == (dump.name, root.findtext("uuid"))
    assert domain.memory_mib == -(-int(root.findtext("memory")) // 1024)
    assert [disk.target for disk in domain.disks] == [node.get("dev") for node in root.iterfind("devices/disk/target")]
    assert [nic.mac for nic in domain.nics] == [node.get("address") for node in root.iterfind("devices/interface/mac")]
    sources = [disk.source is not None for disk in domain.disks]
    assert sources == [node.find("source") is not None for node in root.iterfind("devices/disk")]


@pytest.mark.parametrize("dump", DUMPS, ids=str)
def test_a_dump_given_back_is_no_difference(dump: Dump) -> None:
    assert differences(dump.kept, dump.kept) == ()
    assert dumped.canonical(merge(dump.kept, dump.kept)) == dumped.canonical(dump.kept)


@pytest.mark.parametrize("dump", DUMPS, ids=str)
def test_the_definition_it_was_made_from_is_no_difference(dump: Dump) -> None:
    told = differences(merge(dump.given, dump.kept), dump.kept)
    assert [change.key for change in told] == NOT_KEPT.get(str(dump), []), [change.words for change in told]


@pytest.mark.parametrize("version", dumped.VERSIONS)
def test_every_definition_was_given_to_every_release(version: str) -> None:
    kept = {dump.name for dump in DUMPS if dump.version == version}
    no = dumped.refused(version)
    assert kept.isdisjoint(no)
    assert kept | set(no) == set(dumped.GIVEN)
    assert len(kept) >= 100
    assert all(no.values())


# Of these a change cannot be told: secrets, which no dump shows, and values that libvirt chooses or drops.
_UNTOLD = {
    "cookies/cookie",
    "cookies/cookie@name",
    "devices/graphics@passwd",
    "devices/graphics@passwdValidTo",
    "domain/cpu@match",
    "devices/console@type",
    "console/target@port",
    "interface/target@dev vnet9",
}


@pytest.mark.parametrize("dump", [dump for dump in DUMPS if dump.version == dumped.VERSIONS[0]], ids=str)
def test_every_changed_value_is_a_difference(dump: Dump) -> None:
    """The tables of what libvirt adds and spells differently hide nothing that somebody means."""
    root = safe_xml.parse(dump.given)
    same = _told(root, dump.kept)
    hidden = set()
    for node in root.iter():
        where = "%s/%s" % (node.getparent().tag if node is not root else "", node.tag)
        for name in node.attrib if isinstance(node.tag, str) else ():
            value = str(node.get(name))
            node.set(name, value + "1")
            if _told(root, dump.kept) <= same:
                hidden.add("%s@%s %s" % (where, name, value))
            node.set(name, value)
        if len(node) == 0 and node.text and isinstance(node.tag, str):
            value, node.text = node.text, node.text.strip() + "1"
            if _told(root, dump.kept) <= same:
                hidden.add("%s %s" % (where, value))
            node.text = value
    assert {one for one in hidden if not {one, one.split(" ")[0]} & _UNTOLD} == set()


def _told(root: safe_xml.Element, kept: str) -> Set[str]:
    return {change.words for change in differences(merge(safe_xml.render(root), kept), kept)}


@pytest.mark.parametrize(
    ("name", "gone", "key"),
    [
        ("disks-virtio", "devices/disk/driver", "disk vda.driver.cache"),
        ("disks-virtio", "devices/disk/serial", "disk vda.serial"),
        ("clock-variable", "clock", "clock.timer rtc"),
        ("events", "on_crash", "on_crash"),
        ("consoles", "devices/console[target/@port='2']", "console virtio"),
        ("serials", "devices/serial/log", "serial.log"),
        ("inputs", "devices/input", "input"),
        ("cputune", "vcpu", "vcpu"),
        ("hugepages-plain", "currentMemory", "currentMemory"),
        ("hostdev-pci", "devices/hostdev", "hostdev"),
        ("net-qos", "devices/interface/bandwidth", "interface 52:54:00:01:07:01.bandwidth"),
        ("qemu-override", "devices/disk/alias", "disk vda.alias"),
    ],
)
def test_what_is_taken_out_is_a_difference(name: str, gone: str, key: str) -> None:
    dump = next(dump for dump in DUMPS if dump.name == name)
    root = safe_xml.parse(dump.given)
    node = root.xpath(gone)[0]
    node.getparent().remove(node)
    told = differences(merge(safe_xml.render(root), dump.kept), dump.kept)
    assert key in [change.key for change in told]


def test_what_libvirt_made_up_is_kept() -> None:
    """Given once more without it, the guest keeps its generation, and the switch its port."""
    for name, path, attribute in (
        ("genid", "genid", None),
        ("net-bridge-vlan", "devices/interface[2]/virtualport/parameters", "interfaceid"),
        ("net-bridge-vlan", "devices/interface[2]/virtualport/parameters", "instanceid"),
    ):
        dump = next(dump for dump in DUMPS if dump.name == name)
        merged, kept = safe_xml.parse(merge(dump.given, dump.kept)), safe_xml.parse(dump.kept)
        values = [node.get(attribute) if attribute else node.text for node in (merged.find(path), kept.find(path))]
        assert values[0] == values[1]
        assert values[0]
