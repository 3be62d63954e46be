# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every concern that the fix-up of an image can raise: level and remedy stand here."""

from __future__ import annotations

from typing import Dict, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import ERROR, WARNING, Concern, Entry

ENTRIES: Tuple[Entry, ...] = (
    Entry(
        "p2v-fixup-no-system",
        ERROR,
        "no system, or more than one, is found in the images",
        "Give the disks that the machine boots from, and one system only; or leave fixup out and prepare the images yourself.",
    ),
    Entry(
        "p2v-fixup-not-mounted",
        ERROR,
        "a part of the system cannot be mounted",
        "Copy its disk too. LUKS and filesystems that this host's kernel does not know cannot be fixed up: leave fixup out.",
    ),
    Entry(
        "p2v-fixup-no-initramfs",
        WARNING,
        "no kernel with an initramfs is found, and virtio is not part of a kernel",
        "Look at /boot of the machine; test the boot with boot_test before you rely on the copy.",
    ),
    Entry(
        "p2v-fixup-architecture",
        ERROR,
        "the system is of another processor than this host",
        "Its own tools cannot run here: use a host of that architecture.",
    ),
    Entry(
        "p2v-fixup-cannot-rebuild",
        ERROR,
        "the initramfs lacks what the guest boots with, and there is no tool to make it anew",
        "Add virtio_pci and virtio_blk to the initramfs on the physical machine, then copy it again.",
    ),
    Entry(
        "p2v-fixup-no-virtio",
        WARNING,
        "a kernel has no virtio drivers",
        "The domain gets a SATA disk and an e1000e card instead; a newer kernel would make it faster.",
    ),
    Entry(
        "p2v-fixup-unknown-device",
        WARNING,
        "a disk is called by its hardware, and nothing says which one it is",
        "Write UUID=... there on the physical machine, or correct it in the guest.",
    ),
    Entry(
        "p2v-fixup-network-by-hardware",
        WARNING,
        "network settings choose a card by its driver or its slot",
        "Let them choose it by its name or its MAC address, which the guest's card has as well.",
    ),
    Entry(
        "p2v-fixup-no-card",
        WARNING,
        "no network card of the machine is known",
        "Names of interfaces are not kept. Give the domain's networks, and look at the guest's settings.",
    ),
    Entry(
        "p2v-fixup-card-unnamed",
        WARNING,
        "the rescue system calls a card by a name that the installed system's settings do not have",
        "That card's name is not pinned. Look at the guest's settings: they must find it by its MAC address, or by its new name.",
    ),
    Entry(
        "p2v-fixup-no-boot-file",
        ERROR,
        "the machine boots by UEFI, and no loader is found on its EFI partition",
        "Copy the disk with the EFI partition too.",
    ),
    Entry(
        "p2v-fixup-no-agent",
        ERROR,
        "the guest agent is asked for, and the system has none",
        "Give its package files in fixup_options.guest_agent_packages, or install it on the physical machine: nothing is downloaded.",
    ),
    Entry(
        "p2v-fixup-agent-packages",
        ERROR,
        "the packages of the guest agent are of another kind than those of the system",
        "Give .deb files for Debian and Ubuntu, .rpm files for the others, of the release that the machine has.",
    ),
)

FIXUP_CATALOGUE: Dict[str, Entry] = {entry.id: entry for entry in ENTRIES}


def concern(name: str, detail: str) -> Concern:
    """The concern of that id. detail: what was found, with names and values."""
    entry = FIXUP_CATALOGUE[name]
    return Concern(entry.id, entry.level, detail, entry.remedy)
