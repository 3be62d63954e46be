# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names of devices that another machine gives to other disks, and the UUIDs that stand for them everywhere."""

from __future__ import annotations

import re
from typing import List, Mapping, Match, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.fixup import ImageFacts

# sda2, hda, vdb1, xvda, nvme0n1p3, mmcblk0p1, cciss/c0d0p1. Not md0, mapper/..., and not the names of logical volumes.
_KERNEL_NAME = re.compile(
    r"^/dev/((?:s|h|v|xv)d[a-z]+\d*|(?:nvme\d+n\d+|mmcblk\d+|(?:cciss|ida|rd)/c\d+d\d+)(?:p\d+)?)$"
)
_PART = re.compile(r"^(.*)-part(\d+)$")
_BY_HARDWARE = ("/dev/disk/by-id/", "/dev/disk/by-path/")
# Made of what is on the disk, so they are the same everywhere.
_BY_CONTENT = ("/dev/disk/by-id/dm-", "/dev/disk/by-id/lvm-", "/dev/disk/by-id/md-")


def changes_with_hardware(spec: str) -> bool:
    """Whether a device of that name is another one, or none, in another machine."""
    if spec.startswith(_BY_CONTENT):
        return False
    return bool(_KERNEL_NAME.match(spec)) or spec.startswith(_BY_HARDWARE)


def kernel_name(spec: str, facts: ImageFacts) -> Optional[str]:
    """ "/dev/sda2" for any name of that device on the source; None when nothing says which it was."""
    if _KERNEL_NAME.match(spec):
        return spec
    if spec in facts.by_id:
        return facts.by_id[spec]
    part = _PART.match(spec)
    if part is None:
        return None
    disk = facts.by_id.get(part.group(1))
    disks = sorted({whole_disk(name) for name in facts.devices if _KERNEL_NAME.match(name)})
    if disk is None and spec.startswith("/dev/disk/by-path/") and len(disks) == 1 and not facts.left_out:
        disk = disks[0]
    return partition(disk, int(part.group(2))) if disk else None


def partition(disk: str, number: int) -> str:
    return "%s%s%d" % (disk, "p" if disk[-1:].isdigit() else "", number)


def whole_disk(name: str) -> str:
    """ "/dev/sda" of "/dev/sda2"; a name that is no partition's is given back."""
    found = re.match(r"^(/dev/(?:nvme\d+n\d+|mmcblk\d+|(?:cciss|ida|rd)/c\d+d\d+))p\d+$", name)
    return (
        found.group(1) if found else re.sub(r"\d+$", "", name) if re.search(r"/(s|h|v|xv)d[a-z]+\d+$", name) else name
    )


def by_uuid(spec: str, facts: ImageFacts) -> Optional[str]:
    """ "UUID=..." of a device that is called by its hardware; None when it has none in these images."""
    name = kernel_name(spec, facts)
    uuid = (facts.devices.get(name or "") or {}).get("uuid")
    return "UUID=%s" % uuid if uuid else None


def is_left_out(spec: str, facts: ImageFacts) -> bool:
    """Whether it is on a disk of the source of which there is no image."""
    name = kernel_name(spec, facts)
    return name is not None and whole_disk(name) in ["/dev/" + disk for disk in facts.left_out]


def fields_of(line: str) -> List[str]:
    """The words of a line of fstab or crypttab; none for a comment."""
    return [] if line.lstrip().startswith("#") else line.split()


def replaced(line: str, old: str, new: str) -> str:
    """The line with its first such word replaced, and all else as it was."""
    return re.sub(r"(?<!\S)%s(?!\S)" % re.escape(old), lambda found: new, line, count=1)


def command_line(text: str, facts: ImageFacts) -> Tuple[str, Mapping[str, str]]:
    """Kernel options with root= and resume= by UUID, and what was replaced. text: any text that holds such options."""
    done = {}

    def by_content(found: Match[str]) -> str:
        option, spec = found.group(1), found.group(2)
        new = by_uuid(spec, facts) if changes_with_hardware(spec) else None
        if new is None:
            return found.group(0)
        done[option + spec] = option + new
        return option + new

    return re.sub(r"(?<![\w.])((?:root|resume)=)(/dev/[^\s\"']+)", by_content, text), done
