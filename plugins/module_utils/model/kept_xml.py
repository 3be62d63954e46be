# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The definition of a guest that has left: it says where to, and cannot start."""

from __future__ import annotations

from ansible_collections.kvmops.fleet.plugins.module_utils.model import safe_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import GUARD, METADATA_NS, MOVED_TO
from ansible_collections.kvmops.fleet.plugins.module_utils.model.edit_xml import add, get_or_add


def kept(xml: str, host: str) -> str:
    """The same definition, marked and guarded against a start. Taking the guard disk off lets it start again.

    The guard is a read-only disk whose file is never there: libvirt looks for the files of all disks before it starts
    anything, and its error says the path.
    """
    root = safe_xml.parse(xml, "definition")
    metadata = get_or_add(root, "metadata", before=("memory", "maxMemory", "vcpu", "os", "devices"))
    fleet = metadata.find("{%s}fleet" % METADATA_NS)
    if fleet is None:
        fleet = safe_xml.parse("<kvmops:fleet xmlns:kvmops='%s'/>" % METADATA_NS)
        metadata.append(fleet)
    tag = "{%s}%s" % (METADATA_NS, MOVED_TO)
    mark = fleet.find(tag)
    if mark is None:
        mark = add(fleet, tag)
    mark.text = host
    devices = root.find("devices")
    _drop_guard(devices)
    disk = add(devices, "disk", {"type": "file", "device": "disk"})
    add(disk, "driver", {"name": "qemu", "type": "raw"})
    add(disk, "source", {"file": GUARD % (safe_xml.text_of(root, "name"), host)})
    add(disk, "target", {"dev": _free_target(root), "bus": "virtio"})
    add(disk, "readonly")
    return safe_xml.render(root)


def _drop_guard(devices: safe_xml.Element) -> None:
    for disk in devices.findall("disk"):
        if (safe_xml.attributes(disk, "source", "file") or [""])[0].startswith(GUARD.split("%", maxsplit=1)[0]):
            devices.remove(disk)


def _free_target(root: safe_xml.Element) -> str:
    taken = set(safe_xml.attributes(root, "devices/disk/target", "dev"))
    return next(
        name for name in ("vd%s" % chr(letter) for letter in range(ord("z"), ord("a"), -1)) if name not in taken
    )
