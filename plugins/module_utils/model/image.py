# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What one host sees at the path of an image. Sizes are bytes."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Optional

# The file systems that several hosts may mount at once (the list libvirt itself uses: virFileIsSharedFS).
SHARED_FILE_SYSTEMS = frozenset(
    ["nfs", "nfs4", "gfs2", "ocfs2", "afs", "smb2", "smb3", "cifs", "ceph", "fuse.ceph", "gpfs", "fuse.quobyte"]
    + ["acfs", "fuse.glusterfs", "beegfs"]
)


@dataclass(frozen=True)
class ImageFacts:
    """path: as asked. directory: its folder exists. free: room left in the file system of that folder.

    kind: file, block or other. device, inode: identity on this host. changed_ns: when the inode was last changed, which
    nobody can set (st_ctime). mount_source, mount_inside: where the file
    system comes from, and the path inside it; equal on two hosts when both mount the same export. value: of a setting of
    the kernel, where such a path was asked for.
    """

    path: str
    exists: bool
    kind: str = "other"
    directory: bool = False
    size: int = 0
    allocated: int = 0
    free: int = 0
    device: Optional[int] = None
    inode: Optional[int] = None
    changed_ns: Optional[int] = None
    fstype: Optional[str] = None
    mount_source: Optional[str] = None
    mount_inside: Optional[str] = None
    value: Optional[str] = None


def temporary_of(path: str) -> str:
    """The name that a file has on the destination while it is being copied; it ends as host/far_side.py demands."""
    return posixpath.join(posixpath.dirname(path), ".%s.kvmops-part" % posixpath.basename(path))


# Names that udev makes of an identity the storage itself keeps (WWN, EUI, UUID of a multipath or logical volume).
DEVICES_BY_IDENTITY = tuple(
    "/dev/disk/by-id/" + start
    for start in ("wwn-", "scsi-3", "nvme-eui.", "nvme-uuid.", "dm-uuid-mpath-", "dm-uuid-LVM-")
)


def same_image(here: ImageFacts, there: ImageFacts) -> bool:
    """Whether both hosts look at one and the same file or device.

    Yes when it is on a shared file system, of one export, at one path in it, with one inode. Yes too, whatever the file
    system calls itself, when inode, size and the moment of its last change agree: no copy has that. A device is the same
    when it has one size and one name that comes from its own identity.
    """
    if not (here.exists and there.exists and here.size == there.size):
        return False
    if here.kind == there.kind == "block":
        return here.path == there.path and here.path.startswith(DEVICES_BY_IDENTITY)
    if here.inode != there.inode:
        return False
    if here.changed_ns is not None and here.changed_ns == there.changed_ns:
        return True
    return same_place(here, there)


def same_place(here: ImageFacts, there: ImageFacts) -> bool:
    """Whether both paths lead to one place of one export of a shared file system, whatever is there."""
    return (
        here.fstype in SHARED_FILE_SYSTEMS
        and here.fstype == there.fstype
        and here.mount_source == there.mount_source
        and here.mount_inside == there.mount_inside
    )
