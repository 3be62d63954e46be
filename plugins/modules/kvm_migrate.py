#!/usr/bin/python
# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kvm_migrate
short_description: A domain lives on that host
version_added: 0.1.0
description:
  - Moves a domain to another KVM host, live when it runs and offline when it is off, with or without shared storage.
  - Runs on the host that has the domain. When the domain is already on the destination, nothing changes.
  - Asks both hosts first. Everything that stands against the move is reported at once, before anything changes.
  - At every moment exactly one host owns the domain. When a live move fails, the guest goes on running on the source,
    and what was created on the destination is removed again.
  - Disks that both hosts see as the same file stay where they are. Other image files are copied. A live copy is
    mirrored by QEMU; an offline copy keeps holes, and is compared by SHA-256 with a fresh read of the target.
options:
  name:
    description: Name of the domain.
    type: str
    required: true
    aliases: [guest]
  host:
    description:
      - The destination, by a name or address that resolves on the source host.
      - Gives O(dest_uri) its default, C(qemu+ssh://root@HOST/system), or C(qemu+tls://HOST/system) with O(tls=true).
        One of the two is required.
    type: str
  dest_uri:
    description:
      - libvirt URI of the destination, as the source host reaches it. The source's libvirt daemon uses it too.
      - Files (disks of an offline move, UEFI variables) go over ssh to the same host.
    type: str
  migrate_uri:
    description: Where memory and disks are sent, when it is not the host of O(dest_uri). For a migration network.
    type: str
  mode:
    description:
      - V(auto) moves a running domain live and a stopped one offline.
      - V(live) and V(offline) refuse the other case.
    type: str
    choices: [auto, live, offline]
    default: auto
  storage:
    description:
      - V(auto) decides for each disk, from what both hosts see at its path.
      - V(shared) and V(copy) are demands. They are refused when the hosts show something else.
    type: str
    choices: [auto, shared, copy]
    default: auto
  max_downtime_ms:
    description:
      - How long the guest may stand still at the switch-over, in milliseconds.
      - QEMU switches over when it expects to stay below. Not set means libvirt's own value, 300 ms in most versions.
    type: int
  bandwidth_mib_s:
    description: The most that a live move may send, in MiB/s. Not set means no limit.
    type: int
  timeout_s:
    description: After this many seconds, a live move that has not ended is ended as O(on_timeout) says.
    type: int
  on_timeout:
    description:
      - V(abort) gives up. The guest goes on running on the source, and the task fails.
      - V(pause) pauses the guest, so that the move can end, and resumes it on the destination.
    type: str
    choices: [abort, pause]
    default: abort
  keep_source_disks:
    description:
      - Disks that were copied are removed from the source after the move, since an outdated copy could be started by
        mistake and stands in the way of a return. With V(true) they stay.
    type: bool
    default: false
  tls:
    description:
      - Whether memory and disks of a live move are encrypted, and both QEMUs prove who they are. It needs certificates on
        both hosts; the role P(kvmops.fleet.hypervisor#role) makes them.
      - Memory goes over two connections then, because QEMU is likely to crash after 64 GB over a single encrypted one.
      - The files of an offline move go over ssh in any case.
    type: bool
    default: false
    version_added: 0.1.0
  tls_destination:
    description: The name in the destination's certificate. Not set means the host of O(dest_uri).
    type: str
    version_added: 0.1.0
  network_map:
    description:
      - What the guest is plugged into there. A key is the name of a network, bridge or card (macvtap) of the source, its
        value the name on the destination. What is not named keeps its name.
      - A name that the destination has only as the other kind, a bridge for a network or a network for a bridge, means that.
      - It holds for the running guest and for its persistent definition. A key that this guest is not plugged into is no
        error, so one map can serve many guests.
    type: dict
    version_added: 0.1.0
  pool_map:
    description:
      - Where copied disks go. A key is the name of a storage pool of the source or a directory, its value the name of a
        directory pool of the destination. The files keep their names. Without it they get the path that they have here.
      - Disks that both hosts see as the same file stay where they are. With O(storage=copy), those in a directory that is
        named here are copied too, such as from NFS to a local pool.
    type: dict
    version_added: 0.1.0
extends_documentation_fragment:
  - kvmops.fleet.kvm
notes:
  - Both hosts need the same view of the network, and root on the source must be able to log in to the destination
    without a question. The roles P(kvmops.fleet.host_base#role) and P(kvmops.fleet.hypervisor#role) see to that.
seealso:
  - module: kvmops.fleet.kvm_domain
author:
  - kvmops.fleet contributors (@kvmops)
"""

EXAMPLES = r"""
- name: The web server lives on kvm2
  kvmops.fleet.kvm_migrate:
    name: web1
    host: kvm2

- name: Move the database with a short switch-over and at most 100 MiB/s
  kvmops.fleet.kvm_migrate:
    name: db1
    host: kvm3
    max_downtime_ms: 100
    bandwidth_mib_s: 100
    timeout_s: 900
  register: moved

- name: Move it encrypted, over the network that is meant for it
  kvmops.fleet.kvm_migrate:
    name: web1
    host: kvm2
    tls: true
    migrate_uri: tcp://10.1.0.12

- name: Move it to a site that has other names
  kvmops.fleet.kvm_migrate:
    name: web1
    host: kvm9
    network_map: {br0: dmz}
    pool_map: {default: ssd}

- name: Show what it cost
  ansible.builtin.debug:
    msg: "total {{ moved.metrics.total_ms }} ms, downtime {{ moved.metrics.downtime_ms }} ms"
"""

RETURN = r"""
name:
  description: Name of the domain.
  returned: success
  type: str
source:
  description: Where the task ran.
  returned: success
  type: str
host:
  description: Where the domain lives now (or would, in check mode).
  returned: success
  type: str
mode:
  description: V(live) or V(offline); null when nothing had to be done.
  returned: success
  type: str
state:
  description: State of the domain, which a move does not change.
  returned: success
  type: str
steps:
  description: What was done, or would be done, in words.
  returned: success
  type: list
  elements: str
disks:
  description: What was decided for each disk.
  returned: success
  type: list
  elements: dict
  sample:
    - target: vda
      source: /var/lib/libvirt/images/web1.qcow2
      destination: /var/lib/libvirt/images/web1.qcow2
      storage: copy
      format: qcow2
      size_mib: 1024
      allocated_mib: 200
concerns:
  description:
    - What the preflight noticed without refusing. After a refusal, what it refused.
    - The page C(docs/preflight.md) of the collection lists all of them.
  returned: always
  type: list
  elements: dict
  sample:
    - id: bridge-missing
      level: error
      detail: kvm2 has no bridge br7 (interface 52:54:00:00:00:01)
      remedy: "Create it there, or say in network_map what it is called there. It has: br0."
metrics:
  description: What the move cost.
  returned: changed and not check mode
  type: dict
  contains:
    mode: {description: V(live) or V(offline)., type: str}
    total_ms: {description: From start to end as libvirt measured it; for an offline move by our own clock., type: int}
    wall_ms: {description: Our own clock around the move., type: int}
    downtime_ms: {description: How long the guest stood still as libvirt measured it. Null for an offline move., type: int}
    downtime_net_ms: {description: The same without the control messages between the hosts., type: int}
    setup_ms: {description: Setting up the job., type: int}
    memory_bytes: {description: Memory sent., type: int}
    memory_total_bytes: {description: Size of the guest's memory., type: int}
    disk_bytes: {description: What went through the copy of disks. libvirt counts holes too., type: int}
    disk_data_bytes: {description: What the copied images held., type: int}
    iterations: {description: Rounds over the memory., type: int}
    throughput_mib_s: {description: Memory and disk data over the total time., type: float}
samples:
  description: The running job, at most 240 moments, evenly chosen. Sizes in MiB, rates in MiB/s.
  returned: changed and not check mode
  type: list
  elements: dict
hashes:
  description: SHA-256 of every image that an offline move copied, read from both sides.
  returned: after an offline move
  type: dict
transport:
  description:
    - How it went. V(tls) is encrypted, V(tcp) is not; the files of an offline move go over V(ssh).
  returned: changed and not check mode
  type: str
flags:
  description: The libvirt flags used.
  returned: after a live move
  type: list
  elements: str
ended_by:
  description: V(pause) when O(timeout_s) passed and the guest was paused to let the move end.
  returned: after a live move
  type: str
"""

from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate import main

if __name__ == "__main__":
    main()
