# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Notes of moves on this host and the other, and the lock that lets one run at a time move a guest."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import Iterator, Mapping, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import far_side, files
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import HERE, Place
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.image import ImageFacts
from ansible_collections.kvmops.fleet.plugins.module_utils.model.journal import Journal, journal_of

# Gone after a reboot, and freed by the kernel when its holder dies: a lock that outlives its run cannot be.
LOCKS = "/run/kvmops"


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
    kept = journal_of(files.note(place, role, journal.uuid, journal.as_dict(), made))
    assert kept is not None
    return kept


def forget(place: Place, role: str, uuid: str) -> None:
    """Remove the note; a missing one is fine."""
    files.forget(place, role, uuid)


@contextlib.contextmanager
def alone(uuid: str, name: str) -> Iterator[None]:
    """Inside the block no other run on this host moves the guest. Raises HostError when one does."""
    os.makedirs(LOCKS, mode=0o755, exist_ok=True)
    with open(_lock_path(uuid), "a", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            remedy = "Wait for its end, then run again: it will say what became of it."
            raise HostError("move %s" % name, HERE.name, "another run is moving it now", remedy) from error
        yield


def is_held(uuid: str) -> bool:
    """Whether another run on this host moves the guest now. Makes nothing."""
    try:
        with open(_lock_path(uuid), encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _lock_path(uuid: str) -> str:
    return os.path.join(LOCKS, "moving-%s.lock" % uuid)
