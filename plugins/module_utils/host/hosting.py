# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ask one host what it can give to one guest, and a running guest what keeps it busy. Changes nothing."""

from __future__ import annotations

import contextlib
import socket
from typing import Any, Dict, FrozenSet, Mapping, Optional, Sequence, Tuple
from urllib.parse import urlsplit

from ansible_collections.kvmops.fleet.plugins.module_utils.host import capabilities
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import (
    Hypervisor,
    flag,
    is_error,
    libvirt,
    said,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model import host_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.hosting import Demands, Hosting

# Answers to a comparison of CPUs that are not about the CPU: the emulator or the machine type is not there, which other
# questions ask, or this libvirt cannot compare.
_ANOTHER_QUESTION = ["VIR_ERR_NO_SUPPORT", "VIR_ERR_OPERATION_UNSUPPORTED", "VIR_ERR_INVALID_ARG"]
_JOBS = {1: "pull", 2: "copy", 3: "commit", 4: "active-commit", 5: "backup"}


def read(hv: Hypervisor, domain: Domain, demands: Demands, cpu_xml: Optional[str], others: Sequence[Domain]) -> Hosting:
    """Of a destination. cpu_xml: the guest's <cpu>; None when any host can give it. others: the domains there."""
    return Hosting(
        offer=capabilities.domain_offer(hv, domain.type, domain.machine, domain.arch),
        cpu_lacks=cpu_lacks(hv, domain, cpu_xml) if cpu_xml else None,
        mac_users=_mac_users(others),
        free_pages=_free_pages(hv, tuple(demands.hugepages)),
        secrets=_secrets(hv) if demands.secrets else None,
        cards=_cards(hv) if any(nic.kind == "direct" for nic in domain.nics) else None,
        tsc_hz=_tsc_hz(hv, demands),
    )


def of_source(hv: Hypervisor, demands: Demands) -> Hosting:
    """What is compared with the destination."""
    return Hosting(tsc_hz=_tsc_hz(hv, demands))


def _tsc_hz(hv: Hypervisor, demands: Demands) -> Optional[int]:
    return host_xml.tsc_hz(hv.conn.getCapabilities()) if demands.invariant_tsc else None


def cpu_lacks(hv: Hypervisor, domain: Domain, cpu_xml: str) -> Optional[str]:
    """libvirt's words on why that host cannot give the guest this CPU, with the features it lacks; None when it can."""
    flags = flag("VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE")
    try:
        answer = hv.conn.compareHypervisorCPU(domain.emulator, domain.arch, domain.machine, domain.type, cpu_xml, flags)
    except libvirt.libvirtError as error:
        if is_error(error, _ANOTHER_QUESTION) or not _knows(hv, domain):
            return None
        return error.get_error_message() or str(error)
    return None if answer > libvirt.VIR_CPU_COMPARE_INCOMPATIBLE else "libvirt calls it incompatible"


def _knows(hv: Hypervisor, domain: Domain) -> bool:
    """Whether it has the emulator and the machine type at all."""
    return capabilities.domain_offer(hv, domain.type, domain.machine, domain.arch, domain.emulator) is not None


def _mac_users(others: Sequence[Domain]) -> Mapping[str, Tuple[str, ...]]:
    """MAC address -> the domains that have it."""
    users: Dict[str, Tuple[str, ...]] = {}
    for domain in others:
        for nic in domain.nics:
            mac = (nic.mac or "").lower()
            users[mac] = users.get(mac, ()) + (domain.name,)
    return users


def _free_pages(hv: Hypervisor, sizes: Sequence[int]) -> Optional[Mapping[int, int]]:
    """Size in KiB -> free hugepages, of the sizes that this host has."""
    if not sizes:
        return None
    known = host_xml.page_sizes(hv.conn.getCapabilities())
    asked = [size for size in sizes if size in known]
    with said("count free hugepages", hv.side):
        cells = hv.conn.getFreePages(asked, 0, max(known[size] for size in asked)) if asked else {}
    return {size: sum(cell.get(size, 0) for cell in cells.values()) for size in asked}


def _secrets(hv: Hypervisor) -> Optional[FrozenSet[str]]:
    try:
        return frozenset(secret.UUIDString() for secret in hv.conn.listAllSecrets(0))
    except libvirt.libvirtError:
        return None


def _cards(hv: Hypervisor) -> Optional[FrozenSet[str]]:
    try:
        return frozenset(card.name() for card in hv.conn.listAllInterfaces(0))
    except libvirt.libvirtError:
        return None


def block_jobs(dom: Any, targets: Sequence[str]) -> Mapping[str, str]:
    """Disk target of a running guest -> the kind of block job that works on it."""
    found = {}
    for target in targets:
        with contextlib.suppress(libvirt.libvirtError):
            job = dom.blockJobInfo(target, 0)
            if job:
                found[target] = _JOBS.get(job.get("type", 0), "unknown")
    return found


def addresses_of(uri: Optional[str]) -> Optional[Tuple[str, ...]]:
    """What the host in the URI means here; empty when nothing knows it; None when the URI names none."""
    host = urlsplit(uri or "").hostname
    if not host:
        return None
    try:
        return tuple(sorted({str(found[4][0]) for found in socket.getaddrinfo(host, None)}))
    except OSError:
        return ()
