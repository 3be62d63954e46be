# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a running guest can take at once, and why the rest waits for its next boot."""

from __future__ import annotations

from typing import Callable, Dict, NamedTuple, Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Disk, Domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_change import Change
from ansible_collections.kvmops.fleet.plugins.module_utils.model.hotplug import Room

# The buses on which a running guest sees disks come and go.
PLUGGABLE = ("virtio", "scsi", "usb")
DISKS = ("disk", "lun")
REMOVABLE = ("cdrom", "floppy")

# QEMU 7.2 without KVM ended with "corrupted size vs. prev_size" soon after each vCPU that a guest had given back.
EMULATED = "an emulated guest may die of it"
NO_PORT = "no PCI port of the running guest is free"
PAUSED = "the guest stands still and gives nothing back"
NO_HOT_CHANGE = ""


class Ask(NamedTuple):
    """One change of a running guest. defined: the definition says it already, so the guest was told before.

    awake: the guest runs, and can answer.
    """

    change: Change
    live: Domain
    room: Room
    defined: bool
    awake: bool


def obstacle(ask: Ask) -> Optional[str]:
    """Why it waits for the next boot, in words that may be empty; None: it can be done at once."""
    judge = _JUDGES.get(ask.change.edit.name)
    return NO_HOT_CHANGE if judge is None else judge(ask)


def ports_used(change: Change) -> int:
    """Free PCI ports that a change of a running guest takes; negative: it gives some back."""
    edit = change.edit
    if edit.name in ("nic_add", "nic_drop"):
        return 1 if edit.name == "nic_add" else -1
    if edit.name == "disk_add" and edit.args["disk"].bus in ("virtio", "scsi"):
        return 1
    return 0


def _memory(ask: Ask) -> Optional[str]:
    wanted, now = ask.change.edit.args["mib"], ask.live.memory_now_mib
    if wanted > ask.live.memory_mib:
        return "the guest was started with %d MiB at most" % ask.live.memory_mib
    if not ask.room.balloon:
        return "the guest has no memory balloon"
    if wanted < now and ask.defined:
        # It may have booted a moment ago, with all that it can have.
        return "the guest has not given it back yet"
    return None if ask.awake else PAUSED


def _vcpus(ask: Ask) -> Optional[str]:
    wanted, now = ask.change.edit.args["count"], ask.live.vcpus_now
    if wanted > ask.live.vcpus:
        return "the guest was started with %d at most" % ask.live.vcpus
    if wanted < now and now - wanted > ask.room.removable_vcpus:
        return "the guest keeps those that it booted with"
    if wanted < now and ask.live.type == "qemu":
        return EMULATED
    return None if ask.awake or wanted > now else PAUSED


def _disk_add(ask: Ask) -> Optional[str]:
    disk: Disk = ask.change.edit.args["disk"]
    if disk.device not in DISKS or disk.bus not in PLUGGABLE:
        return "a running guest takes no %s on the %s bus" % (disk.device, disk.bus)
    needs_port = disk.bus == "virtio" or (disk.bus == "scsi" and not ask.room.scsi)
    return NO_PORT if needs_port and ask.room.pci_ports == 0 else None


def _disk_drop(ask: Ask) -> Optional[str]:
    target = ask.change.edit.args["target"]
    disk = next(one for one in ask.live.disks if one.target == target)
    if disk.device not in DISKS or disk.bus not in PLUGGABLE:
        return "a running guest gives no %s on the %s bus back" % (disk.device, disk.bus)
    if target == boot_disk(ask.live):
        return "the running system is likely to be on it"
    return None if ask.awake else PAUSED


def boot_disk(domain: Domain) -> Optional[str]:
    """Target of the disk that the firmware tries first; also of a guest that boots a kernel of the host, for its root."""
    disks = [disk for disk in domain.disks if disk.device in DISKS]
    ordered = sorted((disk.boot_order, disk.target) for disk in disks if disk.boot_order is not None)
    if ordered:
        return ordered[0][1]
    return disks[0].target if disks else None


def _disk_set(ask: Ask) -> Optional[str]:
    args = ask.change.edit.args
    disk = next(one for one in ask.live.disks if one.target == args["target"])
    return None if args["field"] == "source" and disk.device in REMOVABLE else NO_HOT_CHANGE


def _nic_add(ask: Ask) -> Optional[str]:
    return NO_PORT if ask.room.pci_ports == 0 else None


def _nic_drop(ask: Ask) -> Optional[str]:
    return None if ask.awake else PAUSED


def _nic_set(ask: Ask) -> Optional[str]:
    return None if "model" not in ask.change.edit.args else NO_HOT_CHANGE


_JUDGES: Dict[str, Callable[[Ask], Optional[str]]] = {
    "memory": _memory,
    "vcpus": _vcpus,
    "disk_add": _disk_add,
    "disk_drop": _disk_drop,
    "disk_set": _disk_set,
    "nic_add": _nic_add,
    "nic_drop": _nic_drop,
    "nic_set": _nic_set,
}
