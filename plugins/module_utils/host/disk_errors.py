# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""On which side the copy of a disk fails: the source's disk cannot be read, or the destination's copy cannot be written.

libvirt's own error is the same for both ("migration of disk vda failed: Input/output error"). QEMU tells them apart in its event
BLOCK_JOB_ERROR (qapi/block-core.json: device, operation read or write, action), which libvirt passes on to who asks for
it. Only listening; nothing is said to the monitor, so the domain is not tainted.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any, Iterator, List

from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import libvirt, libvirt_qemu

EVENT = "BLOCK_JOB_ERROR"


@contextlib.contextmanager
def noting(dom: Any, operations: List[str]) -> Iterator[None]:
    """Add "read" and "write", each at most once, while the block runs. What cannot be listened to is not seen."""

    def on_error(conn: Any, domain: Any, event: str, seconds: int, micros: int, details: str, opaque: Any) -> None:
        operation = _operation(details)
        if operation and operation not in operations:
            operations.append(operation)

    conn, listener = dom.connect(), None
    if libvirt_qemu is not None:
        with contextlib.suppress(libvirt.libvirtError):
            listener = libvirt_qemu.qemuMonitorEventRegister(conn, dom, EVENT, on_error, None, 0)
    try:
        yield
    finally:
        if listener is not None:
            with contextlib.suppress(libvirt.libvirtError):
                libvirt_qemu.qemuMonitorEventDeregister(conn, listener)


def _operation(details: str) -> str:
    try:
        told = json.loads(details or "{}")
    except ValueError:
        return ""
    return str(told.get("operation", "")) if isinstance(told, dict) else ""
