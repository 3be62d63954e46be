# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bridges, case by case: see cases/host_network.yml. Each plan that changes something is followed by a second one."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Mapping, Sequence

import pytest
import yaml

from ansible_collections.kvmops.fleet.plugins.module_utils.model.host_network import Found, Link, Yaml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.host_network_look import read_look
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.host_network import Outcome, network_outcome

CASES = yaml.safe_load((Path(__file__).parent / "cases" / "host_network.yml").read_text(encoding="utf-8"))
YAML = Yaml(yaml.safe_load, lambda value: str(yaml.safe_dump(value, sort_keys=False)))


def found_of(case: Mapping[str, Any]) -> Found:
    """A host with one card, ens3, and what the case says besides."""
    said = dict(case.get("found", {}))
    card = {"mac": "52:54:00:00:00:01", "up": True, "addresses": ["192.0.2.10/24"], "managed": True}
    links = {"lo": {"loopback": True}, "ens3": card}
    for name, more in said.pop("links", {}).items():
        links[name] = dict(links.get(name, {"mac": "52:54:00:00:00:99", "up": True}), **more)
    plain = {"tools": ["ifup"], "active": ["systemd-networkd.service"], "ssh_address": "192.0.2.10", **said}
    return Found(
        links={name: Link(name=name, **_tuples(more)) for name, more in links.items()},
        **_tuples(plain),
    )


def _tuples(values: Mapping[str, Any]) -> Dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def plan_of(case: Mapping[str, Any], found: Found) -> Outcome:
    return network_outcome(case["bridges"], found, case.get("backend", "auto"), YAML)


def afterwards(wanted: Sequence[Mapping[str, Any]], found: Found, outcome: Outcome) -> Found:
    """The host when it has done what was planned."""
    links = dict(found.links)
    moved: Dict[str, tuple[str, ...]] = {}
    for entry in wanted:
        vlan = entry.get("vlan")
        port = vlan.get("name", "%s.%s" % (vlan["interface"], vlan["id"])) if vlan else entry.get("interface")
        if vlan:
            links[port] = Link(port, kind="vlan", mac="52:54:00:00:00:01", parent=vlan["interface"], vlan_id=vlan["id"])
        if port:
            moved[entry["name"]] = found.links[port].addresses if port in found.links else ()
            links[port] = replace(links[port], master=entry["name"], up=True, addresses=())
        said = entry.get("addresses")
        addresses = moved.get(entry["name"], ()) if said is None else tuple(said)
        mtu, mac = entry.get("mtu", 1500), entry.get("mac", "52:54:00:00:00:01")
        links[entry["name"]] = Link(
            entry["name"], "bridge", mac, mtu, up=True, addresses=addresses, stp=entry.get("stp", False)
        )
    for name in {entry["vlan"]["interface"] for entry in wanted if entry.get("vlan")}:
        bridge_mtu = max(entry.get("mtu", 0) for entry in wanted if entry.get("vlan"))
        gone = [one for entry in wanted for one in entry.get("addresses") or ()]
        left = tuple(one for one in links[name].addresses if one not in gone)
        links[name] = replace(links[name], mtu=max(links[name].mtu, bridge_mtu), addresses=left)
    return replace(found, links=links, files={**found.files, **dict(outcome.files)})


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_case(case: Mapping[str, Any]) -> None:
    found, expect = found_of(case), case["expect"]
    outcome = plan_of(case, found)
    for words in expect.get("refused", ()):
        assert any(words in problem for problem in outcome.problems), outcome.problems
    assert len(outcome.problems) == len(expect.get("refused", ())), outcome.problems
    if outcome.problems:
        assert not outcome.steps and not outcome.files
        return
    assert outcome.backend == expect.get("backend", outcome.backend)
    for step in expect.get("steps", ()):
        assert step in outcome.steps, outcome.steps
    if expect.get("steps") == []:
        assert not outcome.steps
    files = dict(outcome.files)
    for path, content in expect.get("files", {}).items():
        assert files[path].rstrip() == content.rstrip(), files[path]
    if "files" in expect:
        assert sorted(files) == sorted(expect["files"])
    for path in expect.get("untouched", ()):
        assert path not in files
    for kind in ("before", "after", "undo_before", "undo_after"):
        for command in expect.get(kind, ()):
            assert tuple(command.split()) in getattr(outcome.commands, kind), getattr(outcome.commands, kind)


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_the_second_run_has_nothing_to_do(case: Mapping[str, Any]) -> None:
    found = found_of(case)
    first = plan_of(case, found)
    if first.problems:
        return
    second = plan_of(case, afterwards(case["bridges"], found, first))
    assert second.problems == () and second.steps == () and second.files == ()


def test_a_look_is_read() -> None:
    shown = [
        {"ifindex": 1, "ifname": "lo", "flags": ["LOOPBACK", "UP"], "mtu": 65536, "addr_info": []},
        {
            "ifindex": 2,
            "ifname": "ens3",
            "flags": ["UP"],
            "mtu": 1500,
            "master": "br0",
            "address": "52:54:00:00:00:01",
            "addr_info": [
                {"family": "inet", "local": "192.0.2.10", "prefixlen": 24, "scope": "global", "dynamic": True},
                {"family": "inet6", "local": "fe80::1", "prefixlen": 64, "scope": "link"},
            ],
        },
        {
            "ifindex": 3,
            "ifname": "ens3.20",
            "link": "ens3",
            "flags": [],
            "linkinfo": {"info_kind": "vlan", "info_data": {"id": 20}},
        },
    ]
    found = read_look(
        "links %s\nssh 192.0.2.1 4711 192.0.2.10 22\ndistribution debian\nwireless wlan0\n"
        "netif 2 NETWORK_FILE=/etc/systemd/network/10-a.network\nnetif 2 ADMIN_STATE=configured\nnetif 2 CLIENTID=ff00000001\n"
        "active systemd-networkd.service\ntool ifup\nfile /etc/network/interfaces %s\npending\n"
        % (json.dumps(shown), base64.b64encode(b"auto lo\n").decode())
    )
    card = found.links["ens3"]
    assert card.addresses == card.dynamic == ("192.0.2.10/24",) and card.master == "br0" and card.managed
    assert card.client_id == "ff00000001" and card.network_file.endswith("10-a.network")
    assert found.links["ens3.20"].vlan_id == 20 and found.links["ens3.20"].parent == "ens3"
    assert found.files == {"/etc/network/interfaces": "auto lo\n"} and found.pending
    assert found.ssh_address == "192.0.2.10" and found.distribution == "debian"
