# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Devices between a definition and the guest that runs: taken out of one XML, fitted into the other."""

from __future__ import annotations

from typing import Any, Iterator, Optional, Set, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model import edit_xml, safe_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.hotplug import Room

Element = safe_xml.Element

# What recognises a device among its like: (child, attribute).
_KEYS = {"disk": ("target", "dev"), "interface": ("mac", "address")}
SCSI_CONTROLLER = '<controller type="scsi" model="virtio-scsi"/>'


def read_room(xml: str) -> Room:
    """From the XML of a running domain."""
    root = safe_xml.parse(xml, "domain XML")
    balloon = root.find("devices/memballoon")
    return Room(
        pci_ports=_free_ports(root),
        removable_vcpus=len(root.findall("vcpus/vcpu[@enabled='yes'][@hotpluggable='yes']")),
        balloon=balloon is not None and balloon.get("model") != "none",
        scsi=root.find("devices/controller[@type='scsi']") is not None,
    )


def _free_ports(root: Element) -> Optional[int]:
    """Only a PCI Express root has ports that are used up; an older board has slots to spare (libvirt: pci-hotplug)."""
    controllers = root.findall("devices/controller[@type='pci']")
    if not any(node.get("model") == "pcie-root" for node in controllers):
        return None
    used = {address.get("bus") for address in root.iterfind("devices/*/address[@type='pci']")}
    taken = {int(str(bus), 0) for bus in used if bus is not None}
    ports = [
        int(node.get("index", "0"))
        for node in controllers
        if node.get("model") == "pcie-root-port" and node.find("target[@hotplug='off']") is None
    ]
    return len([index for index in ports if index not in taken])


def macs(xml: str) -> Tuple[str, ...]:
    return tuple(safe_xml.attributes(safe_xml.parse(xml, "domain XML"), "devices/interface/mac", "address"))


def alias_of(xml: str, kind: str, key: str) -> Optional[str]:
    """libvirt's name of the running device; None when it is not there."""
    node = _find(safe_xml.parse(xml, "domain XML"), kind, key)
    alias = node.find("alias") if node is not None else None
    return alias.get("name") if alias is not None else None


def has_alias(xml: str, alias: str) -> bool:
    return alias in safe_xml.attributes(safe_xml.parse(xml, "domain XML"), "devices/*/alias", "name")


def device_xml(xml: str, kind: str, key: Optional[str]) -> str:
    """The device as XML of its own. kind: disk or interface. key: its target or MAC; None: the card that has none yet."""
    node = _find(safe_xml.parse(xml, "domain XML"), kind, key)
    if node is None:
        raise KeyError(key)
    return safe_xml.render(node)


def to_plug(definition: str, kind: str, key: Optional[str], live: str) -> str:
    """The defined device, for the running guest: at its own address where that is free there, else where libvirt puts it."""
    device = safe_xml.parse(device_xml(definition, kind, key), "device XML")
    address = device.find("address")
    if address is not None and _place(address) in set(_places(safe_xml.parse(live, "domain XML"))):
        device.remove(address)
    return safe_xml.render(device)


def as_plugged(definition: str, kind: str, key: Optional[str], live: str, live_key: str) -> str:
    """The definition after a device was plugged in: with the MAC and the place that it has in the running guest.

    Else the next boot would find it in another place, and under another name.
    """
    root, running = safe_xml.parse(definition, "domain XML"), safe_xml.parse(live, "domain XML")
    device, plugged = _find(root, kind, key), _find(running, kind, live_key)
    if device is None or plugged is None:
        return definition
    if kind == "interface" and device.find("mac") is None:
        device.insert(0, edit_xml.new(device, "mac", {"address": live_key}))
    address = plugged.find("address[@type='pci']")
    if address is not None and device.find("address") is None and _fits(address, root, running):
        device.append(edit_xml.new(device, "address", dict(address.attrib)))
    return safe_xml.render(root)


def _fits(address: Element, root: Element, running: Element) -> bool:
    """The place is free in the definition, and its bus is the same thing there."""
    bus = str(int(str(address.get("bus", "0")), 0))
    same = [
        [
            (node.get("model"), _own_place(node))
            for node in tree.iterfind("devices/controller[@type='pci']")
            if node.get("index") == bus
        ]
        for tree in (root, running)
    ]
    return bool(same[0]) and same[0] == same[1] and _place(address) not in set(_places(root))


def _own_place(node: Element) -> Any:
    address = node.find("address")
    return _place(address) if address is not None else None


def _places(root: Element) -> Iterator[Any]:
    for address in root.iterfind("devices/*/address"):
        yield _place(address)


def _place(address: Element) -> Any:
    """One spelling of an address; `multifunction` is no part of the place."""
    values: Set[Tuple[str, str]] = set()
    for name, value in address.attrib.items():
        if name != "multifunction":
            text = str(value)
            values.add((str(name), str(int(text, 0)) if text[:2] == "0x" or text.isdigit() else text))
    return tuple(sorted(values))


def _find(root: Element, kind: str, key: Optional[str]) -> Optional[Element]:
    child, attribute = _KEYS[kind]
    for node in root.iterfind("devices/%s" % kind):
        named = node.find(child)
        value = named.get(attribute) if named is not None else None
        if value == key:
            return node
    return None
