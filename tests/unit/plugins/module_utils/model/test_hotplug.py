# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a running board lets in, and devices that keep their place between it and the definition."""

from __future__ import annotations

from ansible_collections.kvmops.fleet.plugins.module_utils.model.hotplug import Room
from ansible_collections.kvmops.fleet.plugins.module_utils.model.hotplug_xml import (
    alias_of,
    as_plugged,
    device_xml,
    has_alias,
    read_room,
    to_plug,
)

PORT = "<address type='pci' domain='0x0000' bus='0x00' slot='0x0%d' function='0x0'/>"
IN_PORT = "<address type='pci' domain='0x0000' bus='0x%02x' slot='0x00' function='0x0'/>"
BOARD = "<controller type='pci' index='0' model='pcie-root'/>" + "".join(
    "<controller type='pci' index='%d' model='pcie-root-port'>%s</controller>" % (number, PORT % number)
    for number in (1, 2, 3)
)
CARD = "<interface type='bridge'>%s<source bridge='br0'/>%s</interface>"
MAC = "<mac address='52:54:00:00:00:01'/>"


def domain(*devices: str, rest: str = "") -> str:
    return "<domain type='qemu'>%s<devices>%s</devices></domain>" % (rest, "".join(devices))


def test_ports_are_counted_on_a_pci_express_board_only() -> None:
    assert read_room(domain(BOARD)).pci_ports == 3
    assert read_room(domain(BOARD, CARD % (MAC, IN_PORT % 2))).pci_ports == 2
    closed = BOARD.replace(
        "index='3' model='pcie-root-port'>", "index='3' model='pcie-root-port'><target hotplug='off'/>"
    )
    assert read_room(domain(closed)).pci_ports == 2
    assert read_room(domain("<controller type='pci' index='0' model='pci-root'/>")).pci_ports is None


def test_the_rest_of_the_room() -> None:
    vcpus = "".join(
        "<vcpu id='%d' enabled='%s' hotpluggable='%s'/>" % (number, enabled, pluggable)
        for number, (enabled, pluggable) in enumerate([("yes", "no"), ("yes", "yes"), ("no", "yes")])
    )
    room = read_room(domain("<memballoon model='none'/>", rest="<vcpus>%s</vcpus>" % vcpus))
    assert room == Room(removable_vcpus=1, balloon=False)
    assert read_room(domain("<memballoon model='virtio'/><controller type='scsi'/>")) == Room(scsi=True)


def test_a_device_and_its_name() -> None:
    live = domain(CARD % (MAC, "<alias name='net0'/>"))
    assert alias_of(live, "interface", "52:54:00:00:00:01") == "net0"
    assert alias_of(live, "interface", "52:54:00:00:00:02") is None
    assert has_alias(live, "net0") and not has_alias(live, "net1")
    assert "br0" in device_xml(domain(CARD % ("", "")), "interface", None)


def test_a_plugged_card_keeps_its_address_and_place_at_the_next_boot() -> None:
    live = domain(BOARD, CARD % (MAC, IN_PORT % 2))
    after = as_plugged(domain(BOARD, CARD % ("", "")), "interface", None, live, "52:54:00:00:00:01")
    assert 'address="52:54:00:00:00:01"' in after and 'bus="0x02"' in after


def test_a_place_that_is_taken_or_another_is_not_kept() -> None:
    live = domain(BOARD, CARD % (MAC, IN_PORT % 2))
    other = CARD % ("<mac address='52:54:00:00:00:02'/>", IN_PORT % 2)
    after = as_plugged(domain(BOARD, other, CARD % ("", "")), "interface", None, live, "52:54:00:00:00:01")
    assert after.count('bus="0x02"') == 1
    swapped = (
        BOARD.replace("index='1'", "index='9'").replace("index='2'", "index='1'").replace("index='9'", "index='2'")
    )
    assert 'bus="0x02"' not in as_plugged(
        domain(swapped, CARD % ("", "")), "interface", None, live, "52:54:00:00:00:01"
    )
    assert 'bus="0x02"' not in as_plugged(domain(CARD % ("", "")), "interface", None, live, "52:54:00:00:00:01")


def test_a_defined_place_that_is_taken_in_the_running_guest_is_left_out() -> None:
    defined = domain(BOARD, CARD % (MAC, IN_PORT % 2))
    assert 'bus="0x02"' in to_plug(defined, "interface", "52:54:00:00:00:01", domain(BOARD))
    taken = domain(BOARD, "<disk><target dev='vda'/>%s</disk>" % (IN_PORT % 2))
    assert 'bus="0x02"' not in to_plug(defined, "interface", "52:54:00:00:00:01", taken)
