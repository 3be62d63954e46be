# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of a guest made of copied disks: overlays, their record, and what a boot test leaves."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import commands, far_side, guestfs_api
from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_image import marks_of, synced
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_vm import FORMAT, VmDisk, hidden

_SIDE = "this host"


def read_record(path: str) -> Optional[Dict[str, Any]]:
    """None when there is none, or when it cannot be read as one."""
    try:
        with open(path, encoding="utf-8") as file:
            told = json.load(file)
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else None


def marks(disks: Sequence[VmDisk]) -> Dict[str, Mapping[str, int]]:
    """Of the images and overlays that are there, by path."""
    found = {}
    for disk in disks:
        for path in (disk.image, disk.overlay):
            with contextlib.suppress(FileNotFoundError):
                found[path] = marks_of(path)
    return found


def unreadable(paths: Sequence[str]) -> Tuple[str, ...]:
    """Those that are no files, or not ours to read."""
    return tuple(path for path in paths if not (os.path.isfile(path) and os.access(path, os.R_OK)))


def write_record(path: str, record: Mapping[str, Any]) -> None:
    """All of it or nothing."""
    temporary = hidden(path, "new")
    try:
        far_side.remove(temporary)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            json.dump(record, out, indent=1, sort_keys=True)
            out.write("\n")
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
        synced(os.path.dirname(path))
    except OSError as error:
        raise HostError("keep the record %s" % path, _SIDE, str(error), "Check the pool, then run again.")


def retire(disks: Sequence[VmDisk], record: Optional[str]) -> None:
    """The record goes first: overlays without one are nobody's work. None: it stays."""
    try:
        if record is not None:
            far_side.remove(record)
        for disk in disks:
            for path in (disk.overlay, disk.unfinished, disk.trial):
                far_side.remove(path)
    except OSError as error:
        raise HostError(
            "remove %s" % ", ".join(disk.overlay for disk in disks),
            _SIDE,
            str(error),
            "Check the pool, then run again.",
        )


def begin(disks: Sequence[VmDisk]) -> None:
    """Overlays under their temporary names."""
    for disk in disks:
        _cleared(disk.unfinished)
        guestfs_api.overlay(disk.unfinished, disk.image, disk.format)


def _cleared(path: str) -> None:
    """What a run that died has left."""
    try:
        far_side.remove(path)
    except OSError as error:
        raise HostError("make room for %s" % path, _SIDE, str(error), "Remove it, then run again.")


def publish(disks: Sequence[VmDisk]) -> None:
    """Give the overlays their names, when all that was written is on the medium."""
    for disk in disks:
        try:
            synced(disk.unfinished)
            far_side.publish(disk.unfinished, disk.overlay, 0o600, os.geteuid(), os.getegid())
        except OSError as error:
            raise HostError("publish %s" % disk.overlay, _SIDE, str(error), "Check the pool, then run again.")


def flatten(disks: Sequence[VmDisk]) -> None:
    """What the overlays hold is in their images too. Nothing is lost when it is cut short: the overlays stay as they are."""
    for disk in disks:
        if os.path.lexists(disk.overlay):
            attempted = "put %s into %s" % (disk.overlay, disk.image)
            argv = ["qemu-img", "commit", "-q", "-d", "-f", FORMAT, disk.overlay]
            commands.output_of(argv, attempted=attempted, remedy="Check the pool's free space, then run again.")
            synced(disk.image)


def drop(disks: Sequence[VmDisk]) -> None:
    for disk in disks:
        with contextlib.suppress(OSError):
            far_side.remove(disk.unfinished)


@contextlib.contextmanager
def trial(disks: Sequence[VmDisk]) -> Iterator[None]:
    """Overlays that take what a boot test writes; they are gone with the block."""
    try:
        for disk in disks:
            _cleared(disk.trial)
            guestfs_api.overlay(disk.trial, disk.overlay, FORMAT)
        yield
    finally:
        for disk in disks:
            with contextlib.suppress(OSError):
                far_side.remove(disk.trial)
