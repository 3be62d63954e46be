# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host as kvm_host_info returns it: plain data."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.model.host import (
    DomainOffer,
    Emulator,
    HostFacts,
    version_text,
)


def identity_result(facts: HostFacts) -> Dict[str, Any]:
    """Who it is and which versions it runs. Always returned."""
    return {
        "hostname": facts.hostname,
        "uuid": facts.host_uuid,
        "libvirt_version": version_text(facts.libvirt_version),
        "libvirt_version_number": facts.libvirt_version,
        "qemu_version": version_text(facts.qemu_version),
        "qemu_version_number": facts.qemu_version,
    }


def capacity_result(facts: HostFacts) -> Dict[str, Any]:
    return {
        "arch": facts.arch,
        "cpus": facts.cpus,
        "memory_total_mib": facts.memory_total_mib,
        "memory_free_mib": facts.memory_free_mib,
        "memory_guests_mib": facts.memory_guests_mib,
        "memory_guests_max_mib": facts.memory_guests_max_mib,
    }


def capabilities_result(facts: HostFacts, offer: Optional[DomainOffer], kvm_works: bool) -> Dict[str, Any]:
    """offer: for the best domain type that works here."""
    kinds = [kind for kind in facts.domain_types if kind != "kvm" or kvm_works]
    return {
        "cpu_model": facts.cpu_model,
        "iommu": facts.iommu,
        "domain_types": kinds,
        "kvm_works": kvm_works,
        "machines": dict(facts.machines),
        "emulators": [_emulator(emulator) for emulator in facts.emulators],
        "firmwares": list(offer.firmwares) if offer else [],
        "cpu_modes": list(offer.cpu_modes) if offer else [],
        "cpu_models": sorted(name for name, usable in offer.cpu_models.items() if usable) if offer else [],
        "max_vcpus": offer.max_vcpus if offer else None,
        "tpm_backends": list(offer.tpm_backends) if offer else [],
    }


def _emulator(emulator: Emulator) -> Dict[str, Any]:
    return {"arch": emulator.arch, "path": emulator.path, "domain_types": list(emulator.domain_types)}


def listed(values: Iterable[Any]) -> Any:
    """Frozen values of one level as a list of dictionaries."""
    return [dict(value.__dict__) for value in values]
