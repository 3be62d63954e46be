#!/usr/bin/python
# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kvm_host_info
short_description: Read what a KVM host has and can do
version_added: 0.1.0
description:
  - Reads a hypervisor's capacity, capabilities, storage pools, networks and versions.
options:
  gather:
    description: What to read. Names and versions are always returned.
    type: list
    elements: str
    choices: [capacity, capabilities, pools, volumes, networks]
    default: [capacity, capabilities, pools, networks]
extends_documentation_fragment:
  - kvmops.fleet.kvm.info
  - kvmops.fleet.kvm
seealso:
  - module: kvmops.fleet.kvm_domain_info
author:
  - kvmops.fleet contributors (@kvmops)
"""

EXAMPLES = r"""
- name: Read the host
  kvmops.fleet.kvm_host_info:
  register: kvm

- name: Say what is free
  ansible.builtin.debug:
    msg: "{{ kvm.host.memory_free_mib }} MiB of memory, {{ kvm.host.pools | map(attribute='available_mib') | sum }} MiB of disk"

- name: Read only its capacity
  kvmops.fleet.kvm_host_info:
    gather: [capacity]
"""

RETURN = r"""
host:
  description: The host. Sizes are MiB.
  returned: success
  type: dict
  contains:
    hostname: {description: Its name., type: str}
    uuid: {description: UUID that its libvirt goes by., type: str}
    libvirt_version: {description: Version of libvirt., type: str, sample: 9.0.0}
    libvirt_version_number: {description: The same as a number., type: int, sample: 9000000}
    qemu_version: {description: Version of QEMU., type: str, sample: 7.2.22}
    qemu_version_number: {description: The same as a number., type: int, sample: 7002022}
    arch: {description: Its architecture. This and the next five with V(capacity)., type: str}
    cpus: {description: Number of its CPUs., type: int}
    memory_total_mib: {description: Its memory., type: int}
    memory_free_mib: {description: What the kernel could hand out now with caches given back., type: int}
    memory_guests_mib: {description: What running guests use at most with their balloons as they are., type: int}
    memory_guests_max_mib: {description: What running guests may claim., type: int}
    cpu_model: {description: The nearest CPU model. This and the next ten with V(capabilities)., type: str}
    iommu: {description: Whether devices can be passed through., type: bool}
    domain_types: {description: Types of domains that work here with the best first., type: list, elements: str}
    kvm_works: {description: Whether guests of type kvm can be expected to boot., type: bool}
    machines: {description: Machine types of its architecture and their canonical names., type: dict}
    emulators: {description: QEMU binaries with arch path and domain_types., type: list, elements: dict}
    firmwares: {description: bios and efi as they are there., type: list, elements: str}
    cpu_modes: {description: CPU modes of the best domain type., type: list, elements: str}
    cpu_models: {description: CPU models that can be used., type: list, elements: str}
    max_vcpus: {description: The most virtual CPUs of a domain., type: int}
    tpm_backends: {description: TPM backends., type: list, elements: str}
    pools:
      description: Storage pools, with V(pools) or V(volumes).
      type: list
      elements: dict
      contains:
        name: {description: Its name., type: str}
        uuid: {description: Its UUID., type: str}
        type: {description: dir logical netfs and so on., type: str}
        path: {description: Its directory or device., type: str}
        active: {description: Whether it can be used., type: bool}
        autostart: {description: Whether it starts with libvirt., type: bool}
        capacity_mib: {description: Its size., type: int}
        available_mib: {description: What is free., type: int}
        volumes: {description: Its volumes with V(volumes)., type: list, elements: dict}
    networks: {description: libvirt networks. This and the next with V(networks)., type: list, elements: dict}
    bridges: {description: Names of the host's bridges., type: list, elements: str}
"""

from ansible_collections.kvmops.fleet.plugins.module_utils.run.host_info import main

if __name__ == "__main__":
    main()
