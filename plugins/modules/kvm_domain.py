#!/usr/bin/python
# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kvm_domain
short_description: A domain is as described
version_added: 0.1.0
description:
  - Makes a libvirt domain (a virtual machine) from plain options or from XML, changes it to what the task says, and
    brings it into a state.
  - An option that is not given is not managed. What is there is left alone, also when this module does not know it,
    since an existing definition is changed in place and never written anew.
  - A domain that is as described already is left untouched, and the result says so.
  - Every refusal is reported at once and before anything is changed.
options:
  name:
    description: Name of the domain. Exactly one of O(name) and O(domains).
    type: str
    aliases: [guest]
  domains:
    description:
      - Many domains of the host in one task, on one connection, instead of a loop. Each is a dictionary with O(name) and any of
        the other options but O(uri) and O(parallel). What it does not say, the task's own options say.
      - Bad options of any refuse the whole task. What stands against one domain, or goes wrong with it, leaves the others
        alone. The task fails then, after all others are as described, and RV(domains) says which.
    type: list
    elements: dict
  parallel:
    description: How many of O(domains) are changed at the same time. V(1) takes one after the other, in their order.
    type: int
    default: 4
  state:
    description:
      - V(present) means defined. Whether it runs is not managed.
      - V(running) starts, resumes or wakes the domain, from its saved memory when there is some.
      - V(shutdown) asks the guest to power off, through its agent and then by the power button, and waits for it. See
        O(shutdown) and O(force).
      - V(destroyed) stops the domain at once.
      - V(paused) means running but standing still.
      - V(saved) means that the memory lies on disk and the domain is off. The next start continues there.
      - V(absent) shuts the domain down like V(shutdown) and removes its definition, with NVRAM, TPM state, saved
        memory and the records of snapshots and checkpoints. Its disks stay. See O(remove_storage).
    type: str
    choices: [present, running, shutdown, destroyed, paused, saved, absent]
    default: present
  xml:
    description:
      - The whole definition, instead of the plain options from O(uuid) to O(metadata).
      - Its name must be O(name). What libvirt adds or sorts differently is no difference.
      - UUID, MAC and PCI addresses that it does not give are kept from the existing definition.
    type: str
  uuid:
    description: UUID of the domain. A domain keeps its UUID; another one for an existing domain is refused.
    type: str
  domain_type:
    description:
      - V(kvm) runs on the processor, V(qemu) is emulated.
      - V(auto) takes V(kvm) for a new domain when guests boot under it on this host, else V(qemu) with a warning. It
        leaves an existing domain alone.
    type: str
    choices: [auto, kvm, qemu]
    default: auto
  memory_mib:
    description:
      - Memory in MiB. Needed for a new domain.
      - A running guest gives memory back, and takes it again, through its memory balloon. It is not asked for more than it says
        that it can spare, and it cannot get more than it was started for. See O(max_memory_mib).
    type: int
  max_memory_mib:
    description:
      - The most memory that the domain can have without a boot. The host sets it aside.
      - When not given, it is O(memory_mib), and a larger one that the domain has already stays.
    type: int
  vcpus:
    description:
      - Number of virtual CPUs. A new domain gets 1 when not given.
      - A running guest can get more, up to O(max_vcpus), and lose those again that it did not boot with. A Linux guest switches
        a new one on by a udev rule, which not every distribution has.
    type: int
  max_vcpus:
    description:
      - The most virtual CPUs that the domain can have without a boot.
      - When not given, it is O(vcpus), and a larger one that the domain has already stays.
    type: int
  firmware:
    description: V(efi) lets libvirt choose a UEFI firmware of the host.
    type: str
    choices: [bios, efi]
  metadata:
    description:
      - Values kept with the domain for planning, such as C(group), C(priority) and C(policy).
      - Keys that are not given stay; an empty value removes a key. Takes effect at once.
    type: dict
  autostart:
    description: Whether the domain starts with its host.
    type: bool
  apply:
    description:
      - When a change of a running domain takes effect.
      - V(live) changes the guest at once where that is possible, and its definition with it. Memory, virtual CPUs, disks, media,
        sizes of disks, network cards and their links can be changed so. What cannot, changes in the definition only, and
        RV(pending_changes) says why.
      - A guest may refuse a change, or not answer. The task fails then, and the definition stays as it was.
      - V(next_boot) changes the definition only, and RV(pending_changes) says what the guest still runs without.
      - With O(xml), all changes wait for the next boot.
    type: str
    choices: [live, next_boot]
    default: live
  force:
    description: Stop the domain at once when it did not shut down in time. See O(wait_timeout) and O(shutdown).
    type: bool
    default: false
  wait_timeout:
    description: How long a shutdown may take, in seconds.
    type: int
    default: 120
  remove_storage:
    description:
      - With O(state=absent), delete the domain's images, and its cloud-init seed, as far as they are volumes of a pool.
      - Images that are shareable, or that another domain uses, stay, and a warning says so.
    type: bool
    default: false
extends_documentation_fragment:
  - kvmops.fleet.domain_devices
  - kvmops.fleet.domain_hardware
  - kvmops.fleet.domain_new
  - kvmops.fleet.kvm
seealso:
  - module: kvmops.fleet.kvm_domain_info
  - module: kvmops.fleet.kvm_migrate
author:
  - kvmops.fleet contributors (@kvmops)
