# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Any text as the option xml: it is refused in words, or compared. FUZZ=20000 tries more than the sixty of every day."""

from __future__ import annotations

import os
from typing import Any, List

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lxml import etree

from ansible_collections.kvmops.fleet.plugins.module_utils.model.demands_xml import read_demands
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_diff_xml import differences
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_merge_xml import merge
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_patch_xml import patch
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_xml import read_domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import KvmError, RequestError
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils import dumped

EXAMPLES = int(os.environ.get("FUZZ", "60"))
DUMPS = dumped.dumps()
BOUNDS = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# What has broken parsers of numbers, of text and of XML.
ODD = [
    "",
    " ",
    "-1",
    "0",
    "1e3",
    "1_000",
    "\u00b2",
    "\uff11\uff12",
    "0x",
    "0xg",
    "09",
    "9" * 30,
    "9" * 5000,
    "0x" + "f" * 5000,
    "x KiB",
    "1 KiB",
    "^0",
    "0-99999999",
    "3-1",
    ",",
    "ua-",
    "%s",
    "/",
    "//",
    "../..",
    "<&>",
    "\t\n",
    "a" * 3000,
    "é\u202e\U0001f600",
]
WORDS = st.one_of(
    st.sampled_from(ODD),
    st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"), max_size=12),
)
TAGS = sorted({node.tag for dump in DUMPS for node in etree.fromstring(dump.given).iter() if isinstance(node.tag, str)})
NAMES = sorted({str(name) for dump in DUMPS for node in etree.fromstring(dump.given).iter() for name in node.attrib})


def look(xml: str, kept: str) -> None:
    """All that a task with this xml does before anything is changed. Ends in an error of ours, or in words."""
    try:
        read_domain(xml, "xml")
        for change in differences(merge(xml, kept), kept):
            assert change.words
            assert change.key
        assert patch(merge(xml, kept), ())
        read_demands(xml)
    except KvmError as error:
        assert str(error)


@st.composite
def trees(draw: Any) -> str:
    """A definition of somebody's, with a few things put where they do not belong."""
    root = etree.fromstring(draw(st.sampled_from(DUMPS)).given)
    for dummy in range(draw(st.integers(1, 6))):
        nodes: List[Any] = [node for node in root.iter() if isinstance(node.tag, str)]
        node = nodes[draw(st.integers(0, len(nodes) - 1))]
        what = draw(
            st.sampled_from(
                ["text", "attribute", "unset", "remove", "move", "double", "empty", "remark", "rename", "add"]
            )
        )
        if what == "text":
            node.text = draw(WORDS)
        elif what == "attribute":
            node.set(
                draw(st.one_of(st.sampled_from(sorted(node.attrib) or NAMES), st.sampled_from(NAMES))), draw(WORDS)
            )
        elif what == "unset" and len(node.attrib):
            del node.attrib[draw(st.sampled_from(sorted(node.attrib)))]
        elif what == "remove" and node is not root:
            node.getparent().remove(node)
        elif what == "move" and node is not root:
            inside = set(node.iter())
            draw(st.sampled_from([one for one in nodes if one not in inside])).append(node)
        elif what == "double" and node is not root:
            node.addnext(etree.fromstring(etree.tostring(node, with_tail=False)))
        elif what == "empty":
            del node[:]
        elif what == "remark":
            node.insert(0, draw(st.sampled_from([etree.Comment("x"), etree.ProcessingInstruction("x", "y")])))
        elif what == "rename":
            node.tag = draw(st.sampled_from(TAGS))
        elif what == "add":
            etree.SubElement(node, draw(st.sampled_from(TAGS))).text = draw(WORDS)
    return str(etree.tostring(root, encoding="unicode"))


@BOUNDS
@given(trees(), st.sampled_from(DUMPS))
def test_any_tree(xml: str, dump: dumped.Dump) -> None:
    look(xml, dump.kept)


@BOUNDS
@given(st.sampled_from(DUMPS), st.data())
def test_any_spelling(dump: dumped.Dump, data: st.DataObject) -> None:
    """Cut, doubled and overwritten, as a bad template or a bad editor does."""
    start = data.draw(st.integers(0, len(dump.given)))
    end = data.draw(st.integers(start, min(len(dump.given), start + 200)))
    put = data.draw(
        st.one_of(
            st.sampled_from(["<", ">", "&", '"', "]]>", "<![CDATA[", "&#0;", "&x;", "<!--", "\x00", "\ud800"]), WORDS
        )
    )
    look(dump.given[:start] + put + dump.given[end:], dump.kept)


@BOUNDS
@given(st.text())
@example("")
@example("<domain/>")
@example("<network/>")
@example("<domain><memory>1</memory><name/></domain>")
@example("<domain><memory><b/></memory><vcpu current=''/><cpu><topology threads='x'/></cpu></domain>")
def test_any_text(xml: str) -> None:
    look(xml, DUMPS[0].kept)
    look("<domain>%s</domain>" % xml, DUMPS[0].kept)


@pytest.mark.parametrize(
    "xml",
    [
        '<!DOCTYPE domain [<!ENTITY a "b">]><domain><name>&a;</name></domain>',
        '<!DOCTYPE domain [<!ENTITY x SYSTEM "file:///etc/passwd">]><domain><name>&x;</name></domain>',
        "<!DOCTYPE d [%s]><domain>&e9;</domain>"
        % "".join('<!ENTITY e%d "%s">' % (n, "&e%d;" % (n - 1) * 10 if n else "ha") for n in range(10)),
        '<!DOCTYPE domain SYSTEM "http://127.0.0.1:1/x.dtd"><domain/>',
        "<domain>" * 100000 + "</domain>" * 100000,
        "<domain><metadata>%s</metadata></domain>" % ("<a>" * 5000 + "</a>" * 5000),
    ],
    ids=["entity", "file", "bomb", "dtd", "depth", "depth of metadata"],
)
def test_attacks_are_refused(xml: str) -> None:
    with pytest.raises(RequestError):
        read_domain(xml, "xml")


def test_as_deep_as_the_parser_goes() -> None:
    depth = 200
    xml = "<domain><metadata>%s</metadata></domain>" % ("<a>" * depth + "</a>" * depth)
    look(xml, DUMPS[0].kept)
    look(xml, xml)


def test_an_encoding_that_is_declared_is_not_believed() -> None:
    """Text is text already when it comes to a module."""
    xml = '<?xml version="1.0" encoding="ISO-8859-1"?><domain type="qemu"><name>grün</name></domain>'
    assert read_domain(xml).name == "grün"
