# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run of kvm_migrate per guest: a lock that the kernel takes back when its holder dies, and the record beside it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from dataclasses import replace
from typing import Iterator, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge, HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.move_record import MoveRecord, Standing, record_of
from ansible_collections.kvmops.fleet.plugins.module_utils.model.progress import FOLDER, start_of

_REMEDY = "Run as root (become: true), who may write in %s, then run again." % FOLDER
# A file name has at most 255 bytes.
LONGEST = 200


class Taken(Exception):
    """Another run holds the lock."""


class Held:
    """The lock, held. write(record) puts down what a later run would need to know; it is gone when the run ends by itself."""

    def __init__(self, name: str) -> None:
        self._path, self.kept = _path(name, "run"), False

    def write(self, record: MoveRecord) -> None:
        """Durable enough: the folder is memory, as is everything that a reboot ends."""
        pid, started = myself()
        temporary = "%s.%d" % (self._path, pid)
        try:
            with open(temporary, "w", encoding="utf-8") as out:
                json.dump(replace(record, pid=pid, started=started).as_dict(), out)
            os.replace(temporary, self._path)
        except OSError as error:
            raise HostError("note what this run does in %s" % self._path, "this host", str(error), _REMEDY)

    def keep(self) -> None:
        """Let the record outlive this run: what it speaks of is not settled."""
        self.kept = True

    def forget(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)


@contextlib.contextmanager
def holding(name: str) -> Iterator[Held]:
    """Raises Taken at once when another run has it, HostError when there can be no lock."""
    path = _path(name, "lock")
    try:
        os.makedirs(FOLDER, mode=0o755, exist_ok=True)
        descriptor = _locked(path)
    except OSError as error:
        raise HostError("lock %s for this run" % name, "this host", str(error), _REMEDY)
    held = Held(name)
    try:
        yield held
    except CannotConverge:
        held.keep()
        raise
    finally:
        # Also after a failure: it was told, and what could be taken back was. A death leaves the record, and so does a
        # move of which nobody can say how it ended.
        if not held.kept:
            held.forget()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        os.close(descriptor)


def _locked(path: str) -> int:
    """The descriptor of the locked file that bears the name now: the one before may just have been removed."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path) and os.stat(path).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise Taken()
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)


def standing(name: str) -> Standing:
    """The record of a run that lives or died. Only reads."""
    try:
        with open(_path(name, "run"), encoding="utf-8") as told:
            record = record_of(json.load(told))
    except (OSError, ValueError, KeyError, TypeError):
        return Standing()
    return Standing(record, start_of_process(record.pid) == record.started)


def myself() -> Tuple[int, int]:
    """(pid, start in clock ticks since boot) of this process."""
    return os.getpid(), start_of_process(os.getpid()) or 0


def start_of_process(pid: int) -> Optional[int]:
    """None when there is no such process."""
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as stat:
            return start_of(stat.read())
    except OSError:
        return None


def _path(name: str, kind: str) -> str:
    raw = name.encode("utf-8")
    name = name if len(raw) <= LONGEST else hashlib.sha256(raw).hexdigest()
    return "%s/kvm_migrate-%s.%s" % (FOLDER, name, kind)
