# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """What a new domain is made of beside its description: another domain, and what cloud-init reads; and how one ends."""

    DOCUMENTATION = r"""
options:
  rename_from:
    description:
      - The domain of this name gets the name O(name). It has to be off, without saved memory and snapshots.
      - Where there is a domain O(name) and none of this name, that has been done. Where there are both, or none, the task is
        refused.
    type: str
    version_added: 0.1.0
  clone_from:
    description:
      - A new domain is a copy of another one on this host, which has to be off. Once there is a domain O(name) this does nothing.
      - It gets copies of all disks, whole and with no image below them, and of the UEFI variables; a UUID, MAC addresses and an
        empty TPM of its own. Read-only media stay shared. All other options are changes of that.
      - What the guest keeps inside its disks, such as its host name and its SSH host keys, is copied too.
    type: dict
    version_added: 0.1.0
    suboptions:
      name:
        description: The domain to copy.
        type: str
        required: true
      pool:
        description: Directory pool of the copied disks. When not given, each is copied into the pool that it is in.
        type: str
  cloud_init:
    description:
      - What cloud-init in the guest reads when it boots. It is written as a seed (data source NoCloud) beside the first disk, and
        the guest gets it as a CD-ROM.
      - The same content again is no change. Other content is a new seed, which the guest sees at its next start; cloud-init
        itself runs again only under another C(instance-id).
      - The content is shown nowhere, and only a salted hash of it is kept with the domain. The seed can be read by root only.
    type: dict
    version_added: 0.1.0
    suboptions:
      user_data:
        description: A text with its header, such as C(#cloud-config) or C(#!/bin/sh), or a dictionary for C(#cloud-config).
        type: raw
      meta_data:
        description:
          - A text or a dictionary. C(instance-id) and C(local-hostname) are O(name) unless a dictionary says otherwise or a text
            is given.
        type: raw
      network_config:
        description: A text or a dictionary, in cloud-init's format 1 or 2.
        type: raw
      state:
        description:
          - V(absent) removes the seed, which often holds passwords, its drive at the next boot, and what is remembered of it.
        type: str
        choices: [present, absent]
        default: present
      pool:
        description: Directory pool of the seed, instead of the one of the first disk.
        type: str
  shutdown:
    description: How long each way of shutting down may take, both together at most O(wait_timeout).
    type: dict
    version_added: 0.1.0
    suboptions:
      agent_timeout_s:
        description:
          - Seconds after the guest agent was asked, where it is connected, before the power button is pressed. V(0) does not ask it.
          - Half of O(wait_timeout) when not given. An agent that refuses is not waited for.
        type: int
      acpi_timeout_s:
        description:
          - Seconds after the power button was pressed. It is pressed again every 10 seconds. V(0) does not press it.
          - What is left of O(wait_timeout) when not given.
        type: int
"""
