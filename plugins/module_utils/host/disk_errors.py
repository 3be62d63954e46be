# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""On which side the copy of a disk fails: the source's disk cannot be read, or the destination's copy cannot be written.

libvirt's own error is the same for both ("migration of disk vda failed: Input/output error"), and libvirt 11.3 often has
another in its place, of the connection that it closes then ("End of file while reading data"). QEMU tells them apart in its event
BLOCK_JOB_ERROR (qapi/block-core.json: device, operation read or write, action), which libvirt passes on to who asks for
it. Only listening; nothing is said to the monitor, so the domain is not tainted.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any, Dict, Iterator, List, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import libvirt, libvirt_qemu
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import RequestError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.job_xml import disk_of_job

EVENT = "BLOCK_JOB_ERROR"


@contextlib.contextmanager
def noting(dom: Any, errors: List[Tuple[str, str]]) -> Iterator[None]:
    """Add (target of the disk or "", "read" or "write"), each at most once, while the block runs. What cannot be listened to
    is not seen."""

    def on_error(conn: Any, domain: Any, event: str, seconds: int, micros: int, details: str, opaque: Any) -> None:
        told = _read(details)
        error = (_target(xml, str(told.get("device", ""))), str(told.get("operation", "")))
        if error[1] and error not in errors:
            errors.append(error)

    conn, listener, xml = dom.connect(), None, ""
    if libvirt_qemu is not None:
        with contextlib.suppress(libvirt.libvirtError):
            # Now: while the domain moves, a callback must ask libvirt for nothing.
            xml = dom.XMLDesc(0)
            listener = libvirt_qemu.qemuMonitorEventRegister(conn, dom, EVENT, on_error, None, 0)
    try:
        yield
    finally:
        if listener is not None:
            with contextlib.suppress(libvirt.libvirtError):
                libvirt_qemu.qemuMonitorEventDeregister(conn, listener)


def _read(details: str) -> Dict[str, Any]:
    try:
        told = json.loads(details or "{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _target(xml: str, job: str) -> str:
    try:
        return disk_of_job(xml, job) or ""
    except RequestError:
        return ""
