#!/usr/bin/python
# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kvm_snapshot
short_description: Take a snapshot of a domain, go back to it, delete it
version_added: 0.1.0
description:
  - Takes all writable disks of a domain, or none.
  - A snapshot is no backup. It lies on the same storage as the disks.
  - A domain that has snapshots is moved only where that is said (O(kvmops.fleet.kvm_migrate#module:snapshots)).
options:
  name:
    description: Name of the domain.
    type: str
    required: true
    aliases: [guest]
  snapshot:
    description: Name of the snapshot.
    type: str
    required: true
  state:
    description:
      - V(present) takes it, unless there is one of that name. Whatever that one holds, it stays.
      - V(absent) deletes it. What was written since stays with the guest.
      - V(reverted) goes back to it. What was written since is lost. This is done anew each time, and is always a change.
    type: str
    choices: [present, absent, reverted]
    default: present
  kind:
    description:
      - V(internal) keeps the data inside the images, which have to be qcow2, and of a running guest the memory too. The guest
        stands still while its memory is written.
      - V(external) lets the guest write to new files beside the old ones from then on, without memory. Going back takes libvirt
        9.9 or newer, deleting 9.0 or newer.
      - V(auto) is V(internal) where the domain's images allow it and O(quiesce) is not wanted, else V(external).
    type: str
    choices: [auto, internal, external]
    default: auto
  quiesce:
    description: Have the guest agent freeze the guest's filesystems for the moment. Refused when no agent answers.
    type: bool
    default: false
  description:
    description: A line for people, kept with the snapshot.
    type: str
  keep:
    description:
      - After this one is taken, the oldest that fit O(keep_names) are deleted until so many stay, this one included.
      - Needs O(keep_names).
    type: int
  keep_names:
    description: Shell pattern of the names that O(keep) counts. O(snapshot) has to fit it.
    type: str
extends_documentation_fragment:
  - kvmops.fleet.kvm
seealso:
  - module: kvmops.fleet.kvm_domain
author:
  - kvmops.fleet contributors (@kvmops)
"""

EXAMPLES = r"""
- name: Before the upgrade
  kvmops.fleet.kvm_snapshot:
    name: web1
    snapshot: before-upgrade
    description: Release 4.2, all well

- name: Back to where it was
  kvmops.fleet.kvm_snapshot:
    name: web1
    snapshot: before-upgrade
    state: reverted

- name: One for each day, a week's worth
  kvmops.fleet.kvm_snapshot:
    name: web1
    snapshot: "daily-{{ now(fmt='%Y-%m-%d') }}"
    keep: 7
    keep_names: "daily-*"
"""

RETURN = r"""
snapshot:
  description: The snapshot at the end. Null when there is none of that name.
  returned: success
  type: dict
  contains:
    name: {description: Its name., type: str}
    kind: {description: internal or external., type: str}
    created: {description: When it was taken in seconds since 1970., type: int}
    state: {description: What the domain was then. disk-snapshot when its memory is not part of it., type: str}
    parent: {description: The snapshot that it builds on., type: str}
    description: {description: The line for people., type: str}
    memory: {description: Whether the guest's memory is part of it., type: bool}
    disks: {description: Targets of the disks that are part of it., type: list, elements: str}
    current: {description: Whether the guest builds on it now., type: bool}
snapshots:
  description: All of the domain, parents first.
  returned: success
  type: list
  elements: dict
domain_state:
  description: What the domain is at the end. Null when there is none.
  returned: success
  type: str
steps:
  description: What was done, or would be done, in words.
  returned: success
  type: list
  elements: str
"""

from ansible_collections.kvmops.fleet.plugins.module_utils.run.snapshot import main

if __name__ == "__main__":
    main()
