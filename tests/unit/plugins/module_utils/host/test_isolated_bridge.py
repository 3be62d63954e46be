# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bridge that leads nowhere, in this machine's kernel: a probe reaches who is on it, nobody else does, and nothing is left."""

from __future__ import annotations

import os
import subprocess
from typing import Iterator

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host.isolated_bridge import Bridge, isolated
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_vm import Neighbour

# Of a network for documentation: nobody has it.
NEIGHBOUR = Neighbour("02:00:5e:00:53:01", "198.51.100.7", "198.51.100.1", 24)
# Two runs of the tests on one machine share its kernel.
UNIT = "unit-%d" % os.getpid()
GUEST, PORT = "kvt-%s" % UNIT, "kvt%d" % os.getpid()
SERVE = "import socket; s = socket.create_server(('198.51.100.7', 4321)); print('ready', flush=True)\nwhile True: s.accept()"


def ip(*words: str, check: bool = True) -> str:
    return subprocess.run(["ip", *words], check=check, capture_output=True, text=True).stdout


def left() -> str:
    name = Bridge(UNIT, NEIGHBOUR).name
    return "".join(line for line in (ip("-o", "link") + ip("netns")).splitlines() if name in line)


@pytest.fixture(name="bridge")
def fixture_bridge() -> Iterator[Bridge]:
    with isolated(UNIT, NEIGHBOUR) as bridge:
        try:
            ip("netns", "add", GUEST)
            ip("link", "add", PORT, "type", "veth", "peer", "name", "eth0", "netns", GUEST)
            ip("link", "set", PORT, "master", bridge.name, "up")
            ip("-n", GUEST, "address", "add", "198.51.100.7/24", "dev", "eth0")
            ip("-n", GUEST, "link", "set", "eth0", "up")
            yield bridge
        finally:
            ip("netns", "del", GUEST, check=False)
            ip("link", "del", PORT, check=False)


def test_a_port_is_seen_when_it_is_open(bridge: Bridge) -> None:
    assert not bridge.answers(4321)
    words = ["ip", "netns", "exec", GUEST, "python3", "-c", SERVE]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout and server.stdout.readline() == b"ready\n"
            assert bridge.answers(4321)
        finally:
            server.kill()
    # The host has no address on it.
    assert "inet" not in ip("-o", "address", "show", "dev", bridge.name)


def test_what_a_dead_run_left_is_no_hindrance_and_nothing_stays() -> None:
    Bridge(UNIT, NEIGHBOUR).make()
    with isolated(UNIT, NEIGHBOUR):
        assert left()
    assert not left()
