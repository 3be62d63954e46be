# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A disk of a machine as a file or a block device of this host: what is asked for, what is there, which other files it means."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, List, Optional, Tuple

Identity = Tuple[int, ...]

RAW, QCOW2, VMDK, VDI, VHDX, VPC = "raw", "qcow2", "vmdk", "vdi", "vhdx", "vpc"
FORMATS = (RAW, QCOW2, VMDK, VDI, VHDX, VPC)
FILE, BLOCK, OTHER = "file", "block", "other"
# So much of the beginning and of the end of an image is needed for refers_to().
HEAD_BYTES, FOOT_BYTES = 2 * 1024 * 1024, 512

# qcow2, docs/interop/qcow2.txt of QEMU: where the backing file's name is, and the bit for data in another file.
_QCOW2 = b"QFI\xfb"
_QCOW2_BACKING = struct.Struct(">8xQI")
_QCOW2_INCOMPATIBLE = struct.Struct(">72xQ")
_EXTERNAL_DATA = 4
# VMDK, Virtual Disk Format 5.0 of VMware: capacity, and place and size of the descriptor, in sectors.
_VMDK = b"KDMV"
_VMDK_OLD = b"COWD"
_VMDK_TEXT = b"# Disk DescriptorFile"
_VMDK_SPARSE = struct.Struct("<4s4x4xQ8xQQ")
# Where QEMU looks for it, whatever the header says.
_VMDK_DESCRIPTOR = (512, 20 * 512)
_SECTOR = 512
# VHD, Virtual Hard Disk Image Format Specification of Microsoft: the type in the footer.
_VPC = b"conectix"
_VPC_TYPE = struct.Struct(">60xI")
_VPC_DIFFERENCING = 4
_VDI = b"\x7f\x10\xda\xbe"
_VHDX = b"vhdxfile"


@dataclass(frozen=True)
class ImportDisk:
    """path: absolute, of a file or a block device of this host. format: of FORMATS. disk: the name that the machine had for it."""

    path: str
    format: str
    disk: str


@dataclass(frozen=True)
class ImportSeen:
    """What is at the path of an ImportDisk. Nothing of it was written to, and no file that it names was opened.

    error: why it cannot be looked at, in the system's words. real: the path behind all links. identities: of the file or device,
    and of the file that a loop device shows; equal for all its names. size: bytes of the disk; 0 when no program could tell.
    kernel: name of a block device (sdb).
    contains: the format that the first bytes are of, where they are of one. refers: other files that its header means. busy:
    who has it, and how. unreadable: what qemu-img says against it. domains: active ones that have it as a disk.
    """

    wanted: ImportDisk
    error: str = ""
    kind: str = OTHER
    real: str = ""
    identities: FrozenSet[Identity] = frozenset()
    size: int = 0
    sector: int = 512
    kernel: str = ""
    serial: Optional[str] = None
    wwn: Optional[str] = None
    model: Optional[str] = None
    contains: Optional[str] = None
    refers: Tuple[str, ...] = ()
    busy: Tuple[str, ...] = ()
    unreadable: str = ""
    domains: Tuple[str, ...] = ()

    @property
    def is_device(self) -> bool:
        """Whether what it holds can be looked at as it lies there: a block device with the disk itself on it."""
        return self.kind == BLOCK and self.wanted.format == RAW

    def as_dict(self) -> Dict[str, Any]:
        return {
            "name": self.wanted.disk,
            "path": self.wanted.path,
            "format": self.wanted.format,
            "kind": self.kind,
            "size": self.size,
            "sector": self.sector,
            "serial": self.serial,
            "wwn": self.wwn,
            "model": self.model,
        }


def contained(head: bytes, foot: bytes = b"") -> Optional[str]:
    """The format that an image begins like. Used to contradict the user, never to choose."""
    if head.startswith(_QCOW2):
        return QCOW2
    if head.startswith((_VMDK, _VMDK_OLD)) or _VMDK_TEXT in head[:512]:
        return VMDK
    if head.startswith(_VHDX):
        return VHDX
    if head[64:68] == _VDI:
        return VDI
    return VPC if head.startswith(_VPC) or foot.startswith(_VPC) else None


def refers_to(image_format: str, head: bytes, foot: bytes) -> List[str]:
    """The files that QEMU would open behind an image, by its own bytes: "its backing file /etc/shadow"."""
    if image_format == QCOW2 and head.startswith(_QCOW2):
        return list(_of_qcow2(head))
    if image_format == VMDK:
        return list(_of_vmdk(head))
    if image_format == VPC:
        for footer in (head, foot):
            if footer.startswith(_VPC) and len(footer) >= 64 and _VPC_TYPE.unpack_from(footer)[0] == _VPC_DIFFERENCING:
                return ["the disk that it has the differences to"]
    return []


def _of_qcow2(head: bytes) -> List[str]:
    found = []
    at, length = _QCOW2_BACKING.unpack_from(head.ljust(_QCOW2_BACKING.size, b"\0"))
    if at:
        found.append("its backing file %s" % _text(head[at : at + min(length, 1023)]))
    version = int.from_bytes(head[4:8], "big")
    if version >= 3 and len(head) >= _QCOW2_INCOMPATIBLE.size:
        if _QCOW2_INCOMPATIBLE.unpack_from(head)[0] & _EXTERNAL_DATA:
            found.append("another file with its data")
    return found


def _of_vmdk(head: bytes) -> List[str]:
    if head.startswith(_VMDK_OLD):
        return ["the disk that it has the differences to"]
    if not head.startswith(_VMDK) or len(head) < _VMDK_SPARSE.size:
        return ["its extent %s" % name for name in _extents(head)] or ["extents"]
    dummy, capacity, at, count = _VMDK_SPARSE.unpack_from(head)
    parts = [(at * _SECTOR, count * _SECTOR), _VMDK_DESCRIPTOR]
    texts = [head[first : first + length] for first, length in parts]
    parents = [name for text in texts for name in re.findall(rb'^parentFileNameHint\s*=\s*"(.*)"', text, re.M)]
    identities = [word for text in texts for word in re.findall(rb"^parentCID\s*=\s*([0-9a-fA-F]+)", text, re.M)]
    found = ["its parent %s" % _text(name) for name in parents[:1]]
    if not parents and any(word.lower() != b"ffffffff" for word in identities):
        found.append("a parent")
    if not capacity:
        # QEMU goes by the descriptor then, and by the files which that names.
        found += ["its extent %s" % name for text in texts[:1] for name in _extents(text)] or ["extents"]
    return found


def _extents(text: bytes) -> List[str]:
    return [_text(name) for name in re.findall(rb'^(?:RW|RDONLY|NOACCESS)\s+\d+\s+\w+\s+"(.*?)"', text, re.M)]


def _text(name: bytes) -> str:
    said = name.decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "?" for letter in said) or "(its name is not at the beginning)"
