# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cloud-init seeds: ISO images labelled `cidata`, made by the host's own tool.

User data often holds passwords. It is written to a directory in memory that only root may enter, reaches the tool as files
and never as words of a command, and the seed can be read by root only (and by QEMU, once libvirt hands it over).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Mapping, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import commands, far_side
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.image import temporary_of

TOOLS = ("xorrisofs", "genisoimage", "mkisofs")
LABEL, MARK = "cidata", "KVMOPS.FLEET CLOUD-INIT SEED"
_MEMORY = "/dev/shm"
_TIMEOUT_S = 60.0

# ECMA-119, 8.4: the primary volume descriptor is sector 16; identifiers in it as (offset, length).
_SECTOR = 2048
_DESCRIPTOR_AT = 16 * _SECTOR
_VOLUME_ID, _APPLICATION_ID = (40, 32), (574, 128)


def tool() -> Optional[str]:
    """The first program of TOOLS that this host has."""
    return next((name for name in TOOLS if shutil.which(name, path=commands.ENVIRONMENT["PATH"])), None)


def is_ours(path: str) -> bool:
    """Whether the file there is a seed that `write` made."""
    try:
        with open(path, "rb") as image:
            image.seek(_DESCRIPTOR_AT)
            told = image.read(_SECTOR)
    except OSError:
        return False
    return told[1:6] == b"CD001" and _field(told, _VOLUME_ID) == LABEL and _field(told, _APPLICATION_ID) == MARK


def _field(sector: bytes, where: Tuple[int, int]) -> str:
    offset, length = where
    return sector[offset : offset + length].decode("ascii", "replace").strip()


def write(program: str, texts: Mapping[str, str], path: str) -> None:
    """Make the seed and put it at `path`, durably: whole or not at all. texts: by file name.

    Only a seed of ours is replaced; a guest that runs keeps the one that it has open. Raises HostError.
    """
    attempted = "write the cloud-init seed %s" % path
    try:
        with tempfile.TemporaryDirectory(
            prefix="kvmops-seed-", dir=_MEMORY if os.path.isdir(_MEMORY) else None
        ) as folder:
            image = _make(program, texts, folder, attempted)
            _place(image, path)
    except OSError as error:
        remedy = "Check the room and the rights in %s, or give another cloud_init.pool." % os.path.dirname(path)
        raise HostError(attempted, commands.HERE.name, str(error), remedy)


def _make(program: str, texts: Mapping[str, str], folder: str, attempted: str) -> str:
    files, image = os.path.join(folder, "files"), os.path.join(folder, "image")
    os.mkdir(files, 0o700)
    for name, text in texts.items():
        with open(os.path.join(files, name), "w", encoding="utf-8") as out:
            out.write(text)
    argv = [program, "-quiet", "-output", image, "-volid", LABEL, "-appid", MARK, "-joliet", "-rational-rock", files]
    done = commands.run(argv, timeout_s=_TIMEOUT_S)
    if done.rc != 0 or not is_ours(image):
        said = done.err or "exit %d, and no image" % done.rc
        raise HostError(attempted, commands.HERE.name, "%s: %s" % (program, said))
    return image


def _place(image: str, path: str) -> None:
    temporary = temporary_of(path)
    far_side.remove(temporary)
    try:
        with open(image, "rb") as source, open(
            os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb"
        ) as out:
            shutil.copyfileobj(source, out)
            out.flush()
            os.fsync(out.fileno())
        if is_ours(path):
            os.replace(temporary, path)
            _sync(os.path.dirname(path))
        else:
            far_side.publish(temporary, path, 0o600, os.geteuid(), os.getegid())
    finally:
        far_side.remove(temporary)


def _sync(folder: str) -> None:
    """So that the new name is there after a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
