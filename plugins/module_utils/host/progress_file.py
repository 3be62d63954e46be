# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file in which running work tells how far it is. Never a reason to fail: without the file nothing is shown."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Iterator, Protocol

from ansible_collections.kvmops.fleet.plugins.module_utils.model.progress import FOLDER, Progress, path_of


class Tell(Protocol):
    """Takes the latest progress."""

    def __call__(self, progress: Progress) -> None: ...


@contextlib.contextmanager
def telling(module: str, name: str) -> Iterator[Tell]:
    """Give a function that writes the latest progress; the file is removed at the end."""
    path = path_of(module, name)
    temporary = "%s.%d" % (path, os.getpid())

    def tell(progress: Progress) -> None:
        with contextlib.suppress(OSError):
            os.makedirs(FOLDER, mode=0o755, exist_ok=True)
            with open(temporary, "w", encoding="utf-8") as out:
                json.dump(progress.__dict__, out)
            os.replace(temporary, path)

    try:
        yield tell
    finally:
        for left in (path, temporary):
            with contextlib.suppress(OSError):
                os.unlink(left)
