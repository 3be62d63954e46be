# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes the changes that plan/fixup.py decided, in an opened image whose filesystems are mounted."""

from __future__ import annotations

import contextlib
import posixpath
from typing import Any, Sequence

from ansible_collections.kvmops.fleet.plugins.module_utils.host.guestfs_api import SIDE
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.fixup import (
    COPY,
    INSTALL,
    LINK,
    REMOVE,
    RUN,
    WRITE,
    Change,
)

_LABEL = "security.selinux"
_NEW_FILE = 0o644
_MEND = "Mend it on the physical machine, or leave fixup out."
_GIVE = "Give the packages that it names as well, or install the agent on the physical machine."


def make(handle: Any, changes: Sequence[Change]) -> None:
    """In order; the first that fails ends it. Raises HostError with the change's words."""
    for change in changes:
        try:
            _make(handle, change)
        except RuntimeError as error:
            remedy = "Nothing of the fix-up was kept. %s" % (_GIVE if change.kind == INSTALL else _MEND)
            raise HostError("change the image (%s)" % change.words, SIDE, str(error), remedy) from error


def _make(handle: Any, change: Change) -> None:
    if change.kind == WRITE:
        _write(handle, change.path, change.content.encode("utf-8", "surrogateescape"))
    elif change.kind == REMOVE:
        handle.rm_f(change.path)
    elif change.kind == COPY:
        handle.mkdir_p(posixpath.dirname(change.path))
        handle.cp(change.source, change.path)
    elif change.kind == LINK:
        handle.ln_sf(change.source, change.path)
    elif change.kind == RUN:
        handle.command(list(change.argv))
    elif change.kind == INSTALL:
        _install(handle, change)


def _install(handle: Any, change: Change) -> None:
    folder = handle.mkdtemp("/var/tmp/kvmops.XXXXXX")
    try:
        inside = [posixpath.join(folder, posixpath.basename(path)) for path in change.files]
        for path, target in zip(change.files, inside):
            handle.upload(path, target)
        handle.command([*change.argv, *inside])
    finally:
        # Its machine may be gone, which is told already.
        with contextlib.suppress(RuntimeError):
            handle.rm_rf(folder)


def _write(handle: Any, path: str, content: bytes) -> None:
    """In place: owner, mode and SELinux label of a file that is there stay. A new one gets the label of its folder."""
    new = not handle.exists(path)
    folder = posixpath.dirname(path)
    if new:
        handle.mkdir_p(folder)
    handle.write(path, content)
    if not new:
        return
    handle.chmod(_NEW_FILE, path)
    label = next((each["attrval"] for each in handle.lgetxattrs(folder) if each["attrname"] == _LABEL), None)
    if label:
        text = label.decode() if isinstance(label, bytes) else label
        handle.lsetxattr(_LABEL, text, len(text), path)
