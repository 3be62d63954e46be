#!/usr/bin/python
# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kvm_domain_info
short_description: Read domains
version_added: 0.1.0
description:
  - Reads the domains of a hypervisor. A handful of calls for all of them, not for each.
  - No secret is read.
options:
  names:
    description: The domains to read. Every one when not given. One that is not there is no error.
    type: list
    elements: str
  gather:
    description:
      - V(config) adds what the domain is, as its next boot will be.
      - V(stats) adds the current figures of CPU, memory, disks and network cards. One call for all domains.
      - V(addresses) adds the addresses of guests that run. A call for each of them, several at a time.
      - V(pending) adds what differs between a guest that runs and its next boot.
    type: list
    elements: str
    choices: [config, stats, addresses, pending]
    default: [config]
  address_sources:
    description:
      - Where addresses are looked for, in this order. The first that knows any is taken.
      - V(agent) asks the guest agent, where it is connected. V(lease) asks libvirt's own networks, V(arp) the host's table of
        neighbours.
    type: list
    elements: str
    choices: [agent, lease, arp]
    default: [agent, lease, arp]
extends_documentation_fragment:
  - kvmops.fleet.kvm.info
  - kvmops.fleet.kvm
seealso:
  - module: kvmops.fleet.kvm_domain
  - module: kvmops.fleet.kvm_host_info
author:
  - kvmops.fleet contributors (@kvmops)
"""

EXAMPLES = r"""
- name: Read all domains
  kvmops.fleet.kvm_domain_info:
  register: guests

- name: Say what runs
  ansible.builtin.debug:
    msg: "{{ guests.domains | selectattr('state', 'equalto', 'running') | map(attribute='name') | list }}"

- name: Read the figures of one
  kvmops.fleet.kvm_domain_info:
    names: [web1]
    gather: [stats]

- name: Which guests wait for their next boot, and what for
  kvmops.fleet.kvm_domain_info:
    gather: [pending]
  register: waiting

- name: Say so
  ansible.builtin.debug:
    msg: "{{ waiting.domains | selectattr('pending') | items2dict(key_name='name', value_name='pending') }}"
"""

RETURN = r"""
domains:
  description: The domains that are there, by name.
  returned: success
  type: list
  elements: dict
  contains:
    name: {description: Its name., type: str}
    uuid: {description: Its UUID., type: str}
    id: {description: Number of the running domain., type: int}
    state: {description: running paused shutoff saved crashed in_shutdown or pmsuspended., type: str}
    persistent: {description: Whether it stays defined when it stops., type: bool}
    autostart: {description: Whether it starts with its host., type: bool}
    job: {description: Name of a libvirt job that runs., type: str}
    snapshots: {description: Number of snapshots., type: int}
    type: {description: kvm or qemu. This and what follows with V(config)., type: str}
    arch: {description: Its architecture., type: str}
    machine: {description: Its machine type with version., type: str}
    memory_mib: {description: Its memory in MiB., type: int}
    max_memory_mib: {description: The most that it can have without a boot., type: int}
    vcpus: {description: Number of virtual CPUs., type: int}
    max_vcpus: {description: The most that it can have without a boot., type: int}
    cpu: {description: mode model and features., type: dict}
    firmware: {description: bios or efi., type: str}
    boot: {description: kernel initrd and cmdline of a direct kernel boot., type: dict}
    disks: {description: Its disks in order., type: list, elements: dict}
    networks: {description: Its network cards in order., type: list, elements: dict}
    graphics: {description: Types of its graphical consoles., type: list, elements: str}
    tpm: {description: Type of its TPM., type: str}
    serial_log: {description: Where its serial line is logged., type: str}
    metadata: {description: Values kept with it for planning., type: dict}
    moved_to:
      description: Where the guest has gone whose definition was only kept here (O(kvmops.fleet.kvm_migrate#module:keep_source)). Else null.
      type: str
    stats:
      description: Current figures, with V(stats). What libvirt does not give is null.
      type: dict
      contains:
        cpu_time_ns: {description: CPU time used., type: int}
        vcpus_online: {description: Virtual CPUs in use., type: int}
        memory_current_mib: {description: Size of the memory balloon., type: int}
        memory_host_mib: {description: Memory that it takes on the host., type: int}
        disks: {description: Requests and bytes read and written and sizes by disk., type: list, elements: dict}
        networks: {description: Bytes packets errors and drops by card., type: list, elements: dict}
    addresses:
      description: Addresses of the guest, with V(addresses). Empty when no source knows any.
      type: list
      elements: dict
      contains:
        interface: {description: What the guest (agent) or the host (lease or arp) calls it., type: str}
        mac: {description: MAC address of the card., type: str}
        address: {description: IPv4 or IPv6 address., type: str}
        prefix: {description: Length of its network's prefix., type: int}
        source: {description: agent lease or arp., type: str}
    pending:
      description: What a guest that runs gets at its next boot only, with V(pending).
      type: list
      elements: dict
      contains:
        what:
          description:
            - The option of M(kvmops.fleet.kvm_domain) that it is about, such as C(disks.vda.cache).
            - C(disks.vda) for a disk that only one of both has. Its values are the disk's source then.
          type: str
        running: {description: What it has now., type: raw}
        next_boot: {description: What it will have., type: raw}
missing:
  description: Names that were asked for and are not there.
  returned: success
  type: list
  elements: str
"""

from ansible_collections.kvmops.fleet.plugins.module_utils.run.domain_info import main

if __name__ == "__main__":
    main()
