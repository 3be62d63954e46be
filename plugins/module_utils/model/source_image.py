# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An image of the host that a new disk is made from: what is asked for, and what is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

FORMATS = ("qcow2", "raw", "vmdk", "vdi", "vhdx", "vpc")
# Digits of each kind of checksum.
CHECKSUMS = {"sha256": 64, "sha512": 128}


@dataclass(frozen=True)
class WantedImage:
    """path: absolute. format: never probed. checksum: `sha256:HEX` or `sha512:HEX`, or None when the image is trusted as it is."""

    path: str
    format: str
    checksum: Optional[str] = None


@dataclass(frozen=True)
class SourceImage:
    """What is at the path of a WantedImage.

    error: why it cannot be read, in the system's words. size: bytes that a guest would see. contains: the format that it
    begins like, when it begins like one. refers: other files that its header means. checksum: of the kind that was asked for.
    identity: device, inode, size, and the moments of its last changes; another one means another content.
    """

    wanted: WantedImage
    error: str = ""
    size: int = 0
    contains: Optional[str] = None
    refers: Tuple[str, ...] = ()
    checksum: Optional[str] = None
    identity: Tuple[int, ...] = ()
