# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connections, on libvirt's own test driver: one that died is made again."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

libvirt = pytest.importorskip("libvirt", reason="libvirt's Python binding (python3-libvirt) is not here")

from ansible_collections.kvmops.fleet.plugins.module_utils.host import libvirt_api  # noqa: E402
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor, connect, connected, said  # noqa: E402
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import DomainGone, HostError  # noqa: E402


class Dead:
    """A connection whose daemon has gone."""

    def isAlive(self) -> int:
        return 0


def dead(uri: str) -> Hypervisor:
    libvirt_api.start_event_loop()
    return Hypervisor(uri, "kvm1", Dead())


def test_a_living_connection_is_used_as_it_is() -> None:
    with connect("test:///default") as hv, connected(hv, 5) as now:
        assert now is hv


def test_a_dead_one_is_made_again_for_the_block() -> None:
    hv = dead("test:///default")
    with connected(hv, 5) as now:
        assert now == replace(hv, conn=now.conn) and now.conn.isAlive() == 1
    assert isinstance(hv.conn, Dead)


def test_a_daemon_that_is_not_there_is_told_in_its_own_words() -> None:
    with pytest.raises(HostError, match="connect to nosuch:///x again on kvm1"), connected(dead("nosuch:///x"), 5):
        raise AssertionError("there is no such driver")


def test_the_wait_for_one_that_does_not_answer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()

    def mute(uri: str) -> Any:
        answers.wait(30)
        return libvirt.openReadOnly("test:///default")

    monkeypatch.setattr(libvirt, "open", mute)
    with pytest.raises(HostError, match="no answer within 0"), connected(dead("test:///default"), 0.2):
        raise AssertionError("nobody answered")
    answers.set()


def test_a_domain_that_ceases_to_exist_between_two_questions_is_told_apart() -> None:
    with connect("test:///default") as hv:
        dom = hv.conn.createXML(
            "<domain type='test'><name>brief</name><memory>1024</memory><os><type>hvm</type></os></domain>"
        )
        dom.destroy()
        with pytest.raises(DomainGone, match="read domain brief on here"), said("read domain brief", "here"):
            dom.XMLDesc(0)
        with pytest.raises(HostError) as other, said("read it", "here"):
            hv.conn.defineXML("<domain/>")
        assert not isinstance(other.value, DomainGone)
