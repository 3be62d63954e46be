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
  - One run per guest. A second one finds the move of a living or a dead run and watches it to its end; see RV(watched).
    When that run is dead, the second one does what is left, and ends a move that stands still.
  - At every moment exactly one host owns the domain. When a live move fails, the guest goes on running on the source,
    and what was created on the destination is removed again.
  - Disks that both hosts see as the same file stay where they are. Other image files are copied. A live copy is
    mirrored by QEMU; an offline copy keeps holes, and is compared by SHA-256 with a fresh read of the target.
  - An offline move carries UEFI variables, the state of an emulated TPM, saved memory and autostart as well. When it is cut
    short, the next run goes on with the copies where they ended.
  - Both hosts keep a note of the move while it is under way. A run after a crash of any part finds what is left, and
    finishes it or takes it back, as its first steps; see docs/recovery.md of the collection.
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
  keep_source:
    description:
      - What stays on the source when the guest has moved. An outdated copy could be started by mistake, so nothing does unless
        said.
      - V(nothing) removes the definition and the disks that were copied.
      - V(definition) keeps the definition, and removes the disks that were copied. The definition is marked in its metadata,
        loses its autostart, and gets a read-only disk without a file, so that libvirt refuses to start it. The next move
        back replaces it.
      - V(disks) removes the definition and keeps the disks. The next move back replaces them, and until then they can serve
        as a copy of the moment when the guest left.
    type: str
    choices: [nothing, definition, disks]
    default: nothing
    version_added: 0.1.0
  snapshots:
    description:
      - What happens to snapshots. V(refuse) refuses to move a domain that has any, and lists them.
      - V(carry) takes them along in an offline move. They have to be inside the images.
    type: str
    choices: [refuse, carry]
    default: refuse
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
  - kvmops.fleet.migration
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

- name: Move it, and measure what its clients feel
  kvmops.fleet.kvm_migrate:
    name: web1
    host: kvm2
    probe:
      type: http
      url: http://10.0.0.5/health
      expect: "200"
      interval_ms: 20
  register: moved

- name: Move it to a site that has other names
  kvmops.fleet.kvm_migrate:
    name: web1
    host: kvm9
    network_map: {br0: dmz}
    pool_map: {default: ssd}

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
    msg: "{{ moved.summary }}"
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
  description: V(live) or V(offline); null when nothing had to be done, or only the rest of an earlier move.
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
watched:
  description: Whether this run watched, or finished, a move that another run or somebody else had begun.
  returned: success
  type: bool
closed:
  description: The steps that were left of a dead run and were taken now, in words.
  returned: when RV(watched) and not check mode
  type: list
  elements: str
summary:
  description: What happened, in two or three lines for a person.
  returned: success and not check mode
  type: list
  elements: str
  sample:
    - db1 moved from kvm1 to kvm2 in 12.3 s; it stood still for 84 ms, and clients were without an answer for 121 ms.
    - Sent 420 MiB of memory over tls at 34.1 MiB/s, in 4 rounds.
    - Clients lost 3 of 1240 requests; 99 % of the answers took up to 9.5 ms during the move and 2.0 ms before it.
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
    wire_bytes: {description: What an offline move handed to ssh for the files. Null for a live move., type: int}
    resent_bytes:
      description: The part of it that an earlier move had sent before it was cut short. Null for a live move.
      type: int
    throughput_mib_s: {description: Memory and disk data over the total time., type: float}
    downtime_seen_ms:
      description: The longest time without an answer to O(probe), beside the interval. Null without one, or when it was not answered before.
      type: int
    impact:
      description:
        - What O(probe) saw. C(before), C(during) and C(after) hold requests sent, received and lost, the
          latencies p50_ms, p95_ms, p99_ms and max_ms of the answers, and longest_gap_ms.
        - C(lost) are those lost since the move began, C(lost_work) the answers that did not come during it, compared
          with before. C(gaps) are the longest times without an answer. Null as RV(metrics.downtime_seen_ms) is.
      type: dict
samples:
  description:
    - The running job, at most 240 moments, evenly chosen. Sizes in MiB, rates in MiB/s.
    - With O(probe), also moments of the phases before and after, and each with the requests that it sent since the one before
      (probe_sent, probe_lost) and the latencies of their answers (probe_p50_ms, probe_max_ms).
  returned: changed and not check mode
  type: list
  elements: dict
hashes:
  description: SHA-256 of every file that an offline move copied, read from both sides.
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
