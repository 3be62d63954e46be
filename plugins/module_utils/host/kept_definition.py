# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The definition that is to stay on this host, put aside while its guest leaves.

libvirt takes the real one away in the moment in which the guest goes, so that there is never one which could start. The file
holds passwords, as libvirt's own do, and like them only root may read it.
"""

from __future__ import annotations

import contextlib
import os
from typing import Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError

FOLDER = "/var/lib/kvmops/kept"


def put(uuid: str, xml: str) -> None:
    """Durably: what came before it stays whole until it is there. Raises HostError."""
    path = _path(uuid)
    temporary = "%s.%d" % (path, os.getpid())
    try:
        os.makedirs(FOLDER, 0o700, exist_ok=True)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
            out.write(xml)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
    except OSError as error:
        remedy = "Make room in %s, or leave keep_source out, then run again." % FOLDER
        raise HostError("put the definition aside in %s" % path, "this host", str(error), remedy)


def get(uuid: str) -> Optional[str]:
    """None when none was put aside, or it was dropped."""
    with contextlib.suppress(FileNotFoundError), open(_path(uuid), encoding="utf-8") as told:
        return told.read()
    return None


def drop(uuid: str) -> None:
    """A missing one is fine."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_path(uuid))


def _path(uuid: str) -> str:
    return os.path.join(FOLDER, uuid + ".xml")
