# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one XML parser of the collection, hardened.

Older lxml (before 6.1.0, CVE-2026-41066) resolves entities in some parsers, so every switch is set by hand and a
DOCTYPE is refused outright: libvirt never writes one.
"""

from __future__ import annotations

from typing import Any, List

from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import RequestError

try:
    from lxml import etree
except ImportError:  # reported by run/sentence.py, which names the package to install
    etree = None

Element = Any


def parse(text: str, what: str = "xml") -> Element:
    """Parse XML text into an element. `what` names the option or source in the message.

    Raises RequestError when the text is not well-formed or carries a DOCTYPE or entities.
    """
    parser = etree.XMLParser(
        # Text has no encoding any more, whatever its declaration says.
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_blank_text=True,
    )
    try:
        root = etree.fromstring(text.encode("utf-8"), parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise RequestError(["%s is not well-formed XML (%s); give one complete element" % (what, error)])
    docinfo = root.getroottree().docinfo
    if docinfo.doctype or docinfo.internalDTD is not None:
        raise RequestError(["%s holds a DOCTYPE, which is never accepted; remove it" % what])
    return root


def drop_remarks(element: Element) -> None:
    """Take comments and processing instructions out, in place: they would split texts."""
    etree.strip_tags(element, etree.Comment, etree.PI)


def render(element: Element) -> str:
    """The element as indented text, the way libvirt prints it."""
    etree.indent(element, space="  ")
    return str(etree.tostring(element, encoding="unicode")) + "\n"


def text_of(root: Element, path: str) -> str:
    """Stripped text of the first match, or an empty string."""
    found = root.find(path)
    return (found.text or "").strip() if found is not None else ""


def attributes(root: Element, path: str, name: str) -> List[str]:
    """The values of attribute `name` of every match that has it, in document order."""
    return [node.get(name) for node in root.iterfind(path) if node.get(name) is not None]