"""

EXAMPLES = r"""
- name: A guest with a new disk of 10 GiB runs
  kvmops.fleet.kvm_domain:
    name: web1
    state: running
    memory_mib: 1024
    vcpus: 2
    machine: pc-q35-7.2
    disks:
      - pool: default
        name: web1.qcow2
        size_mib: 10240
    networks:
      - bridge: br0
    autostart: true
    metadata:
      group: web
      priority: 10

- name: Three guests run, each with its own memory
  kvmops.fleet.kvm_domain:
    state: running
    networks:
      - bridge: br0
    domains:
      - {name: web1, memory_mib: 1024, disks: [{pool: default, name: web1.qcow2, size_mib: 10240}]}
      - {name: web2, memory_mib: 1024, disks: [{pool: default, name: web2.qcow2, size_mib: 10240}]}
      - {name: db1, memory_mib: 4096, disks: [{pool: default, name: db1.qcow2, size_mib: 40960}]}

- name: A guest boots a kernel of the host
  kvmops.fleet.kvm_domain:
    name: tiny
    state: running
    memory_mib: 128
    boot:
      kernel: /srv/boot/vmlinuz
      initrd: /srv/boot/initrd.img
      cmdline: console=ttyS0
    serial_log: /var/log/libvirt/qemu/tiny.serial.log

- name: A guest that can grow while it runs
  kvmops.fleet.kvm_domain:
    name: db2
    state: running
    memory_mib: 2048
    max_memory_mib: 8192
    vcpus: 2
    max_vcpus: 8
    disks:
      - {pool: default, name: db2.qcow2, size_mib: 20480}
    networks:
      - bridge: br0

- name: It gets memory, processors and disk space at once; everything else stays
  kvmops.fleet.kvm_domain:
    name: db2
    memory_mib: 4096
    vcpus: 4
    disks:
      - {pool: default, name: db2.qcow2, size_mib: 40960}
      - {pool: default, name: db2-data.qcow2, size_mib: 102400}

- name: The running guest is left alone; it gets less memory at its next boot
  kvmops.fleet.kvm_domain:
    name: web1
    memory_mib: 512
    apply: next_boot

- name: Another medium in the drive of a running guest
  kvmops.fleet.kvm_domain:
    name: web2
    disks:
      - {pool: default, name: web2.qcow2}
      - {device: cdrom, path: /srv/iso/tools.iso}

- name: It is off, within five minutes at most
  kvmops.fleet.kvm_domain:
    name: web1
    state: shutdown
    wait_timeout: 300
    force: true

- name: A domain from XML
  kvmops.fleet.kvm_domain:
    name: db1
    xml: "{{ lookup('ansible.builtin.template', 'db1.xml.j2') }}"

- name: A guest made of it runs, with its name, a user and an address
  kvmops.fleet.kvm_domain:
    name: web3
    state: running
    memory_mib: 1024
    disks:
      - pool: default
        name: web3.qcow2
        size_mib: 20480
        image:
          path: /var/lib/libvirt/images/debian-13.qcow2
          format: qcow2
          checksum: "sha512:{{ debian_13_sha512 }}"
    networks:
      - bridge: br0
    cloud_init:
      user_data:
        users:
          - name: alice
            sudo: ALL=(ALL) NOPASSWD:ALL
            ssh_authorized_keys: ["{{ alice_key }}"]
      network_config:
        version: 2
        ethernets:
          all:
            match: {name: "e*"}
            dhcp4: true

- name: A copy of a guest that is off
  kvmops.fleet.kvm_domain:
    name: web4
    clone_from: {name: golden}
    memory_mib: 2048

- name: The domain and its disks are gone
  kvmops.fleet.kvm_domain:
    name: web1
    state: absent
    remove_storage: true
"""

RETURN = r"""
steps:
  description: What was done, or would be done in check mode, in words and in order. Empty when nothing changes.
  returned: success
  type: list
  elements: str
  sample: ["set memory 1024 → 2048 MiB (live)", "vda cache: none → writeback (next boot)"]
pending:
  description: Whether the running guest still differs from what the task describes, until its next boot.
  returned: success
  type: bool
pending_changes:
  description: What waits for the next boot, in words, and why where that is not plain. Empty unless RV(pending).
  returned: success
  type: list
  elements: str
  sample: ["set memory 1024 → 2048 MiB (the guest was started with 1024 MiB at most)"]
domains:
  description:
    - What came of each of O(domains), in their order. All have what RV(pending), RV(pending_changes) and RV(domain) say of one.
  returned: with O(domains)
  type: list
  elements: dict
  contains:
    name: {description: Its name., type: str}
    changed: {description: Whether there was something to do., type: bool}
    steps: {description: What was done or would be done in words., type: list, elements: str}
    failed: {description: Whether it is not as described., type: bool}
    msg: {description: Why. With C(concerns) where it was refused., type: str}
    pending: {description: As above., type: bool}
    pending_changes: {description: As above., type: list, elements: str}
    domain: {description: As below., type: dict}
domain:
  description: The domain at the end, as its next boot will be. Null when there is none.
  returned: success
  type: dict
  contains:
    name: {description: Its name., type: str}
    uuid: {description: Its UUID., type: str}
    id: {description: Number of the running domain., type: int}
    state: {description: running paused shutoff saved crashed in_shutdown or pmsuspended., type: str}
    persistent: {description: Whether it stays defined when it stops., type: bool}
    autostart: {description: Whether it starts with its host., type: bool}
    job: {description: Name of a libvirt job that runs., type: str}
    snapshots: {description: Number of snapshots., type: int}
    type: {description: kvm or qemu., type: str}
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
"""

from ansible_collections.kvmops.fleet.plugins.module_utils.run.domain import main

if __name__ == "__main__":
    main()
