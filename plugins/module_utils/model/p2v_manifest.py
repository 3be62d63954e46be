# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The manifest: what an image holds, piece by piece, each with the SHA-256 that its bytes had on the source.

The file is text, one JSON value per line: a head, then [chunk, [[offset, length, sha256], …]]. A later line about a chunk
replaces an earlier one, so that a run only ever appends. A last line that was cut off by a crash is left out.
"""

from __future__ import annotations

import json
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_ranges import CHUNK, Range

VERSION = 1


class Piece(NamedTuple):
    """offset, length: bytes of the disk, within one chunk. sha256: hex."""

    offset: int
    length: int
    sha256: str

    @property
    def end(self) -> int:
        return self.offset + self.length


class Manifest:
    """head: disk (name, size, serial, wwn), format, and, of a published image, `complete`, `cutover` and the file's marks.

    changed: chunks whose line in the file is out of date. unverified: those not yet read back.
    """

    def __init__(self, head: Mapping[str, Any], chunks: Optional[Dict[int, Tuple[Piece, ...]]] = None) -> None:
        self.head: Dict[str, Any] = dict(head, manifest=VERSION)
        self.chunks: Dict[int, Tuple[Piece, ...]] = dict(chunks or {})
        self.changed: Set[int] = set()
        self.unverified: Set[int] = set()

    def at(self, chunk: int) -> Tuple[Piece, ...]:
        return self.chunks.get(chunk, ())

    def take(self, chunk: int, pieces: Iterable[Piece]) -> None:
        """From now on the chunk holds these."""
        self.chunks[chunk] = tuple(sorted(pieces))
        self.changed.add(chunk)
        self.unverified.add(chunk)

    def forget(self, chunk: int) -> None:
        """Nobody knows what the chunk holds."""
        self.take(chunk, ())

    @property
    def bytes(self) -> int:
        return sum(piece.length for pieces in self.chunks.values() for piece in pieces)

    def covered(self) -> Iterator[Range]:
        for pieces in self.chunks.values():
            for piece in pieces:
                yield piece.offset, piece.length

    def head_line(self) -> str:
        return json.dumps(self.head, sort_keys=True) + "\n"

    def lines(self, chunks: Iterable[int]) -> Iterator[str]:
        for chunk in sorted(chunks):
            yield json.dumps([chunk, [list(piece) for piece in self.at(chunk)]], separators=(",", ":")) + "\n"


def read_manifest(lines: Iterable[str]) -> Manifest:
    """Raises ValueError when it is something else. Pieces out of their chunk are refused: nothing may be written by them."""
    rows: List[Any] = []
    for line in lines:
        if not line.endswith("\n"):
            break
        rows.append(json.loads(line))
    if not rows or not isinstance(rows[0], dict) or rows[0].get("manifest") != VERSION:
        raise ValueError("it is no manifest of version %d" % VERSION)
    chunks: Dict[int, Tuple[Piece, ...]] = {}
    for row in rows[1:]:
        chunk, told = _row(row)
        chunks[chunk] = told
    return Manifest(rows[0], chunks)


def _row(row: Any) -> Tuple[int, Tuple[Piece, ...]]:
    try:
        chunk = int(row[0])
        told = tuple(Piece(int(offset), int(length), str(digest)) for offset, length, digest in row[1])
    except (TypeError, IndexError, ValueError):
        raise ValueError("a line of it is damaged")
    if any(not chunk * CHUNK <= piece.offset < piece.end <= (chunk + 1) * CHUNK for piece in told):
        raise ValueError("a piece of chunk %d lies outside of it" % chunk)
    return chunk, told
