# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sizes as domain XML writes them: a number, and a unit that is KiB when nothing is said (libvirt: formatdomain)."""

from __future__ import annotations

import re
from typing import Optional

_IN_BYTES = {
    "b": 1,
    "bytes": 1,
    "kb": 1000,
    "k": 1024,
    "kib": 1024,
    "mb": 1000**2,
    "m": 1024**2,
    "mib": 1024**2,
    "gb": 1000**3,
    "g": 1024**3,
    "gib": 1024**3,
    "tb": 1000**4,
    "t": 1024**4,
    "tib": 1024**4,
    "pb": 1000**5,
    "p": 1024**5,
    "pib": 1024**5,
    "eb": 1000**6,
    "e": 1024**6,
    "eib": 1024**6,
}
# libvirt reads 64 bits.
_NUMBER = re.compile(r"^[0-9]{1,20}$")


def whole_number(text: str) -> Optional[int]:
    """None for what is no number in libvirt's eyes, such as `1_000`, which Python would take."""
    return int(text) if _NUMBER.match(text.strip()) else None


def in_bytes(text: str, unit: Optional[str]) -> Optional[int]:
    """None when either is nothing that libvirt knows."""
    number, factor = whole_number(text), _IN_BYTES.get((unit or "KiB").lower())
    return None if number is None or factor is None else number * factor


def in_kib(text: str, unit: Optional[str]) -> Optional[int]:
    """libvirt keeps KiB and rounds up."""
    size = in_bytes(text, unit)
    return None if size is None else -(-size // 1024)
