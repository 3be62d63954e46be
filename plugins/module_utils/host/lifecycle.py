# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Start, stop and everything between. Waits end by libvirt's events, never by sleeping."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, Iterator, Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.host import libvirt_api
from ansible_collections.kvmops.fleet.plugins.module_utils.host.domains import gone_is_fine, side_of
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import flag, is_error, said
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.patience import Patience
from ansible_collections.kvmops.fleet.plugins.module_utils.model.snapshot_xml import agent_is_connected

# A guest that still boots ignores the power button, so it is pressed again. It also bounds a lost event.
PRESS_AGAIN_S = 10.0

_NO_BUTTON = ["VIR_ERR_INVALID_ARG", "VIR_ERR_NO_SUPPORT"]
_NOT_GRACEFUL = ["VIR_ERR_SYSTEM_ERROR", "VIR_ERR_OPERATION_FAILED", "VIR_ERR_INVALID_ARG"]


def start(dom: Any, paused: bool = False) -> None:
    """From its definition, or from saved memory when there is some."""
    with said("start domain %s" % dom.name(), side_of(dom), "See /var/log/libvirt/qemu/%s.log there." % dom.name()):
        dom.createWithFlags(flag("VIR_DOMAIN_START_PAUSED") if paused else 0)


def resume(dom: Any) -> None:
    with said("resume domain %s" % dom.name(), side_of(dom)):
        dom.resume()


def wake(dom: Any) -> None:
    with said("wake domain %s up" % dom.name(), side_of(dom)):
        dom.pMWakeup(0)


def suspend(dom: Any) -> None:
    with said("pause domain %s" % dom.name(), side_of(dom)):
        dom.suspend()


def save(dom: Any) -> None:
    with said("save the memory of domain %s" % dom.name(), side_of(dom), "Check the space in /var/lib/libvirt."):
        dom.managedSave(0)


def destroy(dom: Any) -> None:
    """Off at once. QEMU is asked first, so that it writes out what the guest flushed; killed when it does not react."""
    with said("stop domain %s" % dom.name(), side_of(dom)), gone_is_fine():
        try:
            dom.destroyFlags(flag("VIR_DOMAIN_DESTROY_GRACEFUL"))
        except libvirt_api.libvirt.libvirtError as error:
            if is_error(error, _NOT_GRACEFUL):
                dom.destroy()
            elif _is_active(dom):
                raise


def shutdown(dom: Any, patience: Patience, force: bool) -> None:
    """Ask the guest to power off and wait: through its agent where that is connected, then by the power button.

    When that was in vain: stop it at once if force, else HostError.
    """
    begun = time.monotonic()
    with _stopping(dom) as stopped:
        if patience.agent_s > 0 and _has_agent(dom):
            refused = _ask_agent(dom, stopped)
            if _wait(dom, stopped, patience.agent_s, given_up=refused):
                return
        left = min(patience.acpi_s, patience.total_s - (time.monotonic() - begun))
        if patience.acpi_s > 0 or patience.total_s == 0:
            _press(dom)
            if _wait(dom, stopped, left, press=True):
                return
    _overdue(dom, "shut domain %s down" % dom.name(), time.monotonic() - begun, force)


def _has_agent(dom: Any) -> bool:
    with said("read the configuration of domain %s" % dom.name(), side_of(dom)), gone_is_fine():
        return bool(dom.isActive()) and agent_is_connected(dom.XMLDesc(0))
    return False


def _ask_agent(dom: Any, news: threading.Event) -> threading.Event:
    """Ask it in a thread of its own, since libvirt waits for an agent that hangs. The answer is set when it refuses."""
    refused = threading.Event()

    def ask() -> None:
        try:
            dom.shutdownFlags(flag("VIR_DOMAIN_SHUTDOWN_GUEST_AGENT"))
        except libvirt_api.libvirt.libvirtError:
            refused.set()
            news.set()

    threading.Thread(target=ask, name="agent-shutdown", daemon=True).start()
    return refused


def wait_off(dom: Any, timeout_s: float, force: bool) -> None:
    """The same for a guest that is already on its way."""
    with _stopping(dom) as stopped:
        if _wait(dom, stopped, timeout_s):
            return
    _overdue(dom, "wait for domain %s to be off" % dom.name(), timeout_s, force)


def _overdue(dom: Any, attempted: str, timeout_s: float, force: bool) -> None:
    if force:
        destroy(dom)
        return
    remedy = "Look at the guest's console; give it longer with wait_timeout, or allow force: true to stop it at once."
    raise HostError(attempted, side_of(dom), "it was still running after %.0f s" % timeout_s, remedy)


@contextlib.contextmanager
def _stopping(dom: Any) -> Iterator[threading.Event]:
    """An event that is set when the domain stops. Registered before the domain is asked, so that none is missed."""
    stopped = threading.Event()
    ends = [flag("VIR_DOMAIN_EVENT_STOPPED"), flag("VIR_DOMAIN_EVENT_UNDEFINED")]

    def on_event(conn: Any, domain: Any, event: int, detail: int, opaque: Any) -> None:
        if event in ends:
            stopped.set()

    conn = dom.connect()
    with said("watch domain %s" % dom.name(), side_of(dom)):
        number = conn.domainEventRegisterAny(dom, flag("VIR_DOMAIN_EVENT_ID_LIFECYCLE"), on_event, None)
    try:
        yield stopped
    finally:
        with contextlib.suppress(libvirt_api.libvirt.libvirtError):
            conn.domainEventDeregisterAny(number)


def _wait(
    dom: Any,
    stopped: threading.Event,
    timeout_s: float,
    press: bool = False,
    given_up: Optional[threading.Event] = None,
) -> bool:
    """Whether it went off in time."""
    deadline = time.monotonic() + timeout_s
    while _is_active(dom):
        left = deadline - time.monotonic()
        if left <= 0 or (given_up is not None and given_up.is_set()):
            return False
        if stopped.wait(min(PRESS_AGAIN_S, left)):
            stopped.clear()
        elif press and time.monotonic() < deadline:
            _press(dom)
    return True


def _press(dom: Any) -> None:
    """The power button. A driver that has none gets the request as it likes it."""
    with said("ask domain %s to shut down" % dom.name(), side_of(dom)):
        try:
            dom.shutdownFlags(flag("VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN"))
        except libvirt_api.libvirt.libvirtError as error:
            # It may have gone off between the question and the request; drivers do not agree on that error.
            if not _is_active(dom):
                return
            if not is_error(error, _NO_BUTTON):
                raise
            dom.shutdown()


def _is_active(dom: Any) -> bool:
    with said("read the state of domain %s" % dom.name(), side_of(dom)), gone_is_fine():
        return bool(dom.isActive())
    return False
