# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Small edits of an element tree that keep everything they do not name."""

from __future__ import annotations

from typing import Mapping, Optional, Sequence

from ansible_collections.kvmops.fleet.plugins.module_utils.model.safe_xml import Element


def new(near: Element, tag: str, attributes: Optional[Mapping[str, Optional[str]]] = None, text: str = "") -> Element:
    """An element of its own, of the same kind as `near`. Attributes that are None are left out."""
    made = near.makeelement(tag, {key: value for key, value in (attributes or {}).items() if value is not None})
    made.text = text or None
    return made


def add(parent: Element, tag: str, attributes: Optional[Mapping[str, Optional[str]]] = None, text: str = "") -> Element:
    """Append a new child."""
    child = new(parent, tag, attributes, text)
    parent.append(child)
    return child


def get_or_add(parent: Element, tag: str, before: Sequence[str] = ()) -> Element:
    """The child, made when missing: in front of the first of the tags `before` that is there, else last."""
    child = parent.find(tag)
    if child is None:
        child = new(parent, tag)
        following = next((node for node in parent if node.tag in before), None)
        if following is None:
            parent.append(child)
        else:
            following.addprevious(child)
    return child


def place_of(parent: Element, tag: str) -> int:
    """Where the first child of that tag stands, or the next one would be appended."""
    child = parent.find(tag)
    return len(parent) if child is None else int(parent.index(child))


def set_text(parent: Element, tag: str, text: Optional[str]) -> None:
    """Give the child that text; None or empty removes it."""
    if not text:
        drop(parent, tag)
        return
    get_or_add(parent, tag).text = text


def set_attribute(element: Element, name: str, value: Optional[str]) -> None:
    """None removes the attribute."""
    if value is None:
        element.attrib.pop(name, None)
    else:
        element.set(name, value)


def set_flag(parent: Element, tag: str, wanted: bool) -> None:
    """An empty child that means something by being there."""
    if wanted:
        get_or_add(parent, tag)
    else:
        drop(parent, tag)


def drop(parent: Element, tag: str) -> None:
    """Remove every child of that tag."""
    for node in parent.findall(tag):
        parent.remove(node)
