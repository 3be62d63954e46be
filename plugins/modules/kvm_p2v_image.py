#!/usr/bin/python
# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kvm_p2v_image
short_description: The disks of a physical machine are images here
version_added: 0.1.0
description:
  - Copies the used blocks of a running Linux machine's disks into images in a libvirt pool of the host that runs the task,
    while the machine goes on serving.
  - An agent is started on the machine over Ansible's own connection. It needs a Python (2.7, or 3.4 and later) and ssh there,
    installs nothing and writes nothing to the machine's disks. It notes which blocks are written, reads, hashes, and is gone
    at the end, however that comes.
  - What was written during the copy is copied in further rounds, until the rest is small enough for O(max_downtime_s). Then the
    filesystems are frozen for the last round, and O(cutover) decides what follows.
  - Every piece is hashed on the source, checked here, and checked again by a fresh read of the image. The image bears its name
    only when all of it is there and verified; the hashes are kept beside it in a manifest.
  - A run that was cut short is gone on with by the next one. A second image of the same machine copies only what has changed.
extends_documentation_fragment:
  - kvmops.fleet.kvm
  - kvmops.fleet.p2v_vm
  - kvmops.fleet.p2v_probe
options:
  name:
    description:
      - Name of the machine's images. The image of disk C(sda) is C(NAME-sda.qcow2).
    type: str
    required: true
  source:
    description:
      - The physical machine, by its name in the inventory. The agent is started there as root.
      - Either this or O(import_from) must be given.
    type: str
  import_from:
    description:
      - The machine's disks as they are on the host that runs the task, in the order in which the machine had them. Image files that were
        made elsewhere, and disks that were taken out of the machine and attached here. There is no agent, and nobody logs in anywhere.
      - It takes O(mode=cold), or O(mode=gather) for a look. O(cutover), O(disks) and O(receiver) have no place beside it.
      - They are opened for reading only. The run is refused when one of them is in use by a domain, a mount, swap space, LVM or another
        program, when two are one and the same, or when one is what the run would write to.
      - No other file that an image names is ever opened. An image with a backing file, a parent or extents of its own is refused.
      - O(domain) must have C(memory_mib), C(vcpus), C(firmware) and C(networks), which no image tells. With C(state=running) the images are
        the guest's from then on, and later runs change nothing.
    type: list
    elements: dict
    suboptions:
      path:
        description: Whole path of a file, or of a block device such as C(/dev/disk/by-id/ata-X).
        type: str
        required: true
      format:
        description: Its format. It is never found out by looking. A disk as it came out of a machine is V(raw).
        type: str
        choices: [raw, qcow2, vmdk, vdi, vhdx, vpc]
        required: true
      disk:
        description: The name that the machine had for it, such as C(sda). The image is named by it.
        type: str
        required: true
  pool:
    description: The libvirt pool, one with a directory, in which the images are made.
    type: str
    default: default
  format:
    description: Format of the images.
    type: str
    choices: [qcow2, raw]
    default: qcow2
  mode:
    description:
      - V(hot) makes the images of a running machine.
      - V(cold) makes them of a machine that was booted from rescue media, any Linux with ssh, root and a Python. Its disks are at rest, so
        there is one pass, and nothing is tracked or frozen. The medium of the rescue system itself is left out, which a concern says. A disk
        that is mounted read-write there is refused. When anything was written to a disk meanwhile, nothing is published. It is the mode of
        O(import_from) too.
      - V(gather) only looks, and returns what the machine is, what of it would be copied, and what is against it.
    type: str
    choices: [hot, cold, gather]
    default: hot
  disks:
    description: The disks to copy, by kernel name. Not set means all of them.
    type: list
    elements: str
  serials:
    description: Serial numbers that disks must have, by kernel name. Another one refuses the run.
    type: dict
  cutover:
    description:
      - V(none) is a rehearsal. The filesystems are frozen for the last round and thawed, and the machine serves on.
      - V(freeze) keeps them frozen while O(takeover) starts the VM, and powers the machine off when that has succeeded.
        When it fails, the machine is thawed and serves again.
      - V(stop) is the same, with O(services) stopped before. When it fails they are started again.
      - V(poweroff) powers the machine off as soon as the images are verified and have their names. O(services) are stopped
        before, if any are given. The way back is to power it on.
      - The task fails unless the machine took the order and then fell silent. No guest starts while somebody answers a ping at its
        addresses.
      - With O(mode=cold) there are V(none) and V(poweroff).
    type: str
    choices: [none, freeze, stop, poweroff]
    default: none
  max_downtime_s:
    description:
      - How long the machine may stand still for the last round, in seconds. The freeze begins when the round is expected to
        stay below. It is given up, and the machine thawed, after three times as long, but not before 10 s.
      - The time that O(takeover) takes is not part of it.
    type: float
    default: 10.0
  max_passes:
    description: After so many rounds that did not bring the rest low enough, the run gives up. What came is kept.
    type: int
    default: 20
  services:
    description: Services of the machine that are stopped before the freeze, in this order. A rehearsal stops none.
    type: list
    elements: str
  takeover:
    description:
      - What puts the VM into service, on the host that runs the task, while the machine stands still.
      - The machine's kernel still answers for its addresses until it is off. Prove the VM without them.
    type: dict
    suboptions:
      command:
        description: A program by its whole path, and its arguments. Its success says that the VM serves.
        type: list
        elements: str
        required: true
      timeout_s:
        description: The program is ended after so many seconds, which is a failure.
        type: float
        default: 300.0
  connections:
    description: How many connections read at once.
    type: int
    default: 2
  bandwidth_mib_s:
    description: The most that is sent, in MiB/s. Not set means no limit.
    type: float
  receiver:
    description:
      - Address under which the machine reaches the host that runs the task by ssh. Not set means the address that Ansible uses.
    type: str
  connect_timeout_s:
    description: How long to wait for the agent, in seconds.
    type: float
    default: 60.0
  key:
    description: Public key of the run. The action plugin makes a pair for each run; there is no need to give one.
    type: str
