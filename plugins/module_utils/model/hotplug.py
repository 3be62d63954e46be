# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the board of a running guest lets in and out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class Room:
    """pci_ports: free ones that take a device while the guest runs; None when the board does not count them.

    removable_vcpus: those that were plugged in while it ran; the others it booted with and keeps.
    balloon: whether it has the device through which it gives memory back. scsi: whether it has a SCSI controller.
    """

    pci_ports: Optional[int] = None
    removable_vcpus: int = 0
    balloon: bool = True
    scsi: bool = False
