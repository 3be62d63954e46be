# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The variable stores of UEFI guests: small files that libvirt knows by the name of their domain."""

from __future__ import annotations

import os

from ansible_collections.kvmops.fleet.plugins.module_utils.host import far_side
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import HERE
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.image import temporary_of


def copy(source: str, path: str) -> None:
    """A copy with the same owner, durably. Another one that is there is an error. Raises HostError."""
    temporary = temporary_of(path)
    try:
        if _same(source, path):
            return
        far_side.remove(temporary)
        with open(source, "rb") as given:
            found = os.fstat(given.fileno())
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                out.write(given.read())
                out.flush()
                os.fsync(out.fileno())
        far_side.publish(temporary, path, 0o600, found.st_uid, found.st_gid)
    except OSError as error:
        far_side.remove(temporary)
        raise HostError("copy the UEFI variables %s to %s" % (source, path), HERE.name, str(error))


def exists(path: str) -> bool:
    return os.path.exists(path)


def remove(path: str) -> None:
    """A missing one is fine."""
    far_side.remove(path)


def _same(source: str, path: str) -> bool:
    """Left by a run that was cut short."""
    if not os.path.exists(path):
        return False
    with open(source, "rb") as one, open(path, "rb") as other:
        return one.read() == other.read()
