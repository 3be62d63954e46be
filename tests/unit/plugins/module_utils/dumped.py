# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Dumps of real libvirts (made by tests/tools/domain_dumps), and where two definitions differ."""

from __future__ import annotations

from difflib import SequenceMatcher
from functools import lru_cache
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, NamedTuple, Set, Tuple

import yaml

from ansible_collections.kvmops.fleet.plugins.module_utils.model import safe_xml

FOLDER = Path(__file__).parent / "model" / "dumps"
GIVEN = {path.stem: path.read_text(encoding="utf-8") for path in sorted((FOLDER / "given").glob("*.xml"))}
VERSIONS = sorted(path.name for path in FOLDER.iterdir() if path.is_dir() and path.name != "given")

# What tells a device from its like; everything else is told apart by its place.
_NAMED_BY = {"disk": ("target", "dev"), "interface": ("mac", "address")}


class Dump(NamedTuple):
    """given: what a person wrote. kept: what libvirt of that version printed."""

    version: str
    name: str
    given: str
    kept: str

    def __str__(self) -> str:
        return "%s %s" % (self.version, self.name)


def dumps() -> List[Dump]:
    return [
        Dump(version, path.stem, GIVEN[path.stem], path.read_text(encoding="utf-8"))
        for version in VERSIONS
        for path in sorted((FOLDER / version).glob("*.xml"))
    ]


def refused(version: str) -> Mapping[str, str]:
    """By name, the words of that libvirt about a definition that it does not take."""
    return dict(yaml.safe_load((FOLDER / version / "refused.yml").read_text(encoding="utf-8")) or {})


def canonical(xml: str) -> str:
    """The same text for the same document, however it is quoted and indented."""
    return "\n".join("%s %s" % line for line in _document(xml).items())


def places(before: str, after: str) -> Set[str]:
    """The paths at which two definitions differ, such as `devices/disk vda/driver@cache` or `os/kernel`."""
    old, new = _document(before), _document(after)
    differing = {path for path in set(old) | set(new) if old.get(path) != new.get(path)}
    return differing | _moved(*([path for path in tree if path in old and path in new] for tree in (old, new)))


def _moved(before: List[str], after: List[str]) -> Set[str]:
    """What stands in another order."""
    if before == after:
        return set()
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    kept = {path for start, _other, size in matcher.get_matching_blocks() for path in before[start : start + size]}
    return set(before) - kept


@lru_cache(maxsize=64)
def _document(xml: str) -> Mapping[str, str]:
    """Each element and attribute by its path, in order, with its text."""
    found: Dict[str, str] = {}
    _read(safe_xml.parse(xml), "", found)
    return found


def _read(node: safe_xml.Element, path: str, found: Dict[str, str]) -> None:
    """Only around elements white space says nothing."""
    text = node.text or ""
    found[path] = text if len(node) == 0 else text.strip()
    for name in sorted(node.attrib):
        found["%s@%s" % (path, name)] = str(node.get(name))
    for child, name in _named(node):
        _read(child, "%s/%s" % (path, name) if path else name, found)
        if (child.tail or "").strip():
            found["%s/%s after" % (path, name)] = child.tail.strip()


def _named(node: safe_xml.Element) -> Iterator[Tuple[safe_xml.Element, str]]:
    counts: Dict[str, int] = {}
    for child in node:
        tag = child.tag if isinstance(child.tag, str) else "comment"
        inner, attribute = _NAMED_BY.get(tag, ("", ""))
        found = child.find(inner) if inner else None
        name = found.get(attribute) if found is not None else None
        if name is None:
            counts[tag] = counts.get(tag, 0) + 1
            name = str(counts[tag]) if counts[tag] > 1 else ""
        yield child, ("%s %s" % (tag, name)).strip()
