# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of kvm_p2v_image that say what becomes of the copied disks."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  fixup:
    description:
      - Prepares the copied system for its life as a guest, with libguestfs, on an overlay over each image. The images themselves stay what
        the machine was, so that they can be brought up to date.
      - The initramfs gets the virtio drivers if it lacks them, disks that are called by their hardware are called by their UUID, network
        cards keep their names and with them their addresses, UEFI finds a loader, and services for hardware that a guest does not have are
        off. The result says in words what was changed.
      - The overlays bear their names (C(NAME-sda.vm.qcow2)) when all of it has succeeded. Before a new copy they are removed, and made anew
        behind it. One that a guest has written to is not removed; the run is refused.
      - It needs C(python3-guestfs), C(libguestfs-tools), C(libguestfs-xfs) and a kernel in C(/boot) on the host that runs the task.
    type: bool
    default: false
  fixup_options:
    description: How O(fixup) is done.
    type: dict
    suboptions:
      serial_console:
        description: The kernel and a login are on the first serial port as well.
        type: bool
        default: false
      services_off:
        description: Services to switch off, besides those that are known to belong to hardware.
        type: list
        elements: str
      keep_services:
        description: Services that stay on, although they are known to belong to hardware.
        type: list
        elements: str
      guest_agent:
        description:
          - The system has QEMU's guest agent, and starts it. One that is installed is switched on if it is off.
          - One that is missing is installed of O(fixup_options.guest_agent_packages). Without them the fix-up is refused. Nothing is downloaded.
        type: bool
        default: false
      guest_agent_packages:
        description:
          - Package files on the host that runs the task (C(.deb) or C(.rpm)), of the release that the machine has. The agent's own, and those
            that it depends on and the system lacks. The system's own C(dpkg) or C(rpm) installs them, without a network and without starting
            anything. What the system has newer stays.
          - They are not used when the agent is installed.
        type: list
        elements: path
      timeout_s:
        description: The fix-up is given up after so many seconds.
        type: float
        default: 900.0
  domain:
    description:
      - The domain that the copy becomes, by the options of M(kvmops.fleet.kvm_domain). What is not given is taken from the machine.
      - Its disks are the overlays. With O(cutover=poweroff) these are put into the images when the machine is off, and it has the images.
      - An empty dictionary is a domain as the machine is. Of a domain that is there, what is not given is left alone.
      - With O(import_from) there is no machine to take anything from. O(domain.memory_mib), O(domain.vcpus), O(domain.firmware) and
        O(domain.networks) must be given.
    type: dict
    suboptions:
      name:
        description: Name of the domain. Not set means the O(name) of the images.
        type: str
      state:
        description:
          - V(present) defines it.
          - V(running) starts it as well, when the machine has been powered off. It belongs to O(cutover=poweroff), or to O(import_from).
        type: str
        choices: [present, running]
        default: present
      networks:
        description:
          - The network cards, the whole list. Not set means one for each of the machine's cards that is in use, with the same MAC address, on
            the bridge of this host if there is exactly one.
        type: list
        elements: dict
        suboptions:
          interface:
            description: The machine's card whose MAC address this one gets. With O(import_from) its name there, beside C(mac).
            type: str
          bridge:
            description: The bridge of this host. Not set means the only one.
            type: str
          network:
            description: The libvirt network, instead of a bridge.
            type: str
          mac:
            description: Another MAC address.
            type: str
          model:
            description: Not set means virtio, or e1000e for a kernel without its drivers.
            type: str
      memory_mib:
        description: Memory in MiB.
        type: int
      vcpus:
        description: Number of virtual CPUs.
        type: int
      cpu:
        description: As in M(kvmops.fleet.kvm_domain).
        type: raw
      machine:
        description: Machine type.
        type: str
      firmware:
        description: Not set means that of the machine.
        type: str
        choices: [bios, efi]
      domain_type:
        description: V(auto) takes KVM where it works.
        type: str
        choices: [auto, kvm, qemu]
        default: auto
      graphics:
        description: A screen.
        type: str
        choices: [none, vnc, spice]
      tpm:
        description: A TPM.
        type: str
        choices: [none, emulator]
      serial_log:
        description: File on the host that keeps what the serial console shows.
        type: str
      metadata:
        description: Keys and values kept in the definition.
        type: dict
      autostart:
        description: Whether it starts with its host.
        type: bool
      uuid:
        description: UUID of the domain.
        type: str
  boot_test:
    description:
      - Boots a throw-away copy of O(domain), without a link on its cards, and waits until it is up. What it writes is thrown away.
      - The task fails when it does not boot, with the last lines of its console. With O(cutover) the machine stands still meanwhile, and
        is powered off only after the test was passed. When it fails the machine serves again.
    type: dict
    suboptions:
      timeout_s:
        description: How long the boot may take, in seconds.
        type: float
        default: 300.0
      wait_for:
        description:
          - V(console) is a login prompt on the serial console.
          - V(agent) is an answer of the guest agent.
          - V(port) is an accepted TCP connection to O(boot_test.port).
          - V(auto) is the port if one is given, else the console if the kernel has a serial one, else the agent if it is installed.
        type: str
        choices: [auto, console, agent, port]
        default: auto
      port:
        description:
          - TCP port of the guest, at the first static IPv4 address of the machine that is on one of the domain's cards.
          - For the test that card is on a bridge of its own, which leads nowhere, with a probe beside the guest. The other cards have no link.
        type: int
"""
