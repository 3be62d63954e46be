# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A domain that may run beside the machine it is a copy of: its cards have no link, or one to nowhere."""

from __future__ import annotations

from typing import Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.model import edit_xml, safe_xml


def without_link(xml: str, mac: Optional[str] = None, bridge: Optional[str] = None) -> str:
    """The definition with every network card unplugged, but the one with that MAC: it is on that bridge.

    It ends at a crash or a reboot instead of going on.
    """
    root = safe_xml.parse(xml)
    for card in root.iterfind("devices/interface"):
        address = card.find("mac")
        if bridge is not None and address is not None and address.get("address") == mac:
            _plug(card, bridge)
        else:
            edit_xml.get_or_add(card, "link").set("state", "down")
    for event in ("on_reboot", "on_crash"):
        element = root.find(event)
        if element is not None:
            element.text = "destroy"
    return safe_xml.render(root)


def _plug(card: safe_xml.Element, bridge: str) -> None:
    for tag in ("source", "virtualport", "link"):
        edit_xml.drop(card, tag)
    card.set("type", "bridge")
    edit_xml.get_or_add(card, "source").set("bridge", bridge)
