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
      - How long the guest may stand still at the switch-over, in milliseconds. Not set means what O(policy) says.
      - QEMU switches over when it expects to stay below. It is allowed little at first, and more step by step when the
        move does not come nearer to its end.
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
      - V(postcopy) lets it run on the destination at once and fetches the rest of its memory meanwhile. This is a consent
        as O(allow_postcopy) is.
    type: str
    choices: [abort, pause, postcopy]
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
      - Not set means encrypted where both hosts have their certificates. Where only one has them, a warning says so.
      - V(true) refuses to move without, V(false) never encrypts.
      - Memory goes over two connections then, because QEMU is likely to crash after 64 GB over a single encrypted one.
      - The files of an offline move go over ssh in any case.
    type: bool
    version_added: 0.1.0
  tls_destination:
    description: The name in the destination's certificate. Not set means the host of O(dest_uri).
    type: str
    version_added: 0.1.0
  policy:
    description:
      - What matters most when a live move is steered. C(docs/policies.md) shows each as a table.
      - V(balanced) allows a stop of two seconds at most, and slows a guest down that would need a longer one.
      - V(minimal_downtime) stops it for 150 ms at most. It is slowed down, or the move is given up.
      - V(must_finish) allows a stop of 30 seconds at most.
      - V(least_impact) takes half of the link, never slows the guest down, and rather gives up.
    type: str
    choices: [balanced, minimal_downtime, must_finish, least_impact]
    default: balanced
    version_added: 0.1.0
  schedule:
    description:
      - Replaces parts of what O(policy) means. The result's RV(schedule) is the whole of it, also in check mode.
    type: dict
    version_added: 0.1.0
    suboptions:
      downtime_start_ms:
        description: What QEMU is allowed for the switch-over at first.
        type: int
      downtime_top_ms:
        description: The most that it is allowed step by step.
        type: int
      downtime_steps:
        description: Steps from the one to the other, evenly by ratio. Each round that does not halve what remains earns one.
        type: int
      pause_most_ms:
        description: No stop that is expected to last longer is begun, whatever else happens.
        type: int
      connections:
        description: For memory, in parallel. V(0) means one, or two where encryption or compression needs them.
        type: int
      compression:
        description:
          - V(auto), V(none), V(zstd), V(zlib) or V(xbzrle).
          - V(auto) means V(zstd) where both hosts have libvirt 9.4 and the link is known to be slower than compressing.
        type: str
      auto_converge:
        description:
          - V(never), V(if_needed) or V(always). QEMU then slows the guest down bit by bit while it writes too much.
          - V(if_needed) decides from what the guest writes, the link, and the stop that is allowed.
        type: str
      throttle_start_percent:
        description: The first slowdown by auto-converge.
        type: int
      throttle_step_percent:
        description: Each further one.
        type: int
      bandwidth_share_percent:
        description: How much of the link is taken. Without O(link_mib_s) it is set once the rate was measured.
        type: int
      stall_window:
        description: The move has stalled when so many times what remains was sent, and it did not become less.
        type: float
      patience:
        description: Stalls to wait until an action becomes possible. A quarter of it when the guest is not slowed down.
        type: int
      at_stall:
        description:
          - What is done at a stall, one after the other. V(abort) is the last in any case.
          - V(extend) allows the stop that is needed, within O(schedule.pause_most_ms). V(pause) pauses the guest under the
            same condition. V(postcopy) is left out unless O(allow_postcopy=true).
        type: list
        elements: str
  allow_postcopy:
    description:
      - Whether the guest may run on the destination before its memory is there. It then depends on both hosts and the
        link, and is lost when one of them fails.
    type: bool
    default: false
    version_added: 0.1.0
  link_mib_s:
    description:
      - What the link to the destination carries, in MiB/s. Prediction and compression need it before the move.
      - Not set means that it is measured in the first round.
    type: float
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

- name: Say how long a move would take, over a link of 1 Gbit/s
  kvmops.fleet.kvm_migrate:
    name: db1
    host: kvm3
    link_mib_s: 118
  check_mode: true
  register: would

- name: Empty a host, with a stop of five seconds at most
  kvmops.fleet.kvm_migrate:
    name: db1
    host: kvm3
    policy: must_finish
    schedule:
      pause_most_ms: 5000

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
  sample: [{target: vda, source: /var/lib/libvirt/images/web1.qcow2, storage: copy, format: qcow2, size_mib: 1024, allocated_mib: 200}]
concerns:
  description: What the preflight noticed without refusing. After a refusal, what it refused.
  returned: always
  type: list
  elements: dict
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
  description: V(pause) or V(postcopy) when the move was ended that way, by O(schedule.at_stall) or O(on_timeout).
  returned: after a live move
  type: str
policy:
  description: The policy used.
  returned: when the move is or would be live
  type: str
schedule:
  description: The whole schedule by which the move is steered; O(schedule) takes the same keys.
  returned: when the move is or would be live
  type: dict
choices:
  description: What was chosen for this move, and why.
  returned: when the move is or would be live
  type: list
  elements: dict
  sample: [{what: no compression, why: "kvm1 has libvirt 9.0.0; it needs 9.4.0 on both hosts"}]
acts:
  description: What was done to the running move, when and why. Values are milliseconds or MiB/s.
  returned: after a live move
  type: list
  elements: dict
  sample: [{at_ms: 6210, what: extend, value: 2400, why: "48.0 MiB remain (least so far: 48.0), 25.0 MiB/s are sent"}]
prediction:
  description:
    - What was expected of the move before it began. After it, V(measured) and V(ratio) (measured over predicted) stand beside.
    - Null values cannot be told. When the link's rate was not known before, the numbers are those of the first round.
  returned: when the move is or would be live
  type: dict
  contains:
    total_ms: {description: From start to end., type: int}
    downtime_ms: {description: How long the guest stands still., type: int}
    rounds: {description: Rounds over the memory., type: int}
    converges: {description: Whether it ends without anything done at a stall., type: bool}
    ends_by: {description: "V(converged), or what ends it: V(extend), V(postcopy), V(pause), V(abort).", type: str}
    memory_mib: {description: Memory to send, type: float}
    disk_mib: {description: Disks to copy, type: float}
    link_mib_s: {description: Rate of the link, type: float}
    dirty_mib_s: {description: What the guest writes per second, type: float}
    confidence: {description: "V(high), V(medium), V(low) or V(none).", type: str}
    because: {description: Why not more confidence., type: list, elements: str}
    measured: {description: The same as measured. Returned after the move., type: dict}
    ratio: {description: Measured over predicted. Returned after the move., type: dict}
"""

from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate import main

if __name__ == "__main__":
    main()
