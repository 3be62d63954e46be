# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filesystems of a copied system, found and mounted as its own fstab says: by content, or by the source's names of disks."""

from __future__ import annotations

import contextlib
import re
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

_SHELLS = ("/bin/sh", "/usr/bin/sh", "/bin/bash")
_NO_ROOT = ("swap", "vfat", "unknown", "", "crypto_LUKS", "LVM2_member", "linux_raid_member", "iso9660")
# Mounted when fstab has them; everything else is data that no tool of the system needs.
_SYSTEM = re.compile(r"^/(boot|boot/efi|efi|usr|var|var/lib|var/cache|etc|opt|srv|home|tmp)?$")


def find_systems(handle: Any, known: Mapping[str, Any]) -> List[str]:
    """Filesystems that hold the root of a system; the source's own, when `known` (machine_of: root) tells which that is.

    libguestfs' own inspection would ask much more, for as long as all the rest.
    """
    found = []
    for mountable, kind in sorted(handle.list_filesystems().items()):
        if kind in _NO_ROOT or "snapshot" in mountable:
            continue
        # The subvolume that is mounted by itself is seen already.
        if any(mountable.startswith("btrfsvol:%s/" % each) for each in found):
            continue
        try:
            handle.mount_ro(mountable, "/")
        except RuntimeError:
            # A filesystem that its kernel does not know is no root that it could change either.
            continue
        if handle.is_file("/etc/fstab") and any(handle.exists(path) for path in _SHELLS):
            found.append(str(mountable))
        handle.umount("/")
    return _own(handle, found, known) if len(found) > 1 else found


def _own(handle: Any, found: List[str], known: Mapping[str, Any]) -> List[str]:
    """By the name of the logical volume, since a snapshot has the same UUID; else by that."""
    mapping, uuid = known.get("mapping"), known.get("uuid")
    if mapping:
        with contextlib.suppress(RuntimeError):
            volume = str(handle.lvm_canonical_lv_name("/dev/mapper/%s" % mapping))
            if volume in found:
                return [volume]
    same = [each for each in found if uuid and handle.vfs_uuid(handle.mountable_device(each)) == uuid]
    return same or found


def mount_all(handle: Any, root: str, disks: Sequence[str], links: Mapping[str, str]) -> List[str]:
    """Mounts the system whose root that is. Gives the mount points that could not be.

    disks: the source's names, in the order of the images. links: its other names of disks -> "/dev/sda".
    """
    here = {name: device for device, name in names_of(handle, disks).items()}
    here.update(_linked(handle, here, links))
    handle.mount(root, "/")
    return [
        point
        for spec, point, options in _fstab(handle)
        if not _mounted(handle, _resolved(handle, spec, here), point, options)
    ]


def names_of(handle: Any, disks: Sequence[str]) -> Dict[str, str]:
    """libguestfs' name of each disk and partition -> the source's."""
    found = {}
    for device, name in zip(handle.list_devices(), disks):
        found[device] = "/dev/" + name
        for part in handle.list_partitions():
            if handle.part_to_dev(part) == device:
                between = "p" if name[-1].isdigit() else ""
                found[part] = "/dev/%s%s%d" % (name, between, handle.part_to_partnum(part))
    return found


def _linked(handle: Any, here: Mapping[str, str], links: Mapping[str, str]) -> Dict[str, str]:
    """The links of the source's disks and their partitions -> libguestfs' names."""
    found = {}
    for link, name in links.items():
        disk = here.get(name)
        if disk is None:
            continue
        found[link] = disk
        for part in handle.list_partitions():
            if handle.part_to_dev(part) == disk:
                found["%s-part%d" % (link, handle.part_to_partnum(part))] = part
    return found


def _fstab(handle: Any) -> Iterator[Tuple[str, str, str]]:
    if not handle.is_file("/etc/fstab"):
        return
    lines = handle.read_file("/etc/fstab").decode("utf-8", "replace").splitlines()
    words = [line.split() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    mounts = [(each[0], each[1], each[3] if len(each) > 3 else "") for each in words if len(each) > 2]
    for spec, point, options in sorted(mounts, key=lambda mount: mount[1]):
        if point != "/" and _SYSTEM.match(point) and "bind" not in options.split(","):
            yield spec, point, options


def _resolved(handle: Any, spec: str, here: Mapping[str, str]) -> Optional[str]:
    """The device here of what fstab calls spec; None when there is none."""
    if spec in here:
        return here[spec]
    finders = {"UUID=": handle.findfs_uuid, "LABEL=": handle.findfs_label}
    try:
        for prefix, find in finders.items():
            if spec.startswith(prefix):
                return str(find(spec[len(prefix) :].strip('"')))
        if spec.startswith("/dev/md"):
            return _array(handle, spec)
        if spec.startswith("/dev/") and not spec.startswith("/dev/disk/"):
            return str(handle.lvm_canonical_lv_name(spec))
    except RuntimeError:
        return None
    if spec.startswith("PARTUUID="):
        wanted = spec[len("PARTUUID=") :].strip('"').lower()
        for part in handle.list_partitions():
            if str(handle.blkid(part).get("PART_ENTRY_UUID", "")).lower() == wanted:
                return str(part)
    return None


def _array(handle: Any, spec: str) -> Optional[str]:
    """An md array by the name that it had on the source ("/dev/md0", "/dev/md/boot"); here it may have another number."""
    name = spec[len("/dev/md") :].lstrip("/")
    for device in handle.list_md_devices():
        told = handle.md_detail(device)
        if name in [str(told.get(key, "")).rpartition(":")[2] for key in ("devname", "name")]:
            return str(device)
    return None


def _mounted(handle: Any, device: Optional[str], point: str, options: str) -> bool:
    volume = [option for option in options.split(",") if option.startswith("subvol")]
    if device is None or not handle.is_dir(point):
        return False
    try:
        handle.mount_options(",".join(volume), device, point)
    except RuntimeError:
        return False
    return True
