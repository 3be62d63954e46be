# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A look at a file or block device that somebody wants to import as a disk: what it is, who has it. Nothing is changed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import signal
import stat
import struct
from typing import Dict, FrozenSet, Iterator, List, Mapping, Sequence, Set, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import image_server, p2v_attached
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import run
from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_image import Paths
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_import import (
    BLOCK,
    FILE,
    FOOT_BYTES,
    FORMATS,
    HEAD_BYTES,
    OTHER,
    RAW,
    Identity,
    ImportDisk,
    ImportSeen,
    contained,
    refers_to,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_vm import overlay_of

# <linux/fcntl.h>; struct flock: type, whence, start, length, process.
_OFD_GETLK = 36
_LOCK = struct.Struct("hhqqi4x")
# QEMU's block/file-posix.c: a reader of this byte's lock has the image open for writing.
_QEMU_WRITES_AT = 101
_INFO_S = 60.0
# An image may be made so that a program which opens it takes all memory and time (CVE-2015-5162).
_LIMITED = ("prlimit", "--as=%d" % 1024**3, "--cpu=30", "--")


def seen(wanted: ImportDisk, users: Mapping[str, Sequence[str]]) -> ImportSeen:
    """users: path -> active domains that have it as a disk."""
    try:
        real = os.path.realpath(wanted.path)
        # By the path as it was given: realpath() does not mind a loop of links.
        kind = _kind(os.stat(wanted.path))
        if kind == OTHER:
            return ImportSeen(wanted, error="it is neither a file nor a block device")
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            return _seen(wanted, real, kind, descriptor, users)
        finally:
            os.close(descriptor)
    except OSError as error:
        return ImportSeen(wanted, error=error.strerror or str(error))


def identity_of(path: str) -> Identity:
    """Equal for all names of one file or device. Raises OSError."""
    return _identity(os.stat(path))


def supported() -> FrozenSet[str]:
    """The formats that this host's qemu-img knows; all of ours when it does not say."""
    return formats_in(run(["qemu-img", "--help"]).out) or frozenset(FORMATS)


def formats_in(told: str) -> FrozenSet[str]:
    """Of the help of qemu-img, which has them in one line, or since QEMU 10.1 in several."""
    found = re.search(r"^Supported (?:image )?formats:(.*?)(?:\n\s*\n|\Z)", told, re.M | re.S)
    return frozenset(found.group(1).split()) if found else frozenset()


def targets_of(paths: Paths) -> Dict[Identity, str]:
    """What a run writes to for one disk, as far as it is there."""
    found: Dict[Identity, str] = {}
    for path in (paths.image, paths.part, paths.manifest, paths.part_manifest, overlay_of(paths.image)):
        with contextlib.suppress(OSError):
            found.setdefault(identity_of(path), path)
    return found


def _kind(found: os.stat_result) -> str:
    if stat.S_ISREG(found.st_mode):
        return FILE
    return BLOCK if stat.S_ISBLK(found.st_mode) else OTHER


def _identity(found: os.stat_result) -> Identity:
    if stat.S_ISBLK(found.st_mode):
        return (os.major(found.st_rdev), os.minor(found.st_rdev), -1)
    return (found.st_dev, found.st_ino)


def _seen(wanted: ImportDisk, real: str, kind: str, descriptor: int, users: Mapping[str, Sequence[str]]) -> ImportSeen:
    end = os.lseek(descriptor, 0, os.SEEK_END)
    head = os.pread(descriptor, HEAD_BYTES, 0)
    foot = os.pread(descriptor, FOOT_BYTES, max(0, end - FOOT_BYTES))
    refers = refers_to(wanted.format, head, foot)
    contains = contained(head, foot)
    busy = [*_locks(descriptor), *(_writers(descriptor) if kind == FILE else p2v_attached.held(real))]
    # qemu-img would open the files that the header means.
    size, said = (0, "") if refers or contains not in (None, wanted.format) else _asked(wanted.format, real, kind)
    device = p2v_attached.described(p2v_attached.kernel_name(real)) if kind == BLOCK else {}
    name = str(device.get("name") or "")
    identities = _identities(os.fstat(descriptor), name)
    return ImportSeen(
        wanted=wanted,
        kind=kind,
        real=real,
        identities=identities,
        size=size,
        sector=int(device.get("sector") or 512) if wanted.format == RAW else 512,
        kernel=name,
        serial=device.get("serial") or None,
        wwn=device.get("wwn") or None,
        model=device.get("model") or None,
        contains=contains,
        refers=tuple(refers),
        busy=tuple(busy),
        unreadable=said,
        domains=tuple(sorted(_domains(identities, name, users))),
    )


def _identities(found: os.stat_result, kernel: str) -> FrozenSet[Identity]:
    told = {_identity(found)}
    with contextlib.suppress(OSError):
        told.add(identity_of(p2v_attached.backing_file(kernel)))
    return frozenset(told)


def _asked(image_format: str, real: str, kind: str) -> Tuple[int, str]:
    """Bytes of the disk, and what speaks against it."""
    node = image_server.node(real, image_format, kind == BLOCK)
    done = run([*_LIMITED, "qemu-img", "info", "--output=json", node], timeout_s=_INFO_S)
    if done.rc:
        return 0, done.err.strip().replace(node, real) or "qemu-img ended with status %d" % done.rc
    told = json.loads(done.out)
    return int(told["virtual-size"]), "it is encrypted" if told.get("encrypted") else ""


def _locks(descriptor: int) -> Iterator[str]:
    """Of whom has it for writing and says so: QEMU, or a program that locks what it writes."""
    for kind, start, length in ((fcntl.F_WRLCK, _QEMU_WRITES_AT, 1), (fcntl.F_RDLCK, 0, 0)):
        with contextlib.suppress(OSError):
            asked = _LOCK.pack(kind, os.SEEK_SET, start, length, 0)
            if _LOCK.unpack(fcntl.fcntl(descriptor, _OFD_GETLK, asked))[0] != fcntl.F_UNLCK:
                yield "another program has it open for writing, and has locked it"
                return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:
            yield "another program has locked it (flock)"


def _writers(descriptor: int) -> List[str]:
    """The kernel gives a read lease on a file only while nobody has it open for writing."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return ["another program has it open for writing"]
    finally:
        signal.signal(signal.SIGIO, before)
    return []


def _domains(identities: FrozenSet[Identity], kernel: str, users: Mapping[str, Sequence[str]]) -> Set[str]:
    """A domain that has a partition or a volume of a disk has that disk."""
    found: Set[str] = set()
    below = p2v_attached.lineage(kernel) if kernel else frozenset()
    for path, names in users.items():
        with contextlib.suppress(OSError):
            other = os.stat(path)
            name = p2v_attached.kernel_name(path) if kernel and stat.S_ISBLK(other.st_mode) else ""
            if _identity(other) in identities or (name and (name in below or kernel in p2v_attached.lineage(name))):
                found.update(names)
    return found
