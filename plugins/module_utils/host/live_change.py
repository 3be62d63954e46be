# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Change a domain while it runs: memory, vCPUs, devices, sizes of disks. The definition is not touched here.

What needs the guest's help ends by libvirt's events, or after a bound: a guest may refuse, or not answer at all.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, Callable, Iterator, Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.host import libvirt_api
from ansible_collections.kvmops.fleet.plugins.module_utils.host.domains import live_xml, side_of
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import flag, is_error, said
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.hotplug_xml import has_alias

# How long a guest may take to let a device go. One that boots looks at its board late.
RELEASE_S = 30.0
# How long the balloon may stand still, and how long it may take in all.
BALLOON_STALLS_S, BALLOON_S = 20.0, 600.0
# It also bounds a lost event.
LOOK_AGAIN_S = 1.0
STATS_S = 3.0

LATER = "With apply: next_boot the running guest is left alone and the change waits for its next boot."


def set_memory(dom: Any, mib: int) -> None:
    """Let the guest give memory back or take it again, and wait until it has. On failure the balloon is told to go back."""
    attempted, before = "set the memory of domain %s to %d MiB while it runs" % (dom.name(), mib), _memory_kib(dom)
    with _events(dom, "VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE") as moved:
        with said(attempted, side_of(dom), LATER):
            dom.setMemoryFlags(mib * 1024, flag("VIR_DOMAIN_AFFECT_LIVE"))
        now = _balloon(dom, moved, mib * 1024)
        if now == mib * 1024:
            return
    with contextlib.suppress(libvirt_api.libvirt.libvirtError):
        dom.setMemoryFlags(before, flag("VIR_DOMAIN_AFFECT_LIVE"))
    words = "the guest stopped at %d MiB; it may have no balloon driver, or need its memory" % (now // 1024)
    raise HostError(attempted, side_of(dom), words, LATER)


def _balloon(dom: Any, moved: threading.Event, wanted_kib: int) -> int:
    """Wait until the guest has that much, or does not move any more; what it has then, in KiB."""
    begin = since = time.monotonic()
    now = _memory_kib(dom)
    while now != wanted_kib and time.monotonic() < min(since + BALLOON_STALLS_S, begin + BALLOON_S):
        moved.wait(LOOK_AGAIN_S)
        moved.clear()
        before, now = now, _memory_kib(dom)
        since = time.monotonic() if now != before else since
    return now


def _memory_kib(dom: Any) -> int:
    with said("read the memory of domain %s" % dom.name(), side_of(dom)):
        return int(dom.info()[2])


def spare_mib(dom: Any) -> Optional[int]:
    """What the guest says it could do without; None when it does not say.

    Read from the balloon driver, which is asked to report for a moment where it does not report by itself.
    """
    name, live = dom.name(), flag("VIR_DOMAIN_AFFECT_LIVE")
    asked, begin = False, time.time()
    try:
        if "<stats period=" not in live_xml(dom):
            dom.setMemoryStatsPeriod(1, live)
            asked = True
        deadline = time.monotonic() + STATS_S
        while time.monotonic() < deadline:
            stats = dom.memoryStats()
            if "usable" in stats and (not asked or stats.get("last_update", 0) >= int(begin)):
                return int(stats["usable"]) // 1024
            time.sleep(0.2)
    except libvirt_api.libvirt.libvirtError:
        return None
    finally:
        if asked:
            with said("stop asking domain %s for its memory" % name, side_of(dom)):
                dom.setMemoryStatsPeriod(0, live)
    return None


def set_vcpus(dom: Any, count: int) -> None:
    """Plug vCPUs in, or take those out that were plugged in, one after the other: a guest lets them go when it has the time."""
    live = flag("VIR_DOMAIN_AFFECT_LIVE")
    attempted = "set the vCPUs of domain %s to %d while it runs" % (dom.name(), count)
    with said(attempted, side_of(dom), LATER):
        now = dom.vcpusFlags(live)
        for number in [count] if count > now else range(now - 1, count - 1, -1):
            try:
                dom.setVcpusFlags(number, live)
            except libvirt_api.libvirt.libvirtError as error:
                # libvirt waits for 5 s only.
                if not is_error(error, ["VIR_ERR_OPERATION_TIMEOUT"]) or not _reaches(dom, number):
                    raise


def _reaches(dom: Any, count: int) -> bool:
    """Whether a guest that was asked for a vCPU lets it go."""
    deadline = time.monotonic() + RELEASE_S
    with _events(dom, "VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED") as gone:
        while dom.vcpusFlags(flag("VIR_DOMAIN_AFFECT_LIVE")) > count:
            if time.monotonic() > deadline:
                return False
            gone.wait(LOOK_AGAIN_S)
            gone.clear()
    return True


def attach(dom: Any, what: str, device_xml: str) -> None:
    with said("attach %s to domain %s while it runs" % (what, dom.name()), side_of(dom), LATER):
        dom.attachDeviceFlags(device_xml, flag("VIR_DOMAIN_AFFECT_LIVE"))


def update(dom: Any, what: str, device_xml: str) -> None:
    """Give a device another medium, network or link."""
    with said("change %s of domain %s while it runs" % (what, dom.name()), side_of(dom), LATER):
        dom.updateDeviceFlags(device_xml, flag("VIR_DOMAIN_AFFECT_LIVE"))


def detach(dom: Any, what: str, alias: str) -> None:
    """Ask the guest to let the device go, and wait until libvirt says it is gone: QEMU holds it open until then."""
    attempted = "detach %s from domain %s while it runs" % (what, dom.name())
    told = []
    with _events(dom, "VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED") as gone, _refusals(dom, alias, told, gone):
        with said(attempted, side_of(dom), LATER):
            _ask_to_let_go(dom, alias)
        deadline = time.monotonic() + RELEASE_S
        while has_alias(live_xml(dom), alias):
            if told or time.monotonic() > deadline:
                break
            gone.wait(LOOK_AGAIN_S)
            gone.clear()
        else:
            return
    words = "the guest refused" if told else "the guest has not let it go within %d s" % RELEASE_S
    remedy = "Look whether the guest uses it (unmount it, take it down) and hears about devices, then run again. "
    raise HostError(attempted, side_of(dom), words, remedy + LATER)


def _ask_to_let_go(dom: Any, alias: str) -> None:
    try:
        dom.detachDeviceAlias(alias, flag("VIR_DOMAIN_AFFECT_LIVE"))
    except libvirt_api.libvirt.libvirtError as error:
        # An earlier run asked, and the guest has not answered yet.
        if "process of unplug" not in str(error) and has_alias(live_xml(dom), alias):
            raise


def grow_disk(dom: Any, target: str, capacity_bytes: int) -> None:
    """Make the image behind a running disk larger, and tell the guest."""
    attempted = "grow disk %s of domain %s to %d MiB while it runs" % (target, dom.name(), capacity_bytes // 1024**2)
    with said(attempted, side_of(dom), "Check the free space. " + LATER):
        dom.blockResize(target, capacity_bytes, flag("VIR_DOMAIN_BLOCK_RESIZE_BYTES"))


@contextlib.contextmanager
def _events(dom: Any, kind: str, heard: Optional[Callable[..., None]] = None) -> Iterator[threading.Event]:
    """An event that is set at each of the kind. Registered before anything is asked, so that none is missed."""
    happened = threading.Event()

    def on_event(*told: Any) -> None:
        if heard is not None:
            heard(*told)
        happened.set()

    conn = dom.connect()
    with said("watch domain %s" % dom.name(), side_of(dom)):
        number = conn.domainEventRegisterAny(dom, flag(kind), on_event, None)
    try:
        yield happened
    finally:
        with contextlib.suppress(libvirt_api.libvirt.libvirtError):
            conn.domainEventDeregisterAny(number)


@contextlib.contextmanager
def _refusals(dom: Any, alias: str, told: Any, gone: threading.Event) -> Iterator[None]:
    """A guest that refuses says so at once, on newer QEMU."""

    def heard(conn: Any, domain: Any, device: str, opaque: Any) -> None:
        if device == alias:
            told.append(device)
            gone.set()

    with _events(dom, "VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED", heard):
        yield
