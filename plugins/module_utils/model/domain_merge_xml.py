# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A user's whole definition, completed with what only the existing domain knows."""

from __future__ import annotations

import copy
import re
from typing import Any, Dict, Iterator, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model import edit_xml, safe_xml

Element = safe_xml.Element
_VERSION = re.compile(r"-\d.*$")
# Families that an alias stands for, as QEMU names them.
_FAMILIES = {
    "q35": "pc-q35",
    "pc": "pc-i440fx",
    "virt": "virt",
    "pseries": "pseries",
    "s390-ccw-virtio": "s390-ccw-virtio",
}


def merge(given: str, existing: str) -> str:
    """The given XML with UUIDs, machine version, MAC addresses, device addresses and metadata of the existing domain,
    where it gives none: the guest must not see another board because somebody changed its memory.
    """
    wanted, found = safe_xml.parse(given, "xml"), safe_xml.parse(existing, "domain XML")
    _uuid(wanted, found)
    _machine(wanted, found)
    _metadata(wanted, found)
    _interfaces(wanted, found)
    _ports(wanted, found)
    _addresses(wanted, found)
    return safe_xml.render(wanted)


def _uuid(wanted: Element, found: Element) -> None:
    if not safe_xml.text_of(wanted, "uuid"):
        edit_xml.get_or_add(wanted, "uuid", ("title", "memory")).text = safe_xml.text_of(found, "uuid")
    generation = wanted.find("genid")
    if generation is not None and not (generation.text or "").strip():
        # A new one tells the guest that it was cloned or restored.
        generation.text = safe_xml.text_of(found, "genid")


def _machine(wanted: Element, found: Element) -> None:
    here, there = wanted.find("os/type"), found.find("os/type")
    if here is None or there is None or not there.get("machine"):
        return
    machine = here.get("machine")
    if machine is None or _FAMILIES.get(machine) == _VERSION.sub("", there.get("machine")):
        here.set("machine", there.get("machine"))


def _metadata(wanted: Element, found: Element) -> None:
    """Others keep things there too; only what is given is replaced."""
    kept = found.find("metadata")
    if kept is None:
        return
    metadata = edit_xml.get_or_add(wanted, "metadata", ("memory",))
    given = {node.tag for node in metadata}
    for node in list(kept):
        if node.tag not in given:
            metadata.append(node)


def _interfaces(wanted: Element, found: Element) -> None:
    """Cards without a MAC address get those of the cards that no given one claims, in order, like to like."""
    cards = wanted.findall("devices/interface")
    claimed = {_mac(card) for card in cards}
    free = [card for card in found.findall("devices/interface") if _mac(card) not in claimed]
    for card in cards:
        if _mac(card):
            continue
        other = next((one for one in free if _network(one) == _network(card)), free[0] if free else None)
        if other is not None:
            free.remove(other)
            edit_xml.drop(card, "mac")
            card.insert(0, edit_xml.new(card, "mac", {"address": _mac(other)}))


def _ports(wanted: Element, found: Element) -> None:
    """A switch knows a port by UUIDs that libvirt makes up."""
    there = {_mac(card): card.find("virtualport/parameters") for card in found.iterfind("devices/interface")}
    for card in wanted.iterfind("devices/interface"):
        port, parameters = card.find("virtualport"), there.get(_mac(card))
        if port is None or parameters is None:
            continue
        for name in ("interfaceid", "instanceid"):
            given = edit_xml.get_or_add(port, "parameters")
            edit_xml.set_attribute(given, name, given.get(name, parameters.get(name)))


def _mac(card: Element) -> str:
    node = card.find("mac")
    return "" if node is None else str(node.get("address", "")).lower()


def _network(card: Element) -> Any:
    source = card.find("source")
    return card.get("type"), sorted(source.attrib.items()) if source is not None else []


def _addresses(wanted: Element, found: Element) -> None:
    """Only when the task gives none at all: half of somebody's own layout could clash with the rest of ours."""
    devices, present = wanted.find("devices"), found.find("devices")
    if devices is None or present is None or devices.find("*/address") is not None:
        return
    known = dict(_identified(present))
    for identity, node in _identified(devices):
        other = known.get(identity)
        address = other.find("address") if other is not None and _bus(node) in (None, _bus(other)) else None
        if address is not None:
            node.append(copy.deepcopy(address))
    _controllers(devices, present)


def _controllers(devices: Element, present: Element) -> None:
    """The buses that those addresses name. One that is given without a number is the next of its kind that is there."""
    given, free = devices.findall("controller"), present.findall("controller")
    # Those with a number first: the others take what is left.
    for node in sorted(given, key=lambda one: one.get("index") is None):
        numbered = node.get("index") is not None
        alike = [one for one in free if one.get("type") == node.get("type") and _fits(node, one)]
        if alike:
            node.set("index", alike[0].get("index", "0"))
            _lay_out(node, alike[0])
            free.remove(alike[0])
        elif numbered or node.get("type") != "pci":
            # Another model in the place of what is there, companions and all.
            place = (node.get("type"), node.get("index", "0"))
            free = [one for one in free if (one.get("type"), one.get("index")) != place]
    for node in free:
        devices.append(node)


def _fits(given: Element, there: Element) -> bool:
    return all(given.get(name) in (None, there.get(name)) for name in ("model", "index"))


def _lay_out(given: Element, there: Element) -> None:
    for tag in ("target", "address"):
        kept = there.find(tag)
        if kept is not None and given.find(tag) is None:
            given.append(copy.deepcopy(kept))


def _identified(devices: Element) -> Iterator[Tuple[Any, Element]]:
    """Each device with what it is recognised by: its target, its MAC address, or its place among its like."""
    counts: Dict[Any, int] = {}
    for node in devices:
        if not isinstance(node.tag, str) or node.tag == "controller":
            continue
        if node.tag == "disk":
            target = node.find("target")
            identity: Any = ("disk", target.get("dev") if target is not None else None)
        elif node.tag == "interface":
            identity = ("interface", _mac(node))
        else:
            like = (node.tag, node.get("type"), node.get("model"))
            counts[like] = counts.get(like, 0) + 1
            identity = like + (counts[like],)
        yield identity, node


def _bus(device: Element) -> Any:
    target = device.find("target")
    return None if target is None else target.get("bus")