notes:
  - The machine's root logs in to the receiving host with a key of this run alone, which lives in memory, opens one forced command, and
    is removed as soon as the agent is there. sshd must admit root with a key. A firewall there must admit
    the machine; where it does not, the task is refused and names the rule.
  - What the kernel of the machine cannot freeze (such as an EFI partition) is as it was after a sync.
  - An image that was written to, by a VM or a conversion, is not brought up to date any more. Give the VM an overlay of it, or make
    another image.
attributes:
  async:
    description: Not supported. The agent belongs to the task.
    support: none
seealso:
  - module: kvmops.fleet.kvm_domain
  - ref: ansible_collections.kvmops.fleet.virt_tools_role
    description: Installs libguestfs on the host that does the fix-up.
author:
  - kvmops.fleet contributors (@kvmops)
"""

EXAMPLES = r"""
- name: Look at a machine
  kvmops.fleet.kvm_p2v_image:
    name: web1
    source: web1
    mode: gather
  register: web1

- name: Rehearse, and repeat it for days
  kvmops.fleet.kvm_p2v_image:
    name: web1
    source: web1
    serials: {sda: S3Z8NB0K}

- name: Leave the machine
  kvmops.fleet.kvm_p2v_image:
    name: web1
    source: web1
    cutover: poweroff
    services: [nginx.service, postgresql.service]
    max_downtime_s: 20

- name: Leave the machine if its VM comes up, else go on with it
  kvmops.fleet.kvm_p2v_image:
    name: web1
    source: web1
    cutover: freeze
    takeover:
      command: [/usr/local/sbin/start-web1]
      timeout_s: 120

- name: Image each disk of a machine that was booted from rescue media, make a guest of them, and switch the machine off
  kvmops.fleet.kvm_p2v_image:
    name: old1
    # The rescue system, as the inventory knows it. It may have another address than the machine had.
    source: old1-rescue
    mode: cold
    disks: [sda, sdb]
    serials: {sda: S3Z8NB0K, sdb: S3Z8NB1M}
    cutover: poweroff
    fixup: true
    domain: {state: running}
    boot_test: {}

- name: Make a guest of a disk that was taken out of its machine, and of an image that was dumped long ago
  kvmops.fleet.kvm_p2v_image:
    name: old2
    mode: cold
    import_from:
      - {path: /dev/disk/by-id/ata-ST3000_Z1F0, format: raw, disk: sda}
      - {path: /srv/dumps/old2-sdb.vmdk, format: vmdk, disk: sdb}
    serials: {sda: Z1F0}
    fixup: true
    domain:
      memory_mib: 4096
      vcpus: 2
      firmware: bios
      networks:
        # The card that the system there calls eno1 keeps its name, and with that its address.
        - {interface: eno1, mac: "00:25:90:11:22:33", bridge: br0}
    boot_test: {}

- name: Rehearse all of it; the machine serves on
  kvmops.fleet.kvm_p2v_image:
    name: web1
    source: web1
    fixup: true
    fixup_options:
      serial_console: true
    domain:
      memory_mib: 8192
      networks:
        - interface: eno1
          bridge: br0
    boot_test:
      timeout_s: 120

- name: The machine goes off when its guest has proven that it boots, and the guest takes its place
  kvmops.fleet.kvm_p2v_image:
    name: web1
    source: web1
    cutover: poweroff
    max_downtime_s: 20
    fixup: true
    domain:
      state: running
      autostart: true
    boot_test: {}

- name: Rehearse, and measure what the clients of its web server feel
  kvmops.fleet.kvm_p2v_image:
    name: web1
    source: web1
    probe:
      type: http
      url: http://10.0.0.5/health
  register: web1
