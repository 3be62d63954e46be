# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Parts of a domain's virtual hardware."""

    DOCUMENTATION = r"""
options:
  cpu:
    description:
      - V(host-model), V(host-passthrough), V(maximum), or the name of a CPU model such as V(Westmere).
      - Or a dictionary with C(mode), C(model) and C(features), a list of C(NAME) or C(NAME=POLICY).
      - A new domain of type kvm gets V(host-model) when not given.
    type: raw
    version_added: 0.1.0
  machine:
    description:
      - Machine type. An alias such as V(q35) is satisfied by any version of its family, so that a domain keeps the
        version that it was made with.
      - A new domain on x86_64 gets V(q35) when not given. For hosts of different releases give a version that all of
        them know, such as V(pc-q35-7.2).
    type: str
    version_added: 0.1.0
  boot:
    description: Direct kernel boot. An empty string removes a part, a part that is not given is left alone.
    type: dict
    version_added: 0.1.0
    suboptions:
      kernel:
        description: Path of the kernel on the host.
        type: str
      initrd:
        description: Path of the initial RAM disk on the host.
        type: str
      cmdline:
        description: The kernel's command line.
        type: str
  graphics:
    description: Graphical console, on the host's loopback address. A new domain has none when not given.
    type: str
    version_added: 0.1.0
    choices: [none, vnc, spice]
  tpm:
    description: V(emulator) is a TPM 2.0 by swtpm.
    type: str
    version_added: 0.1.0
    choices: [none, emulator]
  serial_log:
    description:
      - File of the host that gets a copy of what the guest writes on its first serial line. An empty string stops it.
      - Every domain made by this module has a serial console.
    type: str
    version_added: 0.1.0
"""
