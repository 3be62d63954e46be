# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The notes of the move that runs now: written before each thing that a crash could leave behind."""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import replace
from typing import Sequence

from ansible_collections.kvmops.fleet.plugins.module_utils.host import journal as notebook
from ansible_collections.kvmops.fleet.plugins.module_utils.host import kept_definition
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import HERE
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import PAUSED
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.journal import ARRIVING, LEAVING, Journal
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import OFFLINE
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_ends import Ends


class Notes:
    """The source's note is always the newest; the destination's says what was made there, should the source be lost."""

    def __init__(self, ends: Ends, journal: Journal) -> None:
        self._ends = ends
        self.journal = replace(journal, run=uuid.uuid4().hex)

    def begin(self) -> None:
        """Before anything is made."""
        self.journal = notebook.keep(HERE, LEAVING, self.journal)
        if self.journal.mode == OFFLINE and self.journal.created:
            notebook.keep(self._ends.files_of_dest, ARRIVING, self.journal)

    def made(self, paths: Sequence[str]) -> None:
        """These are there now, on the destination."""
        if paths:
            self.journal = notebook.keep(self._ends.files_of_dest, ARRIVING, self.journal, paths)
            self.journal = notebook.keep(HERE, LEAVING, self.journal)

    def made_one(self, path: str, inode: int) -> None:
        """The file that is about to be published there."""
        self._update(replace(self.journal, made=dict(self.journal.made, **{path: inode})))

    def sent(self, path: str, size: int) -> None:
        """So many bytes of the file went out, in all tries together."""
        self._update(replace(self.journal, sent=dict(self.journal.sent, **{path: size})))

    def pausing(self, state: str) -> None:
        """Before the guest is paused on the way. state: its own by then; one that somebody else has paused is not noted."""
        if state != PAUSED:
            self._update(replace(self.journal, paused=True))

    def phase(self, phase: str) -> None:
        self._update(replace(self.journal, phase=phase))

    def _update(self, journal: Journal) -> None:
        self.journal = notebook.keep(HERE, LEAVING, journal)

    def end(self) -> None:
        """Nothing is open any more. The move has succeeded or is taken back: a note that stays does no harm."""
        with contextlib.suppress(HostError):
            if self.journal.created:
                notebook.forget(self._ends.files_of_dest, ARRIVING, self.journal.uuid)
            notebook.forget(HERE, LEAVING, self.journal.uuid)
            kept_definition.drop(self.journal.uuid)
