# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that go to the destination: under a temporary name, compared by hash on a fresh read of both, published."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Dict, Mapping

from ansible_collections.kvmops.fleet.plugins.module_utils.host import files, pools, progress_file
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import HERE
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.image import temporary_of
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import MIB, Found, Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.progress import Progress
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_ends import Ends
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_journal import Notes

TELL_EVERY_S = 0.25


class Copies:
    """What one run copies. data, wire: bytes of images, and the same as handed to ssh. resent: what an earlier run, cut
    short, had sent and this one had to send again. hashes: path -> SHA-256, equal on both hosts."""

    def __init__(self, wish: Wish, ends: Ends, found: Found, notes: Notes) -> None:
        self._wish, self._ends, self._found, self._notes = wish, ends, found, notes
        self.data = self.wire = self.resent = 0
        self.hashes: Dict[str, str] = {}

    def copy(self, volume: Mapping[str, Any]) -> None:
        """Copy one file. Raises HostError; what came of it stays for the next try, unless it turned out to be wrong."""
        place, path = self._ends.files_of_dest, str(volume["path"])
        here = str(volume.get("from", path))
        temporary, before = temporary_of(path), self._notes.journal.sent.get(path, 0)
        if volume.get("folder"):
            files.folder(place, volume["folder"], 0o700)
        with progress_file.telling("kvm_migrate", self._wish.name) as tell:
            subject = "%s to %s" % (self._wish.name, self._wish.host)
            counted = _Counted(tell, subject, self._found.source.images[here].allocated, self._notes, path, before)
            sent = files.send(place, here, temporary, counted)
        self.data, self.wire = self.data + sent.data, self.wire + sent.wire
        self.resent += max(0, before - sent.kept)
        try:
            self.verify(here, temporary)
        except HostError:
            with contextlib.suppress(HostError):
                files.remove(place, temporary)
            raise
        self._notes.made_one(path, sent.inode)
        files.publish(place, temporary, path)
        if volume.get("pool"):
            pools.refresh(self._ends.dest, volume["pool"])

    def verify(self, path: str, there: str) -> None:
        """Compare `path` here with `there` on the destination, both read from the medium."""
        self.hashes[path] = files.digest(HERE, path)
        found = files.digest(self._ends.files_of_dest, there)
        if found != self.hashes[path]:
            raise HostError(
                "verify %s" % path,
                self._ends.dest.side,
                "SHA-256 is %s there and %s on %s" % (found, self.hashes[path], self._ends.source.side),
                "The source is untouched and owns the guest. Remove or check the file there, then run again.",
            )


class _Counted:
    """Bytes of one file as they leave: told to who waits, and noted for the next run, at most four times a second."""

    def __init__(
        self, tell: progress_file.Tell, subject: str, whole_bytes: int, notes: Notes, path: str, before: int
    ) -> None:
        self._tell, self._subject, self._whole = tell, subject, whole_bytes
        self._notes, self._path, self._before = notes, path, before
        self._began = self._told = time.monotonic()
        self._done = 0

    def __call__(self, size: int) -> None:
        self._done += size
        now = time.monotonic()
        if now - self._told >= TELL_EVERY_S:
            self._told, elapsed = now, now - self._began
            done, left = self._done / MIB, max(self._whole - self._done, 0) / MIB
            self._tell(Progress(self._subject, "disk", done, left, done / elapsed, elapsed))
            self._notes.sent(self._path, self._before + self._done)
