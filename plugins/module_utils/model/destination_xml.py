# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A domain's XML as another host needs it: networks and images under the names that they have there.

It starts from libvirt's migratable form, in which a guest on a network names it also while it runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model import safe_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.safe_xml import Element

# Kind of an interface -> the attribute of its <source> that names where it is plugged in.
SOURCE_NAMES = {"network": "network", "bridge": "bridge", "direct": "dev"}

# (kind, name), as Nic has them.
Plug = Tuple[str, str]


@dataclass(frozen=True)
class Redirect:
    """networks: where an interface is plugged in here -> where there. disks: path of an image here -> path there."""

    networks: Mapping[Plug, Plug] = field(default_factory=dict)
    disks: Mapping[str, str] = field(default_factory=dict)

    @property
    def changes(self) -> bool:
        return bool(self.networks or self.disks)


def redirected(xml: str, redirect: Redirect) -> str:
    """The same domain with what `redirect` names; all else stays as it is. Never logged: it may hold passwords."""
    if not redirect.changes:
        return xml
    root = safe_xml.parse(xml, "domain XML")
    for node in root.iterfind("devices/interface"):
        _plug(node, redirect.networks)
    for node in root.iterfind("devices/disk[@type='file']"):
        source = node.find("source")
        if source is not None and source.get("file") in redirect.disks:
            source.set("file", redirect.disks[source.get("file")])
    return safe_xml.render(root)


def _plug(node: Element, networks: Mapping[Plug, Plug]) -> None:
    here, source = node.get("type", ""), node.find("source")
    name = source.get(SOURCE_NAMES.get(here, here), "") if source is not None else ""
    if (here, name) not in networks:
        return
    kind, named = networks[(here, name)]
    kept = ("portgroup",) if here == kind == "network" else ("mode",) if kind == "direct" else ()
    for attribute in set(source.attrib) - set(kept):
        del source.attrib[attribute]
    node.set("type", kind)
    source.set(SOURCE_NAMES[kind], named)
