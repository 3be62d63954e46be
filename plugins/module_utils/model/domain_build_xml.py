# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The XML of a new domain: a skeleton of sound defaults, then the same edits as for an existing one."""

from __future__ import annotations

from typing import Iterable, Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.model import edit_xml, safe_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_change import Edit
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_patch_xml import patch

_SKELETON = """
<domain>
  <name/>
  <memory/>
  <currentMemory/>
  <vcpu>1</vcpu>
  <os><type>hvm</type></os>
  <features><acpi/><apic/></features>
  <clock offset="utc"/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <serial type="pty"><target port="0"/></serial>
    <console type="pty"><target type="serial" port="0"/></console>
    <channel type="unix"><target type="virtio" name="org.qemu.guest_agent.0"/></channel>
    <memballoon model="virtio"/>
    <rng model="virtio"><backend model="random">/dev/urandom</backend></rng>
  </devices>
</domain>
"""

_X86 = ("x86_64", "i686")
# A device that is plugged into a running guest takes one; libvirt makes no more than the definition uses. virt-install does the same.
_PCIE_PORTS = 14


def build(name: str, arch: str, edits: Iterable[Edit], uuid: Optional[str] = None) -> str:
    """A definition for libvirt. What is not said (emulator, controllers, addresses) libvirt chooses."""
    root = safe_xml.parse(_SKELETON)
    root.find("name").text = name
    if uuid:
        edit_xml.get_or_add(root, "uuid", ("memory",)).text = uuid
    root.find("os/type").set("arch", arch)
    if arch not in _X86:
        edit_xml.drop(root, "features")
    root = safe_xml.parse(patch(safe_xml.render(root), edits))
    if "q35" in root.find("os/type").get("machine", ""):
        for model in ["pcie-root"] + ["pcie-root-port"] * _PCIE_PORTS:
            edit_xml.add(root.find("devices"), "controller", {"type": "pci", "model": model})
    return safe_xml.render(root)
