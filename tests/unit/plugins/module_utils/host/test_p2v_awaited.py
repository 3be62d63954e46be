# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An agent that does not come: who says so, and what becomes of it."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, Iterator

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import p2v_agent
from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_folder import Folder
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import PreflightError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import P2vWish, failed_in
from ansible_collections.kvmops.fleet.plugins.module_utils.run import p2v

WISH = P2vWish("old1", "default", source="pm1", key="ssh-ed25519 AAAA", connect_timeout_s=0.1)
CLOSED = "ssh: connect to host 10.0.0.1 port 2222: Connection timed out"


@pytest.fixture(name="server")
def fixture_server(tmp_path: Path) -> Iterator[socket.socket]:
    with p2v_agent.listening(str(tmp_path / "agent")) as server:
        yield server


def refused(server: socket.socket, folder: Path) -> str:
    with pytest.raises(PreflightError) as caught:
        p2v._awaited(server, WISH, Folder(str(folder)))
    (concern,) = caught.value.concerns
    return "%s: %s" % (concern.id, caught.value)


def test_what_the_controller_heard_is_told_with_the_remedy(server: socket.socket, tmp_path: Path) -> None:
    told = {"stage": "dial", "said": CLOSED, "from": "10.0.0.9", "port": "2222"}
    Path(failed_in(str(tmp_path), WISH.run)).write_text(json.dumps(told))
    said = refused(server, tmp_path)
    assert said.startswith("p2v-receiver-closed: Make an image of old1 was refused before anything was changed")
    assert "pm1: " + CLOSED in said and "{port: 2222, proto: tcp, from: 10.0.0.9}" in said


@pytest.mark.parametrize(
    ("name", "text"),
    [(failed_in("", "of-another-run"), '{"said": "x"}'), (failed_in("", WISH.run), ""), ("/other", "")],
)
def test_without_such_news_the_time_is_told(server: socket.socket, tmp_path: Path, name: str, text: str) -> None:
    Path(str(tmp_path) + name).write_text(text)
    assert refused(server, tmp_path).startswith("p2v-agent-absent: ")
    assert "0 of 3 connections came within 0 s" in refused(server, tmp_path)


def test_words_that_are_no_json_are_passed_on(server: socket.socket, tmp_path: Path) -> None:
    Path(failed_in(str(tmp_path), WISH.run)).write_text("something else")
    assert "p2v-agent-absent] pm1: something else" in refused(server, tmp_path)


def test_the_way_out_is_known_without_sending_anything() -> None:
    from ansible_collections.kvmops.fleet.plugins.module_utils.p2v_agent import network

    places: Any = [(["127.0.0.1", 22], "127.0.0.1"), (["255.255.255.255", 22], ""), (None, "")]
    assert [network.address_towards(place) for place, dummy in places] == [expected for dummy, expected in places]
