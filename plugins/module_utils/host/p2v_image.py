# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The image of one disk while it comes into being: pieces are put into it, read back, and it is published at the end.

It grows under a temporary name, its manifest beside it. What the manifest names was on the medium before the manifest
was; a run that was cut short is gone on with. Only a finished image bears the image's name.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from typing import Any, ContextManager, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import far_side, image_server
from ansible_collections.kvmops.fleet.plugins.module_utils.host.nbd import Nbd, remedy_of
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_held import (
    ZEROS,
    Fresh,
    holds,
    is_as_told,
    overlap,
    touching,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_manifest import Manifest, Piece, read_manifest
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_ranges import (
    CHUNK,
    MOST_STRETCHES,
    PART,
    Range,
    merged,
    parts,
)

MANIFEST = ".manifest"


class Damaged(Exception):
    """The image does not hold what its manifest says. Its chunk has been forgotten; `ranges` must be read anew."""

    def __init__(self, ranges: List[Range]) -> None:
        super().__init__("%d ranges" % len(ranges))
        self.ranges = ranges


class Paths:
    """Where the image of a disk and what belongs to it lie: all in the folder of the pool."""

    def __init__(self, folder: str, name: str, disk: str, image_format: str) -> None:
        file = "%s-%s.%s" % (name, disk, image_format)
        self.image = os.path.join(folder, file)
        self.manifest = self.image + MANIFEST
        self.part = os.path.join(folder, ".%s.part" % file)
        self.part_manifest = self.part + MANIFEST


def marks_of(path: str) -> Dict[str, int]:
    """By which a file is known to be as it was published. Raises OSError."""
    seen = os.lstat(path)
    return {"inode": seen.st_ino, "bytes": seen.st_size, "mtime_ns": seen.st_mtime_ns}


def manifest_at(path: str) -> Optional[Manifest]:
    """None when there is none, or when it cannot be read as one."""
    try:
        with open(path, encoding="utf-8") as lines:
            return read_manifest(lines)
    except (OSError, ValueError):
        return None


class Image:
    """path: the file as it is called now. manifest: what it holds. An opened image may be used by several threads."""

    def __init__(self, paths: Paths, path: str, image_format: str, manifest: Manifest) -> None:
        self.paths, self.path, self.format, self.manifest = paths, path, image_format, manifest
        self._lock = threading.Lock()

    def opened(self, socket: str, clients: int, writable: bool = True) -> ContextManager[List[Nbd]]:
        return image_server.opened(self.path, self.format, socket, clients, writable)

    def beside(self, socket: str) -> ContextManager[Nbd]:
        """For reading back what `checkpoint` told of, while it is open for writing. Raises HostError."""
        return image_server.beside(self.path, self.format, socket)

    def put(self, nbd: Nbd, chunk: int, fresh: Sequence[Fresh]) -> None:
        """Write pieces of one chunk, whose hashes were checked. With what it holds they become one hash where they touch.

        All of them at once: to join each by itself would read and hash the stretch anew for each.
        Raises Damaged when what it holds is not what the manifest says; then nothing was written.
        """
        there = self.manifest.at(chunk)
        stretches = [self._stretch(nbd, chunk, there, each) for each in touching(there, fresh)]
        for offset, data, dummy in fresh:
            if not ZEROS.startswith(data):
                nbd.write(offset, data)
            elif any(piece.offset <= offset + len(data) and offset <= piece.end for piece in there):
                nbd.zero(offset, len(data))
        with self._lock:
            self.manifest.take(chunk, stretches)

    def _stretch(
        self, nbd: Nbd, chunk: int, there: Sequence[Piece], touching: Tuple[List[Piece], List[Fresh]]
    ) -> Piece:
        """What becomes of pieces that touch each other: what was there, and what is put over it."""
        held, fresh = touching
        if not fresh:
            return held[0]
        if len(fresh) == 1:
            offset, data, sha256 = fresh[0]
            if all(offset <= piece.offset and piece.end <= offset + len(data) for piece in held):
                return Piece(offset, len(data), sha256.hex())
        first = min([piece.offset for piece in held] + [each[0] for each in fresh])
        end = max([piece.end for piece in held] + [each[0] + len(each[1]) for each in fresh])
        joined = nbd.read(first, end - first)
        if not all(is_as_told(piece, joined, first) for piece in held):
            with self._lock:
                lost = [(piece.offset, piece.length) for piece in there]
                self.manifest.forget(chunk)
            raise Damaged(lost)
        for offset, data, dummy in fresh:
            joined[offset - first : offset - first + len(data)] = data
        return Piece(first, end - first, hashlib.sha256(joined).hexdigest())

    def holds(self, nbd: Nbd, offset: int, length: int, sha256: bytes) -> bool:
        """Whether the image has these bytes of the source already."""
        for piece in self.manifest.at(offset // CHUNK):
            if (piece.offset, piece.length) == (offset, length):
                return piece.sha256 == sha256.hex()
            if piece.offset <= offset and offset + length <= piece.end:
                held = nbd.read(piece.offset, piece.length)
                start = offset - piece.offset
                return (
                    is_as_told(piece, held, piece.offset)
                    and hashlib.sha256(held[start : start + length]).digest() == sha256
                )
        return False

    def knows(self, offset: int, length: int) -> bool:
        """Whether the manifest says something of these bytes, which lie in one chunk."""
        return any(overlap(piece, offset, length) for piece in self.manifest.at(offset // CHUNK))

    def lacks(self, nbd: Nbd, offset: int, length: int, hashes: Sequence[bytes]) -> List[Range]:
        """What of these bytes of the source, which the image does not hold, it holds otherwise: told by the hashes of their parts.

        The image counts where it is what its manifest says. All of it is lacking when no part is (the source was changed in
        between), or when that would be many stretches.
        """
        known = [piece for piece in self.manifest.at(offset // CHUNK) if overlap(piece, offset, length)]
        held = [(piece, nbd.read(piece.offset, piece.length)) for piece in known]
        sound = [(piece.offset, data) for piece, data in held if is_as_told(piece, data, piece.offset)]
        cut = parts(offset, length, PART)
        found = merged(
            part for part, sha256 in zip(cut, hashes) if not any(holds(*each, part, sha256) for each in sound)
        )
        return found if 0 < len(found) <= MOST_STRETCHES else [(offset, length)]

    def wrong(self, nbd: Nbd, chunks: Iterable[int]) -> List[Range]:
        """What is not as the source told, read from an image that was opened afresh; it is forgotten. Else it is verified.

        A chunk that is written to meanwhile is neither.
        """
        found: List[Range] = []
        for chunk in chunks:
            pieces = self.manifest.at(chunk)
            held = nbd.read(pieces[0].offset, pieces[-1].end - pieces[0].offset) if pieces else b""
            bad = [piece for piece in pieces if not is_as_told(piece, held, pieces[0].offset)]
            with self._lock:
                if self.manifest.at(chunk) is not pieces:
                    continue
                if bad:
                    self.manifest.forget(chunk)
                    found += [(piece.offset, piece.length) for piece in pieces]
                else:
                    self.manifest.unverified.discard(chunk)
        return found

    def checkpoint(self, nbd: Nbd, durable: bool = True) -> Set[int]:
        """The manifest says what was put. durable: it is on the medium, and the data was before it; gives the chunks that are to be
        read back from there.

        Without, a power cut may leave a manifest that says more than the image holds. A run that goes on reads all of an
        unfinished image back, and mends that.
        """
        with self._lock:
            changed, self.manifest.changed = self.manifest.changed, set()
            lines = list(self.manifest.lines(changed))
            there = set(self.manifest.unverified) if durable else set()
        if durable:
            nbd.flush()
        try:
            with open(self.paths.part_manifest, "a", encoding="utf-8") as out:
                out.writelines(lines)
                out.flush()
                if durable:
                    os.fsync(out.fileno())
        except OSError as error:
            raise _unkept(self.paths.part_manifest, error)
        return there

    def publish(self, head: Mapping[str, Any]) -> None:
        """Give it its name. head: what the manifest's head says of a finished image."""
        paths = self.paths
        try:
            self.manifest.head.update(head, complete=True)
            synced(paths.part)
            self.manifest.head["marks"] = marks_of(paths.part)
            # First the manifest: one without its image says nothing, an image without its manifest is one of somebody else.
            _write_whole(paths.manifest, self.manifest)
            far_side.publish(paths.part, paths.image, 0o600, os.geteuid(), os.getegid())
            far_side.remove(paths.part_manifest)
        except OSError as error:
            raise HostError("publish %s" % paths.image, "this host", str(error), "What came is kept; run again.")

    def mark(self, head: Mapping[str, Any]) -> None:
        """Say more in the head of a finished image's manifest."""
        self.manifest.head.update(head)
        try:
            _write_whole(self.paths.manifest, self.manifest)
        except OSError as error:
            raise _unkept(self.paths.manifest, error)


def begin(paths: Paths, image_format: str, head: Mapping[str, Any], size: int) -> Image:
    """The image under its temporary name: taken back from a finished one, gone on with, or new.

    head: of the manifest. The caller has seen that a finished or an unfinished image is of the same disk and size.
    """
    verified = False
    try:
        kept = _taken_back(paths, head) if os.path.lexists(paths.image) else None
        if kept is not None:
            verified = True
        elif os.path.lexists(paths.part):
            kept = manifest_at(paths.part_manifest)
        if kept is None:
            for stale in (paths.part_manifest, paths.part):
                far_side.remove(stale)
            image_server.create(paths.part, image_format, size)
        kept = Manifest(head, kept.chunks if kept else None)
        if not verified:
            _write_whole(paths.part_manifest, kept)
    except OSError as error:
        raise HostError("begin the image %s" % paths.image, "this host", str(error), "Check the pool, then run again.")
    if not verified:
        kept.unverified.update(kept.chunks)
    return Image(paths, paths.part, image_format, kept)


def _taken_back(paths: Paths, head: Mapping[str, Any]) -> Optional[Manifest]:
    """A finished image gets its temporary name again. At every moment one of the two has its manifest beside it."""
    kept = manifest_at(paths.manifest)
    if kept is not None:
        _write_whole(paths.part_manifest, Manifest(head, kept.chunks))
        os.replace(paths.image, paths.part)
        far_side.remove(paths.manifest)
    return kept


def _write_whole(path: str, manifest: Manifest) -> None:
    temporary = path + ".new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        out.write(manifest.head_line())
        out.writelines(manifest.lines(manifest.chunks))
        out.flush()
        os.fsync(out.fileno())
    os.replace(temporary, path)
    synced(os.path.dirname(path))


def _unkept(path: str, error: OSError) -> HostError:
    return HostError("keep the manifest %s" % path, "this host", error.strerror or str(error), remedy_of(error.errno))


def synced(path: str) -> None:
    """A file or a folder is on its medium, whoever wrote it. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
