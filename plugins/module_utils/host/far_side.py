# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of one host: look at them, hash them, receive them, publish them, remove them.

The same file serves both ends. Here its functions are called; on another host its source text is sent over ssh to
that host's `python3`, which reads one JSON request from standard input and answers with one JSON line. So nothing is
installed there, and no user text ever reaches a shell. Standard library only, Python 3.8 and newer.

Where the ssh gate of the role host_base guards the other host, the gate runs the copy that the role installed, and
ignores the text sent. So a change of the functions that are served, or of their arguments, needs a new PROTOCOL.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
import sys

PROTOCOL = 2

# One record of an image stream: offset and length, both unsigned 64 bit; a length of 0 ends the stream and its
# offset is the full size of the image.
RECORD = struct.Struct(">QQ")
CHUNK = 4 * 1024**2

# Settings of the kernel whose value `look` tells. A fixed list: nothing else is read for another host.
SETTINGS = ("/proc/sys/vm/unprivileged_userfaultfd",)


def look(paths):
    """What is at each path: {path: facts}. Sizes are bytes.

    facts: exists, kind (file, block, other), size, allocated, device, inode, changed_ns, directory (its folder exists),
    free (room in that file system), fstype, mount_source, mount_inside (the path inside the mounted file system),
    value (of a setting of the kernel, as text).
    """
    mounts = _mounts()
    return {path: _look(path, mounts) for path in paths}


def _look(path, mounts):
    folder = os.path.dirname(path) or "/"
    facts = {"exists": os.path.lexists(path), "kind": "other", "directory": os.path.isdir(folder)}
    if facts["directory"]:
        room = os.statvfs(folder)
        facts["free"] = room.f_bavail * room.f_frsize
        facts.update(_mount_of(os.path.realpath(path), mounts))
    if path in SETTINGS and facts["exists"]:
        with open(path, encoding="ascii") as setting:
            facts["value"] = setting.read().strip()
    if os.path.exists(path):
        found = os.stat(path)
        facts.update(size=found.st_size, allocated=found.st_blocks * 512, inode=found.st_ino, device=found.st_dev)
        facts["changed_ns"] = found.st_ctime_ns
        if stat.S_ISREG(found.st_mode):
            facts["kind"] = "file"
        elif stat.S_ISBLK(found.st_mode):
            facts.update(kind="block", size=_block_size(path), device=found.st_rdev)
    return facts


def _block_size(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.lseek(descriptor, 0, os.SEEK_END)
    finally:
        os.close(descriptor)


def _mounts():
    """[(mount point, file system type, source, root)] of this process, longest mount point first."""
    mounts = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            left, right = line.rstrip("\n").split(" - ", 1)
            root, point = [_unescape(word) for word in left.split(" ")[3:5]]
            fstype, source = right.split(" ")[:2]
            mounts.append((point, fstype, _unescape(source), root))
    return sorted(mounts, key=lambda mount: len(mount[0]), reverse=True)


def _unescape(word):
    return word.encode("latin-1", "replace").decode("unicode_escape") if "\\" in word else word


def _mount_of(path, mounts):
    for point, fstype, source, root in mounts:
        if path == point or path.startswith(point.rstrip("/") + "/"):
            inside = root.rstrip("/") + "/" + path[len(point) :].lstrip("/")
            return {"fstype": fstype, "mount_source": source, "mount_inside": inside}
    return {}


def digest(path):
    """SHA-256 of the content as it is on the medium: written back and dropped from the cache before it is read."""
    summed = hashlib.sha256()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        while True:
            chunk = os.read(descriptor, CHUNK)
            if not chunk:
                return summed.hexdigest()
            summed.update(chunk)
    finally:
        os.close(descriptor)


def send(path, write):
    """Call write(bytes) with the image stream of the file: data extents only, then the end record.

    Returns the bytes of data sent. Holes (SEEK_HOLE) are not read.
    """
    sent = 0
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        for start, end in _extents(descriptor, size):
            for offset in range(start, end, CHUNK):
                chunk = _read_full(descriptor, offset, min(CHUNK, end - offset))
                write(RECORD.pack(offset, len(chunk)))
                write(chunk)
                sent += len(chunk)
        write(RECORD.pack(size, 0))
        return sent
    finally:
        os.close(descriptor)


def _read_full(descriptor, offset, length):
    parts = []
    while length:
        part = os.pread(descriptor, length, offset)
        if not part:
            raise OSError("the file ended at byte %d while it was read" % offset)
        parts.append(part)
        offset, length = offset + len(part), length - len(part)
    return b"".join(parts)


def _extents(descriptor, size):
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end
        position = end


def receive(path, stream):
    """Write an image stream into a new file that only root may read; fsync. Never overwrites. {"size": bytes}."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        while True:
            offset, length = RECORD.unpack(_take(stream, RECORD.size))
            if length == 0:
                os.ftruncate(descriptor, offset)
                os.fsync(descriptor)
                return {"size": offset}
            rest = memoryview(_take(stream, length))
            while rest:
                done = os.pwrite(descriptor, rest, offset)
                offset, rest = offset + done, rest[done:]
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)


def _take(stream, length):
    data = stream.read(length)
    if len(data) != length:
        raise OSError("the stream ended early: %d of %d bytes" % (len(data), length))
    return data


def publish(temporary, path, mode, owner, group):
    """Give the finished file its rights and its name, durably. Fails when the name is taken."""
    descriptor = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fchmod(descriptor, mode)
        os.fchown(descriptor, owner, group)
    finally:
        os.close(descriptor)
    os.link(temporary, path)
    os.unlink(temporary)
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return {}


def remove(path):
    """Remove a file; a missing one is fine."""
    if os.path.lexists(path):
        os.unlink(path)
    return {}


def main():
    """Serve one request: {"do": name, "with": {arguments}}; `receive` takes the rest of standard input."""
    stream = sys.stdin.buffer
    request = json.loads(stream.readline())
    arguments = request["with"]
    if request["do"] == "receive":
        arguments["stream"] = stream
    serving = {act.__name__: act for act in (look, digest, receive, publish, remove)}
    try:
        answer = {"answer": serving[request["do"]](**arguments)}
    except OSError as error:
        answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")
