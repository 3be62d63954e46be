# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The only place that imports libvirt: connections, and libvirt's errors turned into ours."""

from __future__ import annotations

import contextlib
import threading
import traceback
from dataclasses import dataclass, replace
from typing import Any, Iterator, List, Optional, Sequence

from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import DomainGone, HostError

try:
    import libvirt

    LIBVIRT_IMPORT_ERROR = None
except ImportError:
    libvirt = None
    LIBVIRT_IMPORT_ERROR = traceback.format_exc()
try:
    import libvirt_qemu
except ImportError:
    libvirt_qemu = None

# libvirt's own client keepalive: a dead peer is noticed after (5 + 1) x 5 s instead of never.
KEEPALIVE_INTERVAL_S = 5
KEEPALIVE_COUNT = 5


@dataclass(frozen=True)
class Hypervisor:
    """An open connection. side: what messages call this end. conn: the libvirt.virConnect."""

    uri: str
    side: str
    conn: Any

    @property
    def libvirt_version(self) -> int:
        """major * 1,000,000 + minor * 1,000 + release (libvirt's own encoding)."""
        return int(self.conn.getLibVersion())

    @property
    def qemu_version(self) -> int:
        """The same encoding, of the hypervisor."""
        return int(self.conn.getVersion())


def start_event_loop() -> None:
    """Keepalive and events need a running loop; it must be registered before the first connection."""
    if getattr(start_event_loop, "done", False):
        return
    libvirt.registerErrorHandler(lambda context, error: None, None)
    libvirt.virEventRegisterDefaultImpl()

    def turn() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=turn, name="libvirt-events", daemon=True).start()
    start_event_loop.done = True  # type: ignore[attr-defined]


@contextlib.contextmanager
def connect(uri: str, side: Optional[str] = None, readonly: bool = False) -> Iterator[Hypervisor]:
    """Open `uri`, close it at the end. Raises HostError naming the side and what to check."""
    start_event_loop()
    name = side or uri
    with said("connect to %s" % uri, name, _connect_remedy(uri)):
        conn = libvirt.openReadOnly(uri) if readonly else libvirt.open(uri)
    try:
        with contextlib.suppress(libvirt.libvirtError):
            conn.setKeepAlive(KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT)
        yield Hypervisor(uri, name, conn)
    finally:
        with contextlib.suppress(libvirt.libvirtError):
            conn.close()


@contextlib.contextmanager
def connected(hv: Hypervisor, within_s: float) -> Iterator[Hypervisor]:
    """hv itself, or one with a new connection for this block when its own has died: daemons are restarted.

    Raises HostError when nobody answers within `within_s` seconds; an ssh that finds no way would take minutes to say so.
    """
    if _lives(hv.conn):
        yield hv
        return
    opened: List[Any] = []
    words: List[str] = []

    def dial() -> None:
        try:
            opened.append(libvirt.open(hv.uri))
        except libvirt.libvirtError as error:
            words.append(error.get_error_message() or str(error))

    dialling = threading.Thread(target=dial, daemon=True)
    dialling.start()
    dialling.join(within_s)
    if not opened:
        told = words[0] if words else "no answer within %d s" % within_s
        raise HostError("connect to %s again" % hv.uri, hv.side, told, _connect_remedy(hv.uri))
    try:
        yield replace(hv, conn=opened[0])
    finally:
        with contextlib.suppress(libvirt.libvirtError):
            opened[0].close()


def _lives(conn: Any) -> bool:
    try:
        return bool(conn.isAlive())
    except libvirt.libvirtError:
        return False


def _connect_remedy(uri: str) -> str:
    if "+ssh" in uri:
        return "Check that the host is up, that its host key is pinned in known_hosts and that the key may log in."
    if "+tls" in uri:
        return "Check the certificates under /etc/pki/libvirt and that port 16514 is open."
    return "Check that libvirtd (or virtqemud) runs and that this user may use its socket."


@contextlib.contextmanager
def said(attempted: str, side: str, remedy: str = "") -> Iterator[None]:
    """Turn a libvirt error inside the block into a HostError that says what was attempted, where, and what to do."""
    try:
        yield
    except libvirt.libvirtError as error:
        kind = DomainGone if is_error(error, ["VIR_ERR_NO_DOMAIN"]) else HostError
        raise kind(attempted, side, error.get_error_message() or str(error), remedy) from error


def is_error(error: BaseException, names: Sequence[str]) -> bool:
    """Whether a libvirtError has one of the codes, given by name: is_error(e, ["VIR_ERR_NO_DOMAIN"])."""
    return isinstance(error, libvirt.libvirtError) and error.get_error_code() in [
        getattr(libvirt, name, None) for name in names
    ]


def flag(*names: str) -> int:
    """The flags or-ed together. A name that this libvirt does not know counts as 0."""
    value = 0
    for name in names:
        value |= getattr(libvirt, name, 0)
    return value


def agent_command(dom: Any, command: str, timeout_s: int) -> str:
    """What the guest agent answers. Raises libvirtError."""
    return str(libvirt_qemu.qemuAgentCommand(dom, command, timeout_s, 0))
