# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The differences between a definition as given and as libvirt keeps it, element by element.

What libvirt adds, sorts or spells differently (model/libvirt_additions.py) is none.
"""

from __future__ import annotations

from typing import Dict, Iterator, List, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model import safe_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_change import Change, Edit
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_spelling_xml import respell
from ansible_collections.kvmops.fleet.plugins.module_utils.model.edit_xml import new
from ansible_collections.kvmops.fleet.plugins.module_utils.model.libvirt_additions import (
    ADDED_ANYWHERE,
    ADDED_ATTRIBUTES,
    ADDED_CHILDREN,
    ADDED_TEXTS,
    ADDED_WHOLE,
    SECRET_ATTRIBUTES,
    attribute_value,
    counts,
    text_value,
    units_are_values,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.sizes import whole_number

Element = safe_xml.Element
_SHOWN_LENGTH = 200

# What names an element among its brothers of the same tag; each as (child or "", attribute). The first that is there.
_KEYS: Dict[str, Tuple[Tuple[str, str], ...]] = {
    "disk": (("target", "dev"),),
    "interface": (("mac", "address"),),
    "controller": (("", "type"),),
    "filesystem": (("target", "dir"),),
    "graphics": (("", "type"),),
    "channel": (("target", "name"), ("", "type")),
    "console": (("target", "type"),),
    "feature": (("", "name"),),
    "timer": (("", "name"),),
    "vcpupin": (("", "vcpu"),),
    "iothreadpin": (("", "iothread"),),
    "memnode": (("", "cellid"),),
    "cell": (("", "id"),),
    "entry": (("", "name"),),
    "boot": (("", "dev"),),
    "input": (("", "type"),),
}


def differences(given: str, kept: str) -> Tuple[Change, ...]:
    """given: the user's XML (see model/domain_merge_xml.py). kept: libvirt's inactive XML, without secrets."""
    wanted, found = safe_xml.parse(given, "xml"), safe_xml.parse(kept, "domain XML")
    respell(wanted)
    respell(found)
    return tuple(_compare(wanted, found, ()))


def _compare(wanted: Element, found: Element, path: Tuple[str, ...]) -> Iterator[Change]:
    silent = wanted.tag in ADDED_TEXTS and not text_value(wanted)
    if not silent and len(wanted) == 0 and len(found) == 0 and text_value(wanted) != text_value(found):
        yield _change(path, text_value(found) or None, text_value(wanted) or None)
    yield from _compare_attributes(wanted, found, path)
    if wanted.tag == "metadata":
        yield from _compare_metadata(wanted, found, path)
        return
    pairs, missing, extra = _pair(list(wanted), list(found))
    for one, other in pairs:
        yield from _compare(one, other, path + (_name(other),))
    for node in missing:
        yield _change(path + (_name(node),), None, _short(node))
    for node in extra:
        if not _added_by_libvirt(node, wanted):
            yield _change(path + (_name(node),), _short(node), None)
        elif node.tag not in ADDED_WHOLE:
            # That it is there says nothing, but what stands in it may have been given before.
            yield from _compare(new(wanted, node.tag), node, path + (_name(node),))


def _compare_attributes(wanted: Element, found: Element, path: Tuple[str, ...]) -> Iterator[Change]:
    added = ADDED_ATTRIBUTES.get(wanted.tag, frozenset())
    partly = wanted.tag == "address"
    for name in sorted(set(wanted.attrib) | set(found.attrib)):
        if name in SECRET_ATTRIBUTES or (name == "unit" and units_are_values(wanted)):
            continue
        after, before = attribute_value(wanted, name), attribute_value(found, name)
        if after is None and (name in added or partly):
            continue
        if after != before:
            yield _change(path + (name,), before, after)


def _compare_metadata(wanted: Element, found: Element, path: Tuple[str, ...]) -> Iterator[Change]:
    """libvirt keeps it as it is; what others keep beside it stays theirs."""
    kept = {node.tag: _flat(node) for node in found}
    for node in wanted:
        if kept.get(node.tag) != _flat(node):
            there = node.tag if node.tag in kept else None
            yield _change(path + (str(node.tag),), there, node.tag)


def _flat(node: Element) -> str:
    inner = "".join(_flat(child) + (child.tail or "").strip() for child in node)
    attributes = sorted((str(name), str(value)) for name, value in node.attrib.items())
    return "(%s %s %r %s)" % (node.tag, attributes, (node.text or "").strip(), inner)


def _pair(
    wanted: List[Element], found: List[Element]
) -> Tuple[List[Tuple[Element, Element]], List[Element], List[Element]]:
    """(pairs, only wanted, only found): by tag and key; those without a key, or with a new one, in order."""
    wanted = [node for node in wanted if counts(node)]
    free = [node for node in found if counts(node)]
    pairs: List[Tuple[Element, Element]] = []
    missing: List[Element] = []
    for node in wanted:
        other = next((one for one in free if one.tag == node.tag and _matches(node, one)), None)
        if other is None:
            missing.append(node)
        else:
            pairs.append((node, other))
            free.remove(other)
    return pairs, missing, free


def _matches(wanted: Element, found: Element) -> bool:
    key = _key(wanted)
    if key is None:
        return True
    if wanted.tag == "controller" and wanted.get("index") is not None and wanted.get("index") != found.get("index"):
        return False
    return key == _key(found)


def _key(node: Element) -> Optional[str]:
    for child, attribute in _KEYS.get(node.tag, ()):
        holder = node if not child else node.find(child)
        value = None if holder is None else attribute_value(holder, attribute)
        if value is not None:
            return value
    return None


def _added_by_libvirt(node: Element, parent: Element) -> bool:
    if node.tag == "address" and parent.tag == "source":
        return False  # a device of the host, and never made up
    if node.tag in ADDED_CHILDREN.get(parent.tag, frozenset()) or node.tag in ADDED_ANYWHERE:
        return True
    if node.tag == "boot" and parent.tag == "os":
        return bool(node.get("dev") == "hd" and parent.find("boot") is None)
    if parent.tag == "disk":
        return bool(node.tag == "readonly" and parent.get("device") == "cdrom")
    return parent.tag == "devices" and _added_device(node, parent)


def _added_device(node: Element, devices: Element) -> bool:
    """A screen needs a video card; x86 has a keyboard and a mouse, and q35 a watchdog."""
    if node.tag == "video":
        return devices.find("graphics") is not None and devices.find("video") is None
    if node.tag == "input":
        return bool(node.get("bus") == "ps2")
    return bool(node.tag == "watchdog" and node.get("model") == "itco")


def _name(node: Element) -> str:
    """The tag, and which one of several."""
    key = _key(node)
    return str(node.tag) if key is None or node.tag in ("graphics", "input") else "%s %s" % (node.tag, key)


def _short(node: Element) -> str:
    """An element for the diff: its attributes and text, without secrets."""
    text = " ".join(_attributes(node, "")) or text_value(node) or "present"
    return text if len(text) <= _SHOWN_LENGTH else text[: _SHOWN_LENGTH - 1] + "…"


def _attributes(node: Element, prefix: str) -> Iterator[str]:
    for name, value in node.attrib.items():
        if name not in SECRET_ATTRIBUTES:
            yield "%s%s=%s" % (prefix, name, value)
    for inner in node:
        if counts(inner) and (inner.tag != "address" or node.tag == "source"):
            yield from _attributes(inner, "%s%s." % (prefix, inner.tag))


def _change(path: Tuple[str, ...], before: Optional[str], after: Optional[str]) -> Change:
    where = [part for part in path if part != "devices"] or list(path)
    words = "%s: %s → %s" % (" ".join(where), _said(before), _said(after))
    return Change(".".join(where), before, after, words, Edit("xml"))


def _said(value: Optional[str]) -> str:
    if value is None:
        return "none"
    kib = whole_number(value[:-4]) if value.endswith(" KiB") else None
    return value if kib is None or kib % 1024 else "%d MiB" % (kib // 1024)
