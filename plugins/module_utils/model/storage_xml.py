# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pool and volume XML."""

from __future__ import annotations

from typing import Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model import edit_xml, safe_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.storage import NewVolume, Volume

VOLUME_MODE = "0600"


def pool_type(xml: str) -> str:
    return str(safe_xml.parse(xml, "pool XML").get("type", ""))


def pool_path(xml: str) -> Optional[str]:
    return safe_xml.text_of(safe_xml.parse(xml, "pool XML"), "target/path") or None


def pool_owner(xml: str) -> Optional[Tuple[int, int]]:
    """User and group of a network pool's directory, as numbers: there root is nobody, and libvirt must make volumes as them.

    None for pools where root may do all, and where the directory is root's.
    """
    root = safe_xml.parse(xml, "pool XML")
    owner, group = (safe_xml.text_of(root, "target/permissions/" + name) for name in ("owner", "group"))
    if root.get("type") != "netfs" or not (owner or "").isdigit() or not (group or "").isdigit() or int(owner) == 0:
        return None
    return int(owner), int(group)


def read_volume(xml: str, pool: str) -> Volume:
    """A <volume> as libvirt prints it (sizes in bytes)."""
    root = safe_xml.parse(xml, "volume XML")
    return Volume(
        pool=pool,
        name=safe_xml.text_of(root, "name"),
        path=safe_xml.text_of(root, "target/path") or safe_xml.text_of(root, "key"),
        format=_format(root, "target/format"),
        capacity_bytes=int(safe_xml.text_of(root, "capacity") or 0),
        allocation_bytes=int(safe_xml.text_of(root, "allocation") or 0),
        backing=safe_xml.text_of(root, "backingStore/path") or None,
        backing_format=_format(root, "backingStore/format"),
    )


def _format(root: safe_xml.Element, path: str) -> Optional[str]:
    node = root.find(path)
    kind = node.get("type") if node is not None else None
    return None if kind in (None, "unknown") else str(kind)


def volume_xml(volume: NewVolume) -> str:
    """A sparse volume readable by its owner only. libvirt gives it to the guest's user when the guest starts."""
    root = safe_xml.parse("<volume/>")
    edit_xml.add(root, "name", text=volume.name)
    edit_xml.add(root, "capacity", {"unit": "bytes"}, str(volume.capacity_bytes))
    edit_xml.add(root, "allocation", {"unit": "bytes"}, "0")
    target = edit_xml.add(root, "target")
    edit_xml.add(target, "format", {"type": volume.format})
    permissions = edit_xml.add(target, "permissions")
    edit_xml.add(permissions, "mode", text=VOLUME_MODE)
    if volume.owner is not None:
        edit_xml.add(permissions, "owner", text=str(volume.owner[0]))
        edit_xml.add(permissions, "group", text=str(volume.owner[1]))
    if volume.backing is not None:
        below = edit_xml.add(root, "backingStore")
        edit_xml.add(below, "path", text=volume.backing)
        edit_xml.add(below, "format", {"type": volume.backing_format or "raw"})
    return safe_xml.render(root)
