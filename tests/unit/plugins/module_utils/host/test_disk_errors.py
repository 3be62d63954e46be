# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""QEMU's events of a copy that fails, as libvirt hands them over."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, List, Tuple

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import disk_errors

XML = """<domain type='kvm'><devices>
<disk type='file'><target dev='vda' bus='virtio'/><alias name='virtio-disk0'/></disk>
<disk type='file'><target dev='sdb' bus='sata'/><alias name='sata0-0-1'/></disk></devices></domain>"""
DOM = SimpleNamespace(connect=lambda: "connection", XMLDesc=lambda flags: XML)


class Refused(Exception):
    """In the place of libvirt.libvirtError."""


class Monitor:
    """In the place of the module libvirt_qemu."""

    def __init__(self, refuses: bool = False) -> None:
        self.refuses, self.callback, self.ended = refuses, None, []

    def qemuMonitorEventRegister(self, conn: Any, dom: Any, event: str, callback: Any, opaque: Any, flags: int) -> int:
        if self.refuses:
            raise Refused
        assert (conn, dom, event) == ("connection", DOM, "BLOCK_JOB_ERROR")
        self.callback = callback
        return 7

    def qemuMonitorEventDeregister(self, conn: Any, listener: int) -> None:
        self.ended.append(listener)


@pytest.fixture(autouse=True)
def no_libvirt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_errors, "libvirt", SimpleNamespace(libvirtError=Refused))


def test_each_error_is_noted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monitor, errors = Monitor(), []  # type: ignore[var-annotated]
    monkeypatch.setattr(disk_errors, "libvirt_qemu", monitor)
    with disk_errors.noting(DOM, errors):
        for details in (
            '{"device": "drive-virtio-disk0", "operation": "write", "action": "report"}',
            '{"device": "drive-virtio-disk0", "operation": "write", "action": "report"}',
            '{"device": "drive-sata0-0-1", "operation": "read"}',
            '{"operation": "write"}',
            "",
            "[]",
            "no JSON",
        ):
            monitor.callback("connection", DOM, "BLOCK_JOB_ERROR", 0, 0, details, None)
    assert errors == [("vda", "write"), ("sdb", "read"), ("", "write")] and monitor.ended == [7]


@pytest.mark.parametrize("monitor", [None, Monitor(refuses=True)])
def test_who_cannot_listen_goes_on(monkeypatch: pytest.MonkeyPatch, monitor: Any) -> None:
    errors: List[Tuple[str, str]] = []
    monkeypatch.setattr(disk_errors, "libvirt_qemu", monitor)
    with disk_errors.noting(DOM, errors):
        pass
    assert errors == [] and not (monitor and monitor.ended)
