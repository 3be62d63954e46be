# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """What every kvm_* module shares: the option of run/sentence.py, and how it behaves in check and diff mode."""

    DOCUMENTATION = r"""
options:
  uri:
    description:
      - libvirt URI of the hypervisor, as the host that runs the task reaches it.
    type: str
    default: qemu:///system
requirements:
  - python3-libvirt (on the host that runs the task)
  - python3-lxml (on the host that runs the task)
attributes:
  action_group:
    description: Use C(group/kvmops.fleet.kvm) in C(module_defaults) to set options for all modules of the group.
    support: full
    membership:
      - kvmops.fleet.kvm
  check_mode:
    description: Can run in check mode and say what it would do, in words, without changing anything.
    support: full
  diff_mode:
    description: Shows in diff mode what differs between before and after.
    support: full
"""

    # For modules that only read.
    INFO = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check mode. It changes nothing in either mode.
    support: full
  diff_mode:
    description: There is nothing to show in diff mode, since nothing changes.
    support: N/A
"""
