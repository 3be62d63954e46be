# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Network cards, graphics, TPM and serial line of a domain's XML."""

from __future__ import annotations

from typing import Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.model import edit_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Nic
from ansible_collections.kvmops.fleet.plugins.module_utils.model.safe_xml import Element

# Seen from outside this host only through a tunnel: whoever wants it open says so in `xml`.
GRAPHICS_LISTEN = "127.0.0.1"
# What a driver has with virtio devices only; libvirt refuses it with others.
OF_VIRTIO = ("iommu", "ats", "packed", "page_per_vq")


def add_nic(root: Element, nic: Nic) -> None:
    node = edit_xml.new(root, "interface", {"type": nic.kind})
    if nic.mac:
        edit_xml.add(node, "mac", {"address": nic.mac})
    edit_xml.add(node, "source", {nic.kind: nic.source})
    edit_xml.add(node, "model", {"type": nic.model})
    if nic.link is not None:
        edit_xml.add(node, "link", {"state": nic.link})
    devices = root.find("devices")
    before = devices.findall("interface") or devices.findall("controller") or devices.findall("disk")
    if before:
        before[-1].addnext(node)
    else:
        devices.append(node)


def _find(root: Element, mac: str) -> Element:
    for node in root.iterfind("devices/interface"):
        if node.find("mac") is not None and node.find("mac").get("address") == mac:
            return node
    raise KeyError(mac)


def set_nic(
    root: Element,
    mac: str,
    kind: Optional[str] = None,
    source: Optional[str] = None,
    model: Optional[str] = None,
    new_mac: Optional[str] = None,
    link: Optional[str] = None,
) -> None:
    """Change what is given of the card with that MAC address."""
    node = _find(root, mac)
    if kind and source:
        node.set("type", kind)
        element = edit_xml.get_or_add(node, "source", ("target", "model"))
        element.attrib.clear()
        element.set(kind, source)
    if model:
        edit_xml.get_or_add(node, "model", ("address",)).set("type", model)
        driver = node.find("driver")
        for name in OF_VIRTIO if driver is not None and not model.startswith("virtio") else ():
            edit_xml.set_attribute(driver, name, None)
    if link:
        edit_xml.get_or_add(node, "link", ("boot", "alias", "address")).set("state", link)
    if new_mac:
        node.find("mac").set("address", new_mac)


def drop_nic(root: Element, mac: str) -> None:
    node = _find(root, mac)
    node.getparent().remove(node)


def set_graphics(root: Element, kind: str) -> None:
    """kind: none, vnc or spice. None of a kind is left beside it."""
    devices = root.find("devices")
    kept = [node for node in devices.findall("graphics") if node.get("type") == kind]
    place = edit_xml.place_of(devices, "graphics")
    for node in devices.findall("graphics"):
        if node not in kept:
            devices.remove(node)
    if kind == "none":
        edit_xml.drop(devices, "video")
    elif not kept:
        node = edit_xml.new(devices, "graphics", {"type": kind, "autoport": "yes", "listen": GRAPHICS_LISTEN})
        edit_xml.add(node, "listen", {"type": "address", "address": GRAPHICS_LISTEN})
        devices.insert(place, node)
    if kind != "spice":
        _drop_spice(devices)


def _drop_spice(devices: Element) -> None:
    """What nothing but a SPICE screen can carry; QEMU does not start with it alone."""
    for node in list(devices):
        if node.get("type") in ("spicevmc", "spiceport"):
            devices.remove(node)
        elif node.tag == "audio" and node.get("type") == "spice":
            node.set("type", "none")


def set_tpm(root: Element, kind: str) -> None:
    """kind: none, or emulator (a TPM 2.0)."""
    devices = root.find("devices")
    place = edit_xml.place_of(devices, "tpm")
    edit_xml.drop(devices, "tpm")
    if kind == "emulator":
        node = edit_xml.new(devices, "tpm", {"model": "tpm-crb"})
        edit_xml.add(node, "backend", {"type": kind, "version": "2.0"})
        devices.insert(place, node)


def _view_of(devices: Element) -> Optional[Element]:
    """The console that is the first serial line once more, which libvirt keeps equal to it."""
    console = devices.find("console")
    target = console.find("target") if console is not None else None
    return console if target is None or target.get("type", "serial") == "serial" else None


def set_serial_log(root: Element, path: Optional[str]) -> None:
    """Copy what the guest writes on its first serial line to a file of the host; None or empty stops that."""
    devices = root.find("devices")
    serial = devices.find("serial")
    if serial is None:
        serial = edit_xml.add(devices, "serial", {"type": "pty"})
        edit_xml.add(serial, "target", {"port": "0"})
    for node in (serial, _view_of(devices)):
        if node is not None:
            edit_xml.drop(node, "log")
    if path:
        edit_xml.add(serial, "log", {"file": path, "append": "on"})
