# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A machine that was booted from rescue media: which of its disks are the rescue system's, and what else must not be believed.

What a rescue system tells of itself (its root, addresses, the firmware it was booted by) is not what the installed system is.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any, Dict, FrozenSet, Iterator, List, Mapping, Set, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import P2vWish, Source, SourceDisk
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_concerns import concern
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_preflight import wanted_disks

# Where live systems mount what they came from: live-boot, casper, dracut's dmsquash-live, archiso, SystemRescue.
LIVE = re.compile(
    r"^(/run/live|/lib/live|/usr/lib/live|/cdrom|/rofs|/run/initramfs|/run/archiso|/run/rootfsbase|/run/overlay)(/|$)"
)
# What no installed system has as a disk.
MEDIA = frozenset(["iso9660", "udf", "squashfs"])
# PART_ENTRY_TYPE, as blkid tells it.
EFI_SYSTEM = frozenset(["c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "0xef"])
BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649"


def cold_disks(wish: P2vWish, source: Source) -> Tuple[SourceDisk, ...]:
    """The disks of the request, without the rescue system's own medium."""
    own = media_of(source.facts)
    return tuple(disk for disk in wanted_disks(wish, source) if disk.name not in own)


def media_of(facts: Mapping[str, Any]) -> Dict[str, str]:
    """Disk -> by what it is known as what the rescue system came from."""
    found: Dict[str, str] = {}
    for mount in facts.get("mounts", ()):
        point, kind = str(mount.get("point")), mount.get("fstype")
        if LIVE.match(point) or (kind in MEDIA and not str(mount.get("device")).startswith("loop")):
            for disk in disks_below(facts, str(mount.get("device"))):
                found.setdefault(disk, "%s at %s" % (kind, point))
    if any(
        mount.get("point") == "/" and disks_below(facts, str(mount.get("device"))) for mount in facts.get("mounts", ())
    ):
        # The root is on a disk itself: a file of it that is mounted as well is no rescue system.
        return found
    for loop in facts.get("loops", ()):
        mounted = any(mount.get("device") == loop.get("name") for mount in facts.get("mounts", ()))
        for disk in _holding(facts, str(loop.get("file"))) if mounted else ():
            found.setdefault(disk, "it holds %s, which is mounted" % loop["file"])
    return found


def disks_below(facts: Mapping[str, Any], name: str) -> FrozenSet[str]:
    """The disks that a device lies on, in whatever way."""
    devices = {str(device["name"]): device for device in facts.get("devices", ())}
    found: Set[str] = set()
    waiting, seen = [name], set()
    while waiting:
        here = waiting.pop()
        if here in seen or here not in devices:
            continue
        seen.add(here)
        found.update(piece["disk"] for piece in devices[here].get("pieces") or ())
        waiting += devices[here].get("below") or ()
    return frozenset(found)


def _holding(facts: Mapping[str, Any], path: str) -> FrozenSet[str]:
    """The disks on which a file lies."""
    mounts = {str(mount["point"]): mount for mount in facts.get("mounts", ())}
    folder = posixpath.dirname(path)
    while folder not in mounts and folder not in ("/", ""):
        folder = posixpath.dirname(folder)
    mount = mounts.get(folder)
    return disks_below(facts, str(mount.get("device"))) if mount else frozenset()


def cold_concerns(wish: P2vWish, source: Source) -> List[Concern]:
    """What speaks against one pass over disks that nobody tracks."""
    own = media_of(source.facts)
    names = {disk.name for disk in cold_disks(wish, source)}
    told = [concern("p2v-cold-medium", "%s: %s" % (name, own[name])) for name in sorted(own)]
    if not names and own:
        told.append(concern("p2v-no-disk", "%s shows only %s, its own medium" % (source.name, ", ".join(sorted(own)))))
    told += [concern("p2v-cold-in-use", found) for found in _in_use(source.facts, names)]
    for device in source.facts.get("devices", ()):
        syncs = str(device.get("raid_sync") or "idle")
        if syncs not in ("idle", "frozen", "check") and disks_below(source.facts, str(device["name"])) & names:
            told.append(concern("p2v-cold-array", "%s: %s" % (device["name"], syncs)))
    return told


def _in_use(facts: Mapping[str, Any], names: Set[str]) -> Iterator[str]:
    places: Dict[str, List[str]] = {}
    for mount in facts.get("mounts", ()):
        if "ro" not in str(mount.get("options")).split(","):
            for disk in disks_below(facts, str(mount.get("device"))) & names:
                places.setdefault(disk, []).append("mounted read-write at %s" % mount["point"])
    for swap in facts.get("swaps", ()):
        for disk in disks_below(facts, str(swap.get("device"))) & names:
            places.setdefault(disk, []).append("used as swap space (%s)" % swap["device"])
    for disk in sorted(places):
        yield "%s is %s" % (disk, ", ".join(sorted(set(places[disk]))))


def installed(facts: Mapping[str, Any], names: Set[str]) -> Dict[str, Any]:
    """The discovery without what is the rescue system's. names: of the disks that are copied."""
    cards = [dict(each, addresses=[]) for each in facts.get("interfaces") or ()]
    boot = dict(facts.get("boot") or {}, firmware=_firmware(facts, names))
    return dict(facts, mounts=[], interfaces=cards, boot=boot, rescue=True)


def _firmware(facts: Mapping[str, Any], names: Set[str]) -> Any:
    """By the partitions; where they allow both or tell nothing, as the rescue system was booted."""
    kinds = set()
    for device in facts.get("devices", ()):
        if disks_below(facts, str(device["name"])) & names:
            kinds.add(str((device.get("signature") or {}).get("part_entry_type") or "").lower())
    kinds.discard("")
    if kinds and not kinds & EFI_SYSTEM:
        return "bios"
    if kinds and BIOS_BOOT not in kinds:
        return "uefi"
    return (facts.get("boot") or {}).get("firmware")
