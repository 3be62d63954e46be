# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host has and can do, through libvirt only, so that it works on remote URIs too."""

from __future__ import annotations

import contextlib
from typing import Any, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import libvirt_api
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor, flag, is_error, said
from ansible_collections.kvmops.fleet.plugins.module_utils.model import host_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.host import DomainOffer, HostFacts, HostNetwork

_KIB_PER_MIB = 1024
_ALL_CELLS = -1
_UNSUPPORTED = ["VIR_ERR_NO_SUPPORT", "VIR_ERR_OPERATION_UNSUPPORTED", "VIR_ERR_CONFIG_UNSUPPORTED"]


def host_facts(hv: Hypervisor) -> HostFacts:
    """Capacity, capabilities and versions in a handful of calls."""
    with said("read the host's capabilities", hv.side):
        info = hv.conn.getInfo()
        guests = _guest_memory_mib(hv)
        capabilities = host_xml.read_capabilities(hv.conn.getCapabilities())
        total_mib, free_mib = _memory_mib(hv, int(info[1]))
        return HostFacts(
            hostname=hv.conn.getHostname(),
            cpus=int(info[2]),
            memory_total_mib=total_mib,
            memory_free_mib=free_mib,
            memory_guests_mib=guests[0],
            memory_guests_max_mib=guests[1],
            libvirt_version=hv.libvirt_version,
            qemu_version=hv.qemu_version,
            **capabilities,
        )


def _memory_mib(hv: Hypervisor, total_mib: int) -> Tuple[int, int]:
    """(total, what the kernel could hand out). Page cache counts as free: it is given back on demand."""
    try:
        stats = hv.conn.getMemoryStats(_ALL_CELLS, 0)
    except libvirt_api.libvirt.libvirtError as error:
        if not is_error(error, _UNSUPPORTED):
            raise
        return total_mib, hv.conn.getFreeMemory() // 1024**2
    free = stats.get("free", 0) + stats.get("buffers", 0) + stats.get("cached", 0)
    return int(stats.get("total", total_mib * _KIB_PER_MIB)) // _KIB_PER_MIB, int(free) // _KIB_PER_MIB


def _guest_memory_mib(hv: Hypervisor) -> Tuple[int, int]:
    """(current, maximum) memory of all active domains together."""
    current = maximum = 0
    for handle in hv.conn.listAllDomains(flag("VIR_CONNECT_LIST_DOMAINS_ACTIVE")):
        with contextlib.suppress(libvirt_api.libvirt.libvirtError):  # it ended while we looked
            info = handle.info()
            current, maximum = current + info[2], maximum + info[1]
    return current // _KIB_PER_MIB, maximum // _KIB_PER_MIB


def domain_offer(
    hv: Hypervisor,
    domain_type: Optional[str] = None,
    machine: Optional[str] = None,
    arch: Optional[str] = None,
    emulator: Optional[str] = None,
) -> Optional[DomainOffer]:
    """What the host offers for such a domain; None when libvirt says it cannot run one at all.

    libvirt answers for `kvm` only when its own start of the emulator reported a working KVM.
    """
    with said("read domain capabilities", hv.side):
        try:
            return host_xml.read_domain_capabilities(
                hv.conn.getDomainCapabilities(emulator, arch, machine, domain_type, 0)
            )
        except libvirt_api.libvirt.libvirtError as error:
            if is_error(error, _UNSUPPORTED + ["VIR_ERR_INVALID_ARG", "VIR_ERR_INTERNAL_ERROR"]):
                return None
            raise


def kvm_works(hv: Hypervisor) -> bool:
    """Whether guests of type kvm can be expected to boot.

    A KVM that is itself emulated can be opened and still lack what every kernel needs. libvirt then marks QEMU's two
    lowest 64-bit models as not usable.
    """
    offer = domain_offer(hv, "kvm")
    if offer is None:
        return False
    lowest = [offer.cpu_models[model] for model in ("qemu64", "kvm64") if model in offer.cpu_models]
    return any(lowest) or not lowest


def list_networks(hv: Hypervisor) -> Tuple[HostNetwork, ...]:
    """Every libvirt network, by name. Empty where there is no network driver."""
    with said("list networks", hv.side):
        try:
            handles = hv.conn.listAllNetworks(0)
        except libvirt_api.libvirt.libvirtError as error:
            if is_error(error, _UNSUPPORTED):
                return ()
            raise
        return tuple(sorted((_network_of(handle) for handle in handles), key=lambda network: network.name))


def _network_of(handle: Any) -> HostNetwork:
    bridge, forward = host_xml.network_parts(handle.XMLDesc(0))
    return HostNetwork(
        name=handle.name(),
        uuid=handle.UUIDString(),
        active=bool(handle.isActive()),
        autostart=bool(handle.autostart()),
        persistent=bool(handle.isPersistent()),
        bridge=bridge,
        forward=forward,
    )


def list_bridges(hv: Hypervisor) -> Optional[Tuple[str, ...]]:
    """Names of the host's bridges. None when this libvirt cannot tell (no interface driver)."""
    try:
        handles = hv.conn.listAllInterfaces(0)
    except libvirt_api.libvirt.libvirtError:
        return None
    names = []
    for handle in handles:
        with contextlib.suppress(libvirt_api.libvirt.libvirtError):  # a tap that went away with its guest
            if host_xml.is_bridge(handle.XMLDesc(0)):
                names.append(handle.name())
    return tuple(sorted(names))
