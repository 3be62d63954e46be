# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""New images made from images that are there: looked at, copied to a temporary name, grown, synced, and only then given their name."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import stat
from typing import Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import far_side, image_server
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import HERE, output_of, run
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.image import temporary_of
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_import import (
    FOOT_BYTES,
    HEAD_BYTES,
    contained,
    refers_to,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.source_image import SourceImage, WantedImage

_INFO_S = 60.0
# An image may be made so that a program which opens it takes all memory and time (CVE-2015-5162).
_LIMITED = ("prlimit", "--as=%d" % 1024**3, "--cpu=30", "--")
_CHUNK = 4 * 1024**2


def look(wanted: WantedImage) -> SourceImage:
    """Changes nothing, and opens no file that the image names. Reads all of it when there is a checksum to compare."""
    try:
        descriptor = os.open(wanted.path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        return SourceImage(wanted, error=error.strerror or str(error))
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return SourceImage(wanted, error="it is no file")
        head = os.pread(descriptor, HEAD_BYTES, 0)
        foot = os.pread(descriptor, FOOT_BYTES, max(0, found.st_size - FOOT_BYTES))
        refers, contains = tuple(refers_to(wanted.format, head, foot)), contained(head, foot)
        readable = not refers and contains in (None, wanted.format)
        size, said = _size(wanted) if readable else (0, "")
        checksum = _checksum(descriptor, wanted.checksum) if readable and wanted.checksum else None
    except OSError as error:
        return SourceImage(wanted, error=error.strerror or str(error))
    finally:
        os.close(descriptor)
    return SourceImage(wanted, said, size, contains, refers, checksum, _identity(found))


def _size(wanted: WantedImage) -> Tuple[int, str]:
    node = image_server.node(wanted.path, wanted.format, False)
    done = run([*_LIMITED, "qemu-img", "info", "--output=json", node], timeout_s=_INFO_S)
    if done.rc:
        return 0, done.err.strip().replace(node, wanted.path) or "qemu-img ended with status %d" % done.rc
    told = json.loads(done.out)
    return int(told["virtual-size"]), "it is encrypted" if told.get("encrypted") else ""


def _checksum(descriptor: int, like: str) -> str:
    kind = like.split(":", 1)[0]
    summed = hashlib.new(kind)
    os.lseek(descriptor, 0, os.SEEK_SET)
    while True:
        piece = os.read(descriptor, _CHUNK)
        if not piece:
            return "%s:%s" % (kind, summed.hexdigest())
        summed.update(piece)


def _identity(found: os.stat_result) -> Tuple[int, ...]:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def chain(path: str, image_format: str) -> List[str]:
    """The formats of the image and of those below it, top down. Raises HostError when one below does not say its format."""
    attempted = "look at the image %s" % path
    argv = [*_LIMITED, "qemu-img", "info", "--backing-chain", "--output=json", "-f", image_format, "--", path]
    layers: List[Dict[str, object]] = json.loads(output_of(argv, timeout_s=_INFO_S, attempted=attempted))
    for layer in layers[:-1]:
        if not layer.get("backing-filename-format"):
            said = "%s does not say which format the image below it has" % layer.get("filename")
            raise HostError(attempted, HERE.name, said, "Say it: qemu-img rebase -u -F FORMAT -b BELOW IMAGE.")
    return [str(layer.get("format")) for layer in layers]


class Copy(NamedTuple):
    """source: the words by which qemu-img names it. grow_to: bytes, 0 to leave the size as it is."""

    source: Sequence[str]
    path: str
    image_format: str
    grow_to: int = 0


def make_from(image: SourceImage, path: str, image_format: str, capacity_bytes: int) -> None:
    """A new image at `path` with the content of that source, which must still be what was looked at. Raises HostError."""
    wanted = image.wanted
    source = [image_server.node(wanted.path, wanted.format, False)]
    grow_to = capacity_bytes if capacity_bytes > image.size else 0
    attempted = "copy image %s to %s" % (wanted.path, path)
    copy([Copy(source, path, image_format, grow_to)], attempted, lambda: _is_still(image))


def _is_still(image: SourceImage) -> None:
    if _identity(os.stat(image.wanted.path)) != image.identity:
        raise OSError("%s was changed meanwhile" % image.wanted.path)


def copy(copies: Sequence[Copy], attempted: str, check: Callable[[], None]) -> None:
    """Make all of them or none. check: called before they get their names; raises OSError. Raises HostError."""
    temporaries: List[str] = []
    named: List[str] = []
    remedy = "Check the room and the rights in %s." % ", ".join(sorted({os.path.dirname(one.path) for one in copies}))
    try:
        with contextlib.ExitStack() as stack:
            for one in copies:
                temporary = temporary_of(one.path)
                descriptor = stack.enter_context(_claimed(temporary))
                temporaries.append(temporary)
                _convert(one, temporary, attempted, remedy)
                os.fsync(descriptor)
            check()
            for one, temporary in zip(copies, temporaries):
                far_side.publish(temporary, one.path, 0o600, os.geteuid(), os.getegid())
                named.append(one.path)
    except (OSError, HostError) as error:
        for path in named:
            far_side.remove(path)
        if isinstance(error, HostError):
            raise
        raise HostError(attempted, HERE.name, str(error), remedy)
    finally:
        for temporary in temporaries:
            far_side.remove(temporary)


def _convert(one: Copy, temporary: str, attempted: str, remedy: str) -> None:
    argv = ["qemu-img", "convert", "-q", "-O", one.image_format, *one.source, temporary]
    output_of(argv, attempted=attempted, remedy=remedy)
    if one.grow_to:
        argv = ["qemu-img", "resize", "-q", "-f", one.image_format, "--", temporary, str(one.grow_to)]
        output_of(argv, attempted=attempted, remedy=remedy)


@contextlib.contextmanager
def _claimed(path: str) -> Iterator[int]:
    """The temporary file, empty and ours alone; what a run that was cut short left in it is gone."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError("another task is writing %s" % path)
        os.ftruncate(descriptor, 0)
        yield descriptor
    finally:
        os.close(descriptor)
