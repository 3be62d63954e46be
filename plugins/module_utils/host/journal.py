# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Notes of moves, on this host and the other."""

from __future__ import annotations

from typing import Mapping, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import far_side, files
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import Place
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.image import ImageFacts
from ansible_collections.kvmops.fleet.plugins.module_utils.model.journal import Journal, journal_of, read_journal


def survey(
    place: Place, paths: Sequence[str], role: str, uuid: str
) -> Tuple[Mapping[str, ImageFacts], Optional[Journal]]:
    """What is at the paths there and at those that the note of the guest's move names, and the note."""
    images, told = files.survey(place, paths, role, uuid)
    try:
        return images, journal_of(told)
    except (KeyError, TypeError, ValueError) as error:
        path = "%s/%s/%s.json" % (far_side.JOURNALS, role, uuid)
        remedy = (
            "It was written by another version of the collection, or damaged. Read it, clean up by hand, remove it."
        )
        raise HostError("read the note of an earlier move, %s" % path, place.name, str(error), remedy) from error


def keep(place: Place, role: str, journal: Journal, made: Sequence[str] = ()) -> Journal:
    """Write the note durably. made: files that were just created there; the journal given back knows their inodes."""
    return read_journal(files.note(place, role, journal.uuid, journal.as_dict(), made))


def forget(place: Place, role: str, uuid: str) -> None:
    """Remove the note; a missing one is fine."""
    files.forget(place, role, uuid)
