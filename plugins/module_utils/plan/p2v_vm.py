# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What becomes of a finished copy: a fix-up on an overlay, a domain, a boot test; and when nothing of it is left to do."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import ERROR, WARNING, Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.fixup import Card
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_vm import (
    AGENT,
    AUTO,
    CONSOLE,
    DONE,
    FORMAT,
    PORT,
    RECORD,
    BootTest,
    Neighbour,
    VmDisk,
    VmFound,
    VmWish,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Step

MIB = 1024 * 1024
# The kernel keeps some of the memory for itself before it counts: the next multiple is what the machine has.
_MEMORY_STEP_MIB = 128
# What virtio-blk can carry, and udev makes a link of.
_SERIAL = re.compile(r"^[A-Za-z0-9_.-]{1,20}$")
_PLAIN = (
    "uuid", "cpu", "machine", "graphics", "tpm", "serial_log", "metadata", "autostart",
)  # fmt: skip
_DISK: Dict[str, Any] = dict.fromkeys(
    ("pool", "name", "path", "source", "format", "size_mib", "bus", "target", "readonly", "shareable", "cache", "discard", "serial", "backing")
)  # fmt: skip


def wish_of(wish: VmWish) -> Dict[str, Any]:
    """By which an earlier fix-up is known to be of this request."""
    return {"fixup": wish.fixup.as_dict() if wish.fixup is not None else None}


def is_done(wish: VmWish, found: VmFound) -> bool:
    """Whether the overlays are those of this request, over the images as they are."""
    record = found.record
    if record is None or record.get("record") != RECORD or record.get("wish") != wish_of(wish):
        return False
    disks = record.get("disks") or {}
    if record.get("flat"):
        # From then on the images are the guest's own.
        return all(disk.image in found.marks for disk in found.disks)
    return set(disks) == {disk.name for disk in found.disks} and all(
        found.marks.get(disk.image) == disks[disk.name]["image"] and disk.overlay in found.marks for disk in found.disks
    )


def is_flat(found: VmFound) -> bool:
    """Whether the guest's disks are the images themselves."""
    return (found.record or {}).get("flat") == DONE


def was_tested(wish: VmWish, found: VmFound) -> bool:
    return bool((found.record or {}).get("boot_test")) and is_done(wish, found)


def expected_s(wish: VmWish, found: VmFound) -> Optional[float]:
    """How long the guest will take, by the last time that it was made of this machine. None when that is not known."""
    record = found.record or {}
    took = record.get("took") or {}
    if not wish.wanted:
        return 0.0
    needed = ["fixup_s", *(["boot_test_s"] if wish.boot_test is not None else [])]
    if (
        record.get("record") != RECORD
        or record.get("wish") != wish_of(wish)
        or any(took.get(key) is None for key in needed)
    ):
        return None
    return float(sum(took[key] for key in needed))


def concerns(wish: VmWish, found: VmFound, changes: bool) -> List[Concern]:
    """changes: the images are about to change, which makes the overlays over them worthless."""
    told: List[Concern] = []
    there = [disk for disk in found.disks if disk.overlay in found.marks]
    if there and (changes or (wish.wanted and not is_done(wish, found))):
        for disk in there:
            told += _in_the_way(disk, found)
    for disk in found.disks if wish.wanted and not is_done(wish, found) else ():
        if disk.published is not None and found.marks.get(disk.image, disk.published) != disk.published:
            detail = "%s is not as it was when it was finished" % disk.image
            remedy = "A guest has written to it: define that guest with kvm_domain."
            told.append(Concern("p2v-vm-image-changed", ERROR, detail, remedy))
    if found.foreign:
        detail = "domain %s is there, and its disks are not those of this machine" % wish.domain_name
        told.append(Concern("p2v-vm-domain-exists", ERROR, detail, "Give domain another name."))
    if found.cannot_open and wish.fixup is not None and (changes or not is_done(wish, found)):
        told.append(Concern("p2v-fixup-no-libguestfs", ERROR, found.cannot_open, "Or leave fixup out."))
    if found.no_packages and (changes or not is_done(wish, found)):
        detail = "this host cannot read %s" % ", ".join(found.no_packages)
        remedy = "Put the files of fixup_options.guest_agent_packages there."
        told.append(Concern("p2v-fixup-no-package", ERROR, detail, remedy))
    return told


def rehearsal_concerns(seconds: Optional[float]) -> List[Concern]:
    """seconds: how long the source will stand still for its guest, where that is known."""
    if seconds is not None:
        return []
    detail = "how long the source will stand still for its fix-up and boot test is not known"
    return [
        Concern(
            "p2v-vm-not-rehearsed", WARNING, detail, "Run once with cutover none and the same options: it is timed."
        )
    ]


def channel_concerns(wish: VmWish, found: VmFound, has_channel: bool) -> List[Concern]:
    """has_channel: the domain has the one for a guest agent, or is still to be made."""
    asked = wish.fixup is not None and wish.fixup.guest_agent
    if has_channel or not (asked or ((found.record or {}).get("equipment") or {}).get("guest_agent")):
        return []
    detail = "domain %s has no channel org.qemu.guest_agent.0" % wish.domain_name
    remedy = "Add it (virsh attach-device --config), or remove the domain: a new one has it."
    return [Concern("p2v-vm-no-agent-channel", WARNING, detail, remedy)]


def _in_the_way(disk: VmDisk, found: VmFound) -> List[Concern]:
    running = found.running.get(disk.overlay)
    if running:
        detail = "%s is a disk of %s, which runs" % (disk.overlay, ", ".join(running))
        return [Concern("p2v-vm-running", ERROR, detail, "Stop it first: its disk is made anew from the source.")]
    record = (found.record or {}).get("disks") or {}
    if found.marks[disk.overlay] != (record.get(disk.name) or {}).get("overlay"):
        detail = "%s was written to since the fix-up: its domain has been started" % disk.overlay
        remedy = "What it holds would be lost. Remove that file if you do not need it, then run again."
        return [Concern("p2v-vm-written", ERROR, detail, remedy)]
    return []


def retire_steps(found: VmFound) -> List[Step]:
    """Before the images change."""
    stale = [disk.overlay for disk in found.disks if disk.overlay in found.marks]
    return [Step("vm-retire", "remove %s, of an earlier state of the image" % ", ".join(stale))] if stale else []


def steps(wish: VmWish, found: VmFound, copies: bool) -> List[Step]:
    """The fix-up and the boot test; the domain's own steps are kvm_domain's. copies: the images are made or changed."""
    if not wish.wanted:
        return []
    told = []
    done = is_done(wish, found) and not copies
    if not done:
        what = "fix up the system on" if wish.fixup is not None else "make"
        overlays = ", ".join(disk.overlay for disk in found.disks)
        told.append(Step("vm-fixup", "%s %s%s" % (what, overlays, _last_time(found, "fixup_s"))))
    if wish.boot_test is not None and not (done and was_tested(wish, found)):
        words = "boot a copy of %s without a link, for %d s at most" % (wish.domain_name, wish.boot_test.timeout_s)
        words += _last_time(found, "boot_test_s")
        told.append(Step("vm-boot-test", words))
    if wish.final and (copies or not is_flat(found) or retire_steps(found)) and not any(found.running.values()):
        told.append(Step("vm-flatten", "put what the fix-up changed into the images, and remove the overlays"))
    return told


def _last_time(found: VmFound, key: str) -> str:
    seconds = ((found.record or {}).get("took") or {}).get(key)
    return "" if seconds is None else " (%.0f s the last time)" % seconds


def sign_of(wish: VmWish, equipment: Mapping[str, Any]) -> Tuple[Optional[str], str]:
    """What shows that the guest has booted, and why there is nothing when it is None."""
    test = wish.boot_test or BootTest()
    if test.wait_for != AUTO:
        return test.wait_for, ""
    if test.port is not None:
        return PORT, ""
    if equipment.get("serial_console") or wish.fixup is None:
        return CONSOLE, ""
    if equipment.get("guest_agent"):
        return AGENT, ""
    return None, "the system has no serial console and no guest agent"


def addresses_of(cards: Sequence[Card], plugged: Sequence[str]) -> Tuple[str, ...]:
    """At which the guest will answer: those of the source's cards that it keeps. plugged: MACs of the domain's cards."""
    kept = [address for card in cards if card.mac in plugged for address in card.addresses]
    return tuple(sorted({address.partition("/")[0] for address in kept}))


def neighbour_of(cards: Sequence[Card], plugged: Sequence[str]) -> Optional[Neighbour]:
    """Where a probe can sit beside the guest: in the network of the first static IPv4 address that it keeps.

    plugged: MACs of the domain's cards. None when there is no such address.
    """
    for card in cards:
        for address in card.addresses if card.mac in plugged else ():
            there = ipaddress.ip_interface(address)
            if there.version == 4 and there.network.prefixlen <= 30:
                own = next(host for host in there.network.hosts() if host != there.ip)
                return Neighbour(card.mac, str(there.ip), str(own), there.network.prefixlen)
    return None


def domain_params(
    domain: Mapping[str, Any],
    name: str,
    disks: Sequence[VmDisk],
    machine: Mapping[str, Any],
    equipment: Mapping[str, Any],
    cards: Sequence[Card] = (),
    bridges: Sequence[str] = (),
    flat: bool = False,
    exists: bool = False,
) -> Dict[str, Any]:
    """The options of kvm_domain: those that were given, and for a new domain the source's where none were.

    flat: its disks are the images themselves. exists: what the user does not say is left alone.
    """
    held = int(machine.get("memory_bytes") or 0)
    memory = -(-held // (MIB * _MEMORY_STEP_MIB)) * _MEMORY_STEP_MIB or None
    firmware = domain.get("firmware") or ("efi" if machine.get("firmware") == "uefi" else None)
    params: Dict[str, Any] = {key: domain.get(key) for key in _PLAIN}
    params.update(
        name=domain.get("name") or name,
        state=domain.get("state") or "present",
        domain_type=domain.get("domain_type") or "auto",
        memory_mib=domain.get("memory_mib"),
        vcpus=domain.get("vcpus"),
        firmware=domain.get("firmware"),
        boot=None,
        xml=None,
        disks=[_disk(disk, equipment, flat) for disk in disks],
        networks=None,
        force=False,
        wait_timeout=120,
        remove_storage=False,
    )
    if not exists:
        params["memory_mib"] = memory if params["memory_mib"] is None else params["memory_mib"]
        params["vcpus"] = int(machine.get("cpus") or 1) if params["vcpus"] is None else params["vcpus"]
        params["firmware"] = firmware
    if not exists or domain.get("networks") is not None:
        params["networks"] = networks(domain.get("networks"), cards, equipment, bridges)
    return params


def _disk(disk: VmDisk, equipment: Mapping[str, Any], flat: bool) -> Dict[str, Any]:
    serial = disk.serial if disk.serial and _SERIAL.match(disk.serial) else None
    bus = str(equipment.get("disk_bus") or "virtio")
    return dict(
        _DISK,
        device="disk",
        path=disk.image if flat else disk.overlay,
        format=disk.format if flat else FORMAT,
        bus=bus,
        serial=serial,
    )


def networks(
    given: Optional[Sequence[Mapping[str, Any]]],
    cards: Sequence[Card],
    equipment: Mapping[str, Any],
    bridges: Sequence[str],
) -> List[Dict[str, Any]]:
    """One card for each of the source's, with its MAC, unless the user lists them. Without a bridge of its own: the only one here."""
    model = str(equipment.get("card_model") or "virtio")
    macs = {card.name: card.mac for card in cards}
    only = bridges[0] if len(bridges) == 1 else None
    if given is None:
        used = [card for card in cards if card.up or card.addresses]
        return [{"bridge": only, "network": None, "mac": card.mac, "model": model} for card in used if only]
    return [
        {
            "bridge": nic.get("bridge") or (None if nic.get("network") else only),
            "network": nic.get("network"),
            "mac": nic.get("mac") or macs.get(str(nic.get("interface"))),
            "model": nic.get("model") or model,
        }
        for nic in given
    ]


def domain_concerns(
    wish: VmWish, cards: Sequence[Card], bridges: Sequence[str], knows_source: bool = True
) -> List[Concern]:
    """What the domain's cards lack. cards: of the source."""
    if wish.domain is None:
        return []
    told = []
    given = wish.domain.get("networks")
    names = [card.name for card in cards]
    for nic in given or ():
        if nic.get("interface") and nic["interface"] not in names and knows_source:
            detail = "domain.networks has %s; the machine has %s" % (nic["interface"], ", ".join(names) or "none")
            told.append(Concern("p2v-vm-no-such-card", ERROR, detail, "Name a card that mode gather shows."))
    unplugged = [nic for nic in given or () if not nic.get("bridge") and not nic.get("network")]
    if len(bridges) != 1 and (unplugged or (given is None and any(card.up or card.addresses for card in cards))):
        detail = "this host has the bridges %s" % (", ".join(bridges) or "(none)")
        remedy = "Say which card belongs to which bridge: domain.networks, with interface and bridge."
        level = ERROR if unplugged else WARNING
        told.append(Concern("p2v-vm-no-bridge", level, detail, remedy))
    return told
