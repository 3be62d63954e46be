# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An image file opened for random access: qemu-nbd in front of it, so that raw and qcow2 are the same to us."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any, Dict, Iterator, List

from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import output_of, serving
from ansible_collections.kvmops.fleet.plugins.module_utils.host.nbd import Nbd
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError

_STARTS_WITHIN_S = 30.0


def create(path: str, image_format: str, size: int) -> None:
    """A sparse image of `size` bytes. One that is there is an error."""
    attempted = "create the image %s" % path
    try:
        # By us and not by qemu-img, which would empty a file that is there.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    except OSError as error:
        raise HostError(attempted, "this host", str(error), "Remove it or choose another name.")
    argv = ["qemu-img", "create", "-q", "-f", image_format, "--", path, str(size)]
    try:
        output_of(argv, attempted=attempted, remedy="Check the pool's free space.")
    except HostError:
        os.unlink(path)
        raise


def node(path: str, image_format: str, is_device: bool) -> str:
    """What QEMU's tools take as the name of an image that somebody else made: its format is given, and a backing file is none."""
    told: Dict[str, Any] = {
        "driver": image_format,
        "file": {"driver": "host_device" if is_device else "file", "filename": path},
    }
    if image_format in ("qcow2", "vmdk"):
        told["backing"] = None
    return "json:" + json.dumps(told)


@contextlib.contextmanager
def opened(
    path: str, image_format: str, socket: str, clients: int, writable: bool, foreign: str = ""
) -> Iterator[List[Nbd]]:
    """Connections to a qemu-nbd of its own on that image. When the block ends it has written all that it holds.

    Reading is fresh: what the kernel kept of the file in memory is dropped before. foreign: node() of an image that we did
    not make.
    """
    attempted = "open the image %s" % path
    _drop_cache(path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(socket)
    argv = [
        "qemu-nbd",
        *([] if foreign else ["--format=%s" % image_format]),
        "--socket=%s" % socket,
        "--shared=%d" % (clients + 1),
        "--persistent",
        "--cache=writeback",
        "--discard=unmap",
        *([] if writable else ["--read-only"]),
        foreign or path,
    ]
    with serving(argv, attempted) as process, contextlib.ExitStack() as stack:
        connections = [_connected(process, socket, path, attempted)]
        stack.callback(connections[0].close)
        for dummy in range(clients - 1):
            connections.append(Nbd(socket, path))
            stack.callback(connections[-1].close)
        yield connections
    with contextlib.suppress(FileNotFoundError):
        os.unlink(socket)


@contextlib.contextmanager
def beside(path: str, image_format: str, socket: str) -> Iterator[Nbd]:
    """A connection to a qemu-nbd that reads an image while another one writes to it, past the kernel's memory (O_DIRECT).

    It shows what was flushed before, as far as that is not written again meanwhile: the mapping of a qcow2 is read once. Raises
    HostError, also where the storage does not know O_DIRECT.
    """
    attempted = "read the image %s beside its writer" % path
    with contextlib.suppress(FileNotFoundError):
        os.unlink(socket)
    told: Dict[str, Any] = {
        "driver": image_format,
        "read-only": True,
        # No lock: the writer has it, and keeps it.
        "force-share": True,
        "cache": {"direct": True},
        "file": {"driver": "file", "filename": path},
    }
    if image_format == "qcow2":
        told["backing"] = None
    argv = ["qemu-nbd", "--read-only", "--cache=none", "--socket=%s" % socket, "--shared=1", "--persistent"]
    with serving([*argv, "json:" + json.dumps(told)], attempted) as process:
        connection = _connected(process, socket, path, attempted)
        try:
            yield connection
        finally:
            connection.close()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(socket)


def _connected(process: object, socket: str, image: str, attempted: str) -> Nbd:
    latest = time.monotonic() + _STARTS_WITHIN_S
    while True:
        try:
            return Nbd(socket, image)
        except OSError as error:
            if process.poll() is not None:  # type: ignore[attr-defined]
                said = process.stderr.read().decode("utf-8", "replace")  # type: ignore[attr-defined]
                raise HostError(attempted, "this host", said, "Look whether another program has it open.")
            if time.monotonic() > latest:
                raise HostError(attempted, "this host", "qemu-nbd does not listen: %s" % error)
        time.sleep(0.02)


def _drop_cache(path: str) -> None:
    """The file is on its medium and nowhere else."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
