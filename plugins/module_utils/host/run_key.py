# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The key of a run: while the run lives, its owner may log in here for one forced command. Later runs clear what died."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
from typing import Callable, Iterator, List

from ansible_collections.kvmops.fleet.plugins.module_utils.host.guest_lock import myself, start_of_process
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.progress import FOLDER

AUTHORISED = "/root/.ssh/authorized_keys"
_MARK = re.compile(r" kvmops-p2v-(\d+)-(\d+)$")


def line_of(public_key: str, command: List[str]) -> str:
    """The line of authorized_keys (sshd(8)): no terminal, no forwarding, nothing but the command. It names its run's process."""
    pid, started = myself()
    words = " ".join(shlex.quote(word) for word in command).replace("\\", "\\\\").replace('"', '\\"')
    kind, key = public_key.split()[:2]
    return 'restrict,command="%s" %s %s kvmops-p2v-%d-%d' % (words, kind, key, pid, started)


@contextlib.contextmanager
def authorised(public_key: str, command: List[str], path: str = AUTHORISED) -> Iterator[None]:
    """While the block runs, the key opens that command."""
    line = line_of(public_key, command)
    _edit(path, lambda lines: [*(each for each in lines if not _is_of_a_dead_run(each)), line])
    try:
        yield
    finally:
        _edit(path, lambda lines: [each for each in lines if each != line])


def _is_of_a_dead_run(line: str) -> bool:
    found = _MARK.search(line)
    return bool(found) and start_of_process(int(found.group(1))) != int(found.group(2))


def _edit(path: str, change: Callable[[List[str]], List[str]]) -> None:
    """Under a lock of ours, since two runs may come at once; by rename, since sshd reads whenever it likes."""
    try:
        os.makedirs(FOLDER, mode=0o755, exist_ok=True)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        lock = os.open(os.path.join(FOLDER, "keys.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _rewrite(path, change)
        finally:
            os.close(lock)
    except OSError as error:
        raise HostError(
            "authorise the key of the run in %s" % path, "this host", str(error), "Run as root (become: true)."
        )


def _rewrite(path: str, change: Callable[[List[str]], List[str]]) -> None:
    # A link to a file elsewhere stays one.
    path = os.path.realpath(path)
    before: List[str] = []
    mode, owner, group = 0o600, os.geteuid(), os.getegid()
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8", errors="surrogateescape") as lines:
        before = lines.read().splitlines()
        seen = os.fstat(lines.fileno())
        mode, owner, group = seen.st_mode & 0o777, seen.st_uid, seen.st_gid
    after = change(before)
    if after == before:
        return
    temporary = path + ".kvmops"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(temporary, flags, mode), "w", encoding="utf-8", errors="surrogateescape") as out:
        os.fchown(out.fileno(), owner, group)
        out.write("".join(line + "\n" for line in after))
        out.flush()
        os.fsync(out.fileno())
    os.replace(temporary, path)
