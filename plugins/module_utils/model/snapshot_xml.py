# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""libvirt's XML of a snapshot: formatsnapshot.html."""

from __future__ import annotations

from typing import List, Optional, Sequence

from ansible_collections.kvmops.fleet.plugins.module_utils.model import safe_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.edit_xml import add
from ansible_collections.kvmops.fleet.plugins.module_utils.model.safe_xml import parse, text_of
from ansible_collections.kvmops.fleet.plugins.module_utils.model.snapshot import EXTERNAL, INTERNAL, Snapshot

_PART = (INTERNAL, EXTERNAL)


def read_snapshot(xml: str, current: bool) -> Snapshot:
    """current: libvirt tells it beside the record."""
    root = parse(xml, "XML of a snapshot")
    parts = {disk.get("name"): disk.get("snapshot") for disk in root.iterfind("disks/disk")}
    memory = safe_xml.attributes(root, "memory", "snapshot")
    outside = EXTERNAL in parts.values() or EXTERNAL in memory
    return Snapshot(
        name=text_of(root, "name"),
        kind=EXTERNAL if outside else INTERNAL,
        created=int(text_of(root, "creationTime") or 0),
        state=text_of(root, "state"),
        parent=text_of(root, "parent/name") or None,
        description=text_of(root, "description") or None,
        memory=bool(memory) and memory[0] != "no",
        disks=tuple(sorted(name for name, part in parts.items() if part in _PART)),
        current=current,
    )


def write_snapshot(
    name: str, description: Optional[str], kind: str, disks: Sequence[str], left_out: Sequence[str]
) -> str:
    """What libvirt makes a snapshot of. disks, left_out: targets."""
    root = parse("<domainsnapshot/>")
    add(root, "name", text=name)
    if description:
        add(root, "description", text=description)
    if kind == EXTERNAL:
        add(root, "memory", {"snapshot": "no"})
    listed = add(root, "disks")
    for target in disks:
        add(listed, "disk", {"name": target, "snapshot": kind})
    for target in left_out:
        add(listed, "disk", {"name": target, "snapshot": "no"})
    return safe_xml.render(root)


def new_files(xml: str) -> List[str]:
    """The files that the guest writes to since an external snapshot."""
    found = parse(xml, "XML of a snapshot").iterfind("disks/disk[@snapshot='external']/source[@file]")
    return [source.get("file") for source in found]


def agent_is_connected(xml: str) -> bool:
    """Whether the guest has opened its end of the agent's channel, by the XML of a running domain."""
    for target in parse(xml, "XML of a running domain").iterfind("devices/channel/target"):
        if target.get("name") == "org.qemu.guest_agent.0":
            return bool(target.get("state") == "connected")
    return False
