# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks of a domain's XML: add, change, remove."""

from __future__ import annotations

from typing import Any, Optional
from urllib.parse import urlsplit

from ansible_collections.kvmops.fleet.plugins.module_utils.model import edit_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Disk
from ansible_collections.kvmops.fleet.plugins.module_utils.model.safe_xml import Element

_SOURCE_ATTRIBUTE = {"file": "file", "block": "dev"}
# Ports of the first controller: AHCI has 6, and the first target of any SCSI controller at least 7 LUNs.
_PLACES = {"sata": 6, "scsi": 7}
_AFTER_SOURCE = ("backingStore", "mirror", "target", "iotune", "readonly", "shareable", "serial", "boot")
# What the driver can do on one bus only; libvirt refuses it on another.
_OF_VIRTIO = ("iothread", "queues", "queue_size", "event_idx", "ioeventfd", "iommu", "ats", "packed", "page_per_vq")


def add_disk(root: Element, disk: Disk) -> None:
    node = edit_xml.new(root, "disk", {"type": disk.kind, "device": disk.device})
    edit_xml.add(node, "driver", {"name": "qemu", "type": disk.format, "cache": disk.cache, "discard": disk.discard})
    edit_xml.add(node, "target", {"dev": disk.target, "bus": disk.bus})
    _set_source(node, disk.kind, disk.source)
    if disk.optional:
        node.find("source").set("startupPolicy", "optional")
    edit_xml.set_flag(node, "readonly", disk.readonly)
    edit_xml.set_flag(node, "shareable", disk.shareable)
    edit_xml.set_text(node, "serial", disk.serial)
    _insert(root.find("devices"), node)
    if disk.bus == "scsi" and root.find("devices/controller[@type='scsi']") is None:
        # libvirt would take an LSI Logic of the nineties, for which cloud images have no driver.
        edit_xml.add(root.find("devices"), "controller", {"type": "scsi", "index": "0", "model": "virtio-scsi"})


def _insert(devices: Element, node: Element) -> None:
    """Behind the last disk, so that the order in the guest is the order in the task."""
    disks = devices.findall("disk")
    if disks:
        disks[-1].addnext(node)
    else:
        emulator = devices.find("emulator")
        devices.insert(0 if emulator is None else devices.index(emulator) + 1, node)


def _find(root: Element, target: str) -> Element:
    for node in root.iterfind("devices/disk"):
        if node.find("target") is not None and node.find("target").get("dev") == target:
            return node
    raise KeyError(target)


def set_disk(root: Element, target: str, field: str, value: Any, kind: str = "file") -> None:
    """field: one of Disk's. kind goes with a new source."""
    node = _find(root, target)
    if field == "source":
        _set_source(node, kind, value)
    elif field in ("format", "cache", "discard"):
        driver = edit_xml.get_or_add(node, "driver", ("auth", "source", "target"))
        edit_xml.set_attribute(driver, "type" if field == "format" else field, value)
    elif field == "bus":
        _set_bus(node, value)
    elif field == "device":
        node.set("device", value)
    elif field in ("readonly", "shareable"):
        edit_xml.set_flag(node, field, bool(value))
    elif field == "serial":
        edit_xml.set_text(node, "serial", value)
    else:
        raise KeyError(field)


def _set_bus(node: Element, bus: str) -> None:
    """With what only the old bus has."""
    edit_xml.drop(node, "address")
    _plug_in(node, bus)
    node.find("target").set("bus", bus)
    if bus not in ("usb", "scsi"):
        edit_xml.set_attribute(node.find("target"), "removable", None)
    driver = node.find("driver")
    if bus != "virtio":
        edit_xml.set_attribute(node, "model", None)
        for name in _OF_VIRTIO if driver is not None else ():
            edit_xml.set_attribute(driver, name, None)


def _plug_in(node: Element, bus: str) -> None:
    """libvirt goes by the letter of the target: vda would have the place of sda, which another disk may have already."""
    index = ord(node.find("target").get("dev", "a")[-1]) - ord("a")
    taken = {
        int(other.find("address").get("unit", "0"))
        for other in node.getparent().iterfind("disk")
        if other.find("address[@type='drive'][@controller='0']") is not None
        and other.find("target").get("bus") == bus
        and other.find("address").get("target", "0") == "0"
    }
    free = [unit for unit in range(_PLACES.get(bus, 0)) if unit not in taken]
    if index in taken and free:
        place = {"type": "drive", "controller": "0", "bus": "0", "target": "0", "unit": str(free[0])}
        edit_xml.add(node, "address", place)


def drop_disk(root: Element, target: str) -> None:
    node = _find(root, target)
    node.getparent().remove(node)


def _set_source(node: Element, kind: str, source: Optional[str]) -> None:
    """What stands in the old source besides the place (encryption, labels, startupPolicy) stays with one of its kind."""
    alike = node.get("type") == kind and kind in _SOURCE_ATTRIBUTE and source is not None
    node.set("type", kind)
    edit_xml.drop(node, "backingStore")
    if not alike:
        edit_xml.drop(node, "source")
        edit_xml.drop(node, "auth")
    if source is None:
        return
    element = edit_xml.get_or_add(node, "source", _AFTER_SOURCE)
    edit_xml.set_attribute(element, "index", None)
    edit_xml.drop(element, "slices")
    if kind == "volume":
        pool, volume = source.split("/", 1)
        element.set("pool", pool)
        element.set("volume", volume)
    elif kind == "network":
        place = urlsplit(source)
        element.set("protocol", place.scheme)
        element.set("name", place.path if place.scheme in ("nfs", "ssh") else place.path.lstrip("/"))
        port = str(place.port) if place.port else None
        edit_xml.add(element, "host", {"name": place.hostname, "port": port})
    else:
        element.set(_SOURCE_ATTRIBUTE[kind], source)
