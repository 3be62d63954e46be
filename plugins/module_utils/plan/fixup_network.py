# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Interfaces keep their names, and with them their static addresses: a card is known by its MAC address, which the guest has too.

The settings themselves are not touched: ifupdown, netplan, NetworkManager, networkd and ifcfg files all go by the name
or by the MAC.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Iterator, List, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.fixup import WRITE, Card, Change, ImageFacts
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.fixup_concerns import concern
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.fixup_services import SYSTEMD

LINKS = "/etc/systemd/network/"
RULES = "/etc/udev/rules.d/70-persistent-net.rules"
# A bridge or a VLAN has its card's MAC, and must not get its name: only what sits on a bus has a path.
_LINK = """\
# The card of the physical machine, which keeps its name.
[Match]
MACAddress={mac}
Path=?*

[Link]
Name={name}
"""
_RULE = 'SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{{address}}=="{mac}", NAME="{name}"\n'
# What chooses a card by what changes with the hardware, and where that can stand.
_BY_HARDWARE = (
    ("/etc/netplan/", re.compile(r"^\s+driver:\s", re.M)),
    (LINKS, re.compile(r"^(Driver|Path)=(?!\?\*$)", re.M)),
    ("/etc/NetworkManager/system-connections/", re.compile(r"^(path|driver)=", re.M)),
)

# Where a system says which card has which address.
_SETTINGS = (
    "/etc/netplan/", LINKS, "/etc/NetworkManager/system-connections/", "/etc/network/interfaces",
    "/etc/sysconfig/network-scripts/", RULES,
)  # fmt: skip


def network_changes(facts: ImageFacts) -> Tuple[List[Change], List[Concern]]:
    concerns = [concern("p2v-fixup-network-by-hardware", path) for path in _choosing_by_hardware(facts)]
    if not facts.cards:
        concerns.append(concern("p2v-fixup-no-card", "the look at the machine showed none"))
    if facts.rescue:
        strange = [card for card in facts.cards if not _is_named(card, facts)]
        concerns += [concern("p2v-fixup-card-unnamed", "%s with %s" % (card.name, card.mac)) for card in strange]
        facts = replace(facts, cards=tuple(card for card in facts.cards if card not in strange))
    if facts.paths.intersection(SYSTEMD):
        return [change for card in facts.cards for change in _link(card, facts)], concerns
    return list(_rules(facts)), concerns


def _is_named(card: Card, facts: ImageFacts) -> bool:
    """Whether the settings of the system speak of a card of that name."""
    word = re.compile(r"(?<![\w.-])%s(?![\w-])" % re.escape(card.name))
    return any(
        path.startswith(_SETTINGS) and (path.endswith("ifcfg-" + card.name) or word.search(text))
        for path, text in facts.files.items()
    )


def _choosing_by_hardware(facts: ImageFacts) -> List[str]:
    return [
        path
        for folder, pattern in _BY_HARDWARE
        for path, text in sorted(facts.files.items())
        if path.startswith(folder) and pattern.search(text)
    ]


def _link(card: Card, facts: ImageFacts) -> Iterator[Change]:
    path = "%s10-kvmops-%s.link" % (LINKS, card.name)
    content = _LINK.format(mac=card.mac, name=card.name)
    if facts.files.get(path) == content or _is_pinned(card, facts):
        return
    held = ", ".join(card.addresses)
    words = "the card with %s is %s as before%s" % (card.mac, card.name, ", with %s" % held if held else "")
    yield Change(WRITE, words, path, content)


def _is_pinned(card: Card, facts: ImageFacts) -> bool:
    """Whether the system has its own file that gives the card its name by its MAC."""
    for path, text in facts.files.items():
        if not path.startswith(LINKS) or not path.endswith(".link"):
            continue
        name = re.search(r"^Name=%s[ \t]*$" % re.escape(card.name), text, re.M)
        mac = re.search(r"^(Permanent)?MACAddress=.*%s" % re.escape(card.mac), text, re.M | re.I)
        if name and mac and not re.search(r"^Driver=", text, re.M):
            return True
    return False


def _rules(facts: ImageFacts) -> Iterator[Change]:
    """What udev did before systemd had a part in it."""
    text = facts.files.get(RULES, "")
    missing = [card for card in facts.cards if not re.search(_rule_of(card), text, re.M | re.I)]
    if missing:
        names = ", ".join("%s is %s" % (card.mac, card.name) for card in missing)
        lines = "".join(_RULE.format(mac=card.mac, name=card.name) for card in missing)
        yield Change(WRITE, "%s: %s as before" % (RULES, names), RULES, _ended(text) + lines)


def _rule_of(card: Card) -> str:
    return r'^[^#\n]*=="%s"[^\n]*NAME="%s"' % (re.escape(card.mac), re.escape(card.name))


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"
