# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The XML that a destination gets: what is mapped has its name there, and nothing else is touched."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import List

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model import safe_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.destination_xml import Redirect, redirected
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import RequestError

FOLDER = Path(__file__).parent / "xml"
KEPT = sorted(path.name for path in FOLDER.glob("*.libvirt-*.xml"))
PLUGGED = """<domain type='qemu'><name>web1</name><devices>
<disk type='file' device='disk'><source file='/a/web1.qcow2' index='1'/><target dev='vda'/></disk>
<disk type='file' device='cdrom'><target dev='sda'/></disk>
<disk type='network' device='disk'><source protocol='nfs' name='/a/web1.qcow2'/><target dev='vdb'/></disk>
<interface type='network'><mac address='52:54:00:00:00:01'/>
<source network='blue' portgroup='slow'/><target dev='vnet3'/></interface>
<interface type='bridge'><mac address='52:54:00:00:00:02'/><source bridge='blue'/></interface>
<interface type='direct'><mac address='52:54:00:00:00:03'/><source dev='eth1' mode='bridge'/></interface>
<interface type='user'><mac address='52:54:00:00:00:04'/></interface>
</devices></domain>"""


def changed(before: str, after: str) -> List[str]:
    """Lines that differ, as libvirt lays them out."""
    lines = [safe_xml.render(safe_xml.parse(text)).splitlines() for text in (before, after)]
    return [line.replace("  ", "") for line in difflib.ndiff(*lines) if line[0] in "+-"]


@pytest.mark.parametrize("name", KEPT)
def test_without_a_map_nothing_changes(name: str) -> None:
    xml = (FOLDER / name).read_text(encoding="utf-8")
    assert redirected(xml, Redirect()) == xml
    assert changed(xml, redirected(xml, Redirect(networks={("bridge", "br99"): ("bridge", "br1")}))) == []


@pytest.mark.parametrize(
    ("redirect", "expected"),
    [
        (Redirect(disks={"/a/web1.qcow2": "/b/web1.qcow2"}), ["/b/web1.qcow2"]),
        (
            Redirect(networks={("network", "blue"): ("network", "green")}),
            ['<source portgroup="slow" network="green"/>'],
        ),
        (Redirect(networks={("network", "blue"): ("bridge", "br0")}), ['<source bridge="br0"/>', 'type="bridge"']),
        (Redirect(networks={("bridge", "blue"): ("network", "lan")}), ['<source network="lan"/>', 'type="network"']),
        (Redirect(networks={("direct", "eth1"): ("direct", "enp1s0")}), ['<source mode="bridge" dev="enp1s0"/>']),
    ],
)
def test_what_is_mapped_and_only_that(redirect: Redirect, expected: List[str]) -> None:
    difference = changed(PLUGGED, redirected(PLUGGED, redirect))
    added = [line for line in difference if line.startswith("+")]
    assert len(added) == len(expected), difference
    assert all(any(words in line for line in added) for words in expected), difference


def test_a_name_is_data() -> None:
    """No name can become markup."""
    xml = redirected(PLUGGED, Redirect(networks={("bridge", "blue"): ("bridge", "\"/><x a='")}))
    sources = safe_xml.attributes(safe_xml.parse(xml), "devices/interface/source", "bridge")
    assert sources == ["\"/><x a='"] and safe_xml.parse(xml).find("devices/interface/x") is None


def test_a_doctype_is_refused() -> None:
    with pytest.raises(RequestError, match="DOCTYPE"):
        redirected("<!DOCTYPE domain><domain/>", Redirect(disks={"/a": "/b"}))