"""

RETURN = r"""
steps:
  description: What was done, or in check mode would be, in words.
  returned: success
  type: list
  elements: str
  sample: ["copy the 812 MiB of sda that are used to /var/lib/libvirt/images/web1-sda.qcow2"]
discovery:
  description:
    - What the machine is. Disks, partitions, mappings, mounts, swap, network interfaces and routes, boot loader, services, OS.
    - Null when an earlier run has left it for good.
  returned: success
  type: dict
disks:
  description: The disks of the request, with what of them is used and where that is known from. C(to_copy_bytes) is null after a look.
  returned: success
  type: list
  elements: dict
concerns:
  description: What is to be known before. Each has C(id), C(level), C(detail) and C(remedy). An V(error) refuses the run.
  returned: success, and when refused
  type: list
  elements: dict
images:
  description: The images, each with C(disk), C(path), C(manifest), C(format), C(virtual_bytes) and, when it was made now, C(bytes) held.
  returned: success
  type: list
  elements: dict
left_already:
  description: Whether an earlier run has made these images and left the machine, so that nothing was to do.
  returned: success
  type: bool
passes:
  description:
    - The rounds. Each has C(number), C(what), C(bytes), C(wire_bytes), C(seconds) and C(rest_bytes), what was written meanwhile.
    - C(verify_s) is the part of the seconds in which nothing but the check of the images went on. Most of it goes on beside the copy.
  returned: changed and not check mode
  type: list
  elements: dict
prediction:
  description:
    - How long the machine was expected to stand still, before it did, and what that was made of. C(guest_s) is what fix-up and boot test
      took at the rehearsal. At a cutover it is part of C(pause_s). Null when there was no rehearsal.
    - Null with O(mode=cold).
  returned: changed and not check mode
  type: dict
  sample: {pause_s: 56.4, rest_bytes: 8388608, rate_mib_s: 80.0, beside_s: 1.3, guest_s: 55.0, allowed_s: 10.0}
pause_s:
  description: How long it stood still, in seconds. With O(takeover), until that had succeeded. Null with O(mode=cold).
  returned: changed and not check mode
  type: float
power:
  description: V(on) or V(off), of the machine. Null with O(import_from).
  returned: changed and not check mode
  type: str
cannot_freeze:
  description: Mount points that could not be frozen.
  returned: changed and not check mode
  type: list
  elements: str
fixup:
  description:
    - What the guest's disks are. C(changes), in words, in the order in which they were made. C(concerns) that were found in the system.
      C(disk_bus) and C(card_model) that its kernels can drive; whether it has a C(serial_console) and a C(guest_agent). C(images), each with
      C(disk), C(path) of the overlay and C(below), the image that it stands on.
    - Null before it is done.
  returned: success, with O(fixup) or O(domain)
  type: dict
  sample:
    changes: ["/etc/fstab: /boot is mounted by UUID=0a1b, no longer by /dev/sda2"]
domain:
  description: The domain, as M(kvmops.fleet.kvm_domain) returns it. Null when there is none.
  returned: success, with O(fixup) or O(domain)
  type: dict
boot_test:
  description: C(sign), by what the boot was seen, and C(seconds) until then. Null when none was made.
  returned: success, with O(fixup) or O(domain)
  type: dict
  sample: {sign: console, seconds: 21.5}
metrics:
  description:
    - What it cost. C(total_s), C(pause_s), C(bytes), C(wire_bytes), C(throughput_mib_s), C(verify_s), and C(guest_s) that fix-up,
      domain and boot test took, during which the machine stands still at a cutover.
    - C(agent_s) until the agent was there, before C(total_s) begins. Within C(total_s) come C(look_s) for the look at the machine, C(compare_s)
      for the comparison with an image that is there, then the C(seconds) of RV(passes).
  returned: changed and not check mode; of a run that failed, what O(probe) saw
  type: dict
  contains:
    downtime_ms:
      description: From the last answer of the machine to the first of its guest, to O(probe). Null unless a guest took over in this run.
      type: int
    downtime_seen_ms:
      description: The longest time without an answer that reaches into the pause, beside the interval. A lower bound when nobody answered
        after it. Null without O(probe), and where no guest was to end it.
      type: int
    impact:
      description:
        - What O(probe) saw. C(before), C(during), C(pause) and C(after) hold requests sent, received and lost, the latencies p50_ms,
          p95_ms, p99_ms and max_ms of the answers, longest_gap_ms, and lost_work, the answers that did not come, compared with before.
        - C(pause) lasts from the freeze until the machine, or its guest, serves. C(lost), C(lost_work) and C(gaps) are of all that was asked
          since the copy began. Null without O(probe), or when the machine did not answer before.
      type: dict
summary:
  description: What happened, in two or three lines for a person.
  returned: changed and not check mode
  type: list
  elements: str
"""

from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v import main

if __name__ == "__main__":
    main()
