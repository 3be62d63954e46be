# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What kvm_migrate refuses before it connects anywhere, and what it fills in."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import RequestError
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.migrate_request import read_wish
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.overdue import rule


def params(**said: Any) -> Dict[str, Any]:
    return dict(
        {"name": "web1", "host": "kvm2", "mode": "auto", "storage": "auto", "on_timeout": "abort"},
        **{
            "policy": "balanced",
            "allow_postcopy": False,
            **said,
        },
    )


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"name": "../etc"}, "name is '../etc'"),
        ({"name": ""}, "name is empty"),
        ({"name": "-x"}, "may not start with '-'"),
        ({"name": "web1 "}, "may not begin or end with white space"),
        ({"name": "a\0b"}, "control characters"),
        ({"name": "x" * 300}, "at most 251 bytes"),
        ({"host": "kvm2;reboot"}, "host is 'kvm2;reboot'"),
        ({"host": "-oProxyCommand=x"}, "host is"),
        ({"host": None, "dest_uri": None}, "host and dest_uri are both missing"),
        ({"dest_uri": "test:///default"}, "dest_uri is"),
        ({"dest_uri": "qemu+ssh://-oProxyCommand=x/system"}, "host is"),
        ({"max_downtime_ms": 0}, "max_downtime_ms is 0"),
        ({"max_downtime_ms": 3000000}, "at most 2000000"),
        ({"bandwidth_mib_s": -1}, "bandwidth_mib_s is -1"),
        ({"timeout_s": 0}, "timeout_s is 0"),
        ({"tls_destination": "kvm2 x"}, "tls_destination is 'kvm2 x'"),
        ({"network_map": {"br0": 7}}, "network_map has 'br0': 7; give names in quotes"),
        ({"network_map": {"br0": ""}}, "network_map has 'br0': ''"),
        ({"pool_map": {"default": "/srv/fast"}}, "pool_map[default] is '/srv/fast'; a name may not hold '/'"),
        ({"link_mib_s": 0}, "link_mib_s is 0"),
        ({"schedule": {"pause_most_ms": 0}}, "schedule.pause_most_ms is 0"),
    ],
)
def test_refused(said: Dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError) as refusal:
        read_wish(params(**said))
    assert words in str(refusal.value)


def test_all_problems_at_once() -> None:
    with pytest.raises(RequestError) as refusal:
        read_wish(params(name="a/b", host="x y", timeout_s=-1))
    assert len(refusal.value.problems) == 3
    with pytest.raises(RequestError) as refusal:
        read_wish(params(network_map={"a": 1, "b": 2}, pool_map={"c": "/d"}))
    assert len(refusal.value.problems) == 3


def test_maps() -> None:
    wish = read_wish(params(network_map={"br0": "dmz"}, pool_map={"/srv/a": "fast"}))
    assert (wish.network_map, wish.pool_map) == ({"br0": "dmz"}, {"/srv/a": "fast"})
    assert read_wish(params()).network_map == read_wish(params()).pool_map == {}


@pytest.mark.parametrize(
    ("said", "dest_uri", "migrate_uri"),
    [
        ({}, "qemu+ssh://root@kvm2/system", "tcp://kvm2"),
        ({"host": "10.0.0.2"}, "qemu+ssh://root@10.0.0.2/system", "tcp://10.0.0.2"),
        ({"host": "fd00::2"}, "qemu+ssh://root@[fd00::2]/system", "tcp://[fd00::2]"),
        ({"dest_uri": "qemu+tls://kvm2.example/system"}, "qemu+tls://kvm2.example/system", "tcp://kvm2.example"),
        ({"tls": True}, "qemu+tls://kvm2/system", "tcp://kvm2"),
        ({"tls": True, "host": "fd00::2"}, "qemu+tls://[fd00::2]/system", "tcp://[fd00::2]"),
        ({"migrate_uri": "tcp://10.9.0.2"}, "qemu+ssh://root@kvm2/system", "tcp://10.9.0.2"),
    ],
)
def test_uris(said: Dict[str, Any], dest_uri: str, migrate_uri: str) -> None:
    wish = read_wish(params(**said))
    assert (wish.dest_uri, wish.migrate_uri) == (dest_uri, migrate_uri)


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ({"migrate_uri": "tcp://10.9.0.2"}, "kvm2"),
        ({"host": "fd00::2"}, "fd00::2"),
        ({"tls_destination": "kvm2.example"}, "kvm2.example"),
    ],
)
def test_the_certificate_bears_the_name_by_which_libvirt_is_reached(said: Dict[str, Any], name: str) -> None:
    assert read_wish(params(tls=True, **said)).tls_destination == name


def test_overdue_only_after_the_time_given() -> None:
    assert rule(None, "abort")(1e9) is None
    assert rule(10, "pause")(9.9) is None
    late = rule(10, "pause")(10.1)
    assert late is not None and late.what == "pause" and "timeout_s (10) passed" in late.why
