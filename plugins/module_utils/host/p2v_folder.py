# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The folder of a run in memory, /run/kvmops/p2v-NAME: its lock, its socket, the program that joins connections to it."""

from __future__ import annotations

import contextlib
import fcntl
import inspect
import os
from typing import Iterator

from ansible_collections.kvmops.fleet.plugins.module_utils.host import p2v_join
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge, HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import folder_of
from ansible_collections.kvmops.fleet.plugins.module_utils.model.progress import FOLDER

_REMEDY = "Run as root (become: true), then run again."


class Folder:
    """path, and what lies there."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.socket = os.path.join(path, "agent")
        self.nbd = os.path.join(path, "nbd")
        self.join = os.path.join(path, "join.py")


@contextlib.contextmanager
def holding(name: str, parent: str = FOLDER) -> Iterator[Folder]:
    """The folder, for this run alone. It stays, nearly empty: a lock whose file is removed is no lock.

    Raises CannotConverge when another run has it.
    """
    folder = Folder(folder_of(name, parent))
    try:
        os.makedirs(folder.path, mode=0o700, exist_ok=True)
        lock = os.open(os.path.join(folder.path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise HostError("make the run's folder %s" % folder.path, "this host", str(error), _REMEDY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotConverge(
                "Make an image of %s" % name,
                "another run does that at this moment",
                "Wait for its end, then run again.",
            )
        _clear(folder)
        with open(folder.join, "w", encoding="utf-8") as out:
            out.write(inspect.getsource(p2v_join))
        yield folder
    finally:
        os.close(lock)
        _clear(folder)


def _clear(folder: Folder) -> None:
    for name in os.listdir(folder.path):
        if name != "lock":
            os.unlink(os.path.join(folder.path, name))
