# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bytes of a chunk, held or fresh, beside what a manifest says of it."""

from __future__ import annotations

import hashlib
from typing import List, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_manifest import Piece
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_ranges import CHUNK, Range

# Offset on the disk, bytes, their SHA-256.
Fresh = Tuple[int, bytes, bytes]
# A chunk of them, and what is read of disks most often.
ZEROS = bytes(CHUNK)
ZEROS_SHA256 = hashlib.sha256(ZEROS).digest()


def touching(there: Sequence[Piece], fresh: Sequence[Fresh]) -> List[Tuple[List[Piece], List[Fresh]]]:
    """Both sorted into groups of which the members touch, through one another if need be. Old pieces do not join by themselves."""
    groups: List[Tuple[List[Piece], List[Fresh]]] = [([piece], []) for piece in there]
    for each in fresh:
        offset, end = each[0], each[0] + len(each[1])
        near = [group for group in groups if _begin(group) <= end and offset <= _end(group)]
        groups = [group for group in groups if group not in near]
        groups.append(([p for group in near for p in group[0]], [f for group in near for f in group[1]] + [each]))
    return groups


def _begin(group: Tuple[List[Piece], List[Fresh]]) -> int:
    return min([piece.offset for piece in group[0]] + [each[0] for each in group[1]])


def _end(group: Tuple[List[Piece], List[Fresh]]) -> int:
    return max([piece.end for piece in group[0]] + [each[0] + len(each[1]) for each in group[1]])


def overlap(piece: Piece, offset: int, length: int) -> bool:
    """Whether the piece has some of these bytes."""
    return piece.offset < offset + length and offset < piece.end


def holds(first: int, data: bytes, part: Range, sha256: bytes) -> bool:
    """Whether bytes that lie at `first` have all of the part, and it has this hash."""
    start = part[0] - first
    held = memoryview(data)[max(start, 0) : start + part[1]]
    return start >= 0 and len(held) == part[1] and hashlib.sha256(held).digest() == sha256


def is_as_told(piece: Piece, held: bytes, first: int) -> bool:
    """Whether bytes that lie at `first` have the piece as its hash says."""
    start = piece.offset - first
    return hashlib.sha256(memoryview(held)[start : start + piece.length]).hexdigest() == piece.sha256
