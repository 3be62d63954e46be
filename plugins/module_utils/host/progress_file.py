# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file in which running work tells how far it is. Never a reason to fail: without the file nothing is shown."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Iterator, Optional, Protocol

from ansible_collections.kvmops.fleet.plugins.module_utils.host.guest_lock import myself
from ansible_collections.kvmops.fleet.plugins.module_utils.model.progress import FOLDER, Progress, path_of


class Tell(Protocol):
    """Takes the latest progress."""

    def __call__(self, progress: Progress) -> None: ...


@contextlib.contextmanager
def telling(module: str, name: str) -> Iterator[Tell]:
    """Give a function that writes the latest progress, with the writer's pid and start; the file is removed at the end.

    What a dead run left under the name is removed first.
    """
    path = path_of(module, name)
    pid, started = myself()
    temporary = "%s.%d" % (path, pid)
    _remove(path)

    def tell(progress: Progress) -> None:
        with contextlib.suppress(OSError):
            os.makedirs(FOLDER, mode=0o755, exist_ok=True)
            with open(temporary, "w", encoding="utf-8") as out:
                json.dump(dict(progress.__dict__, pid=pid, started=started), out)
                out.write("\n")
            os.replace(temporary, path)

    try:
        yield tell
    finally:
        _remove(path)
        _remove(temporary)


def drop(module: str, name: str) -> None:
    """Remove what a dead run left under the name."""
    _remove(path_of(module, name))


def last_told(module: str, name: str) -> Optional[float]:
    """When that run last told how far it is, as seconds since the epoch; None when it tells nothing."""
    try:
        return os.stat(path_of(module, name)).st_mtime
    except OSError:
        return None


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
