# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of one host: look at them, hash them, receive them, publish them, remove them; and the notes of moves.

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
CHUNK = 1024**2

# Ends the name of a file that is being copied.
PART = ".kvmops-part"
# Behind the name of a temporary file: which parts of it have come, each with its hash.
NOTES = ".chunks"
# A power cut may cost this part of an image, or 8 MiB when that is more.
SYNC_PARTS = 100

JOURNALS = "/var/lib/kvmops/journal"

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


def received(path, source):
    """[[start, end]] of what an earlier, interrupted copy left in the temporary file, each part read and hashed again.

    source: `identity` of the file that is copied. What another source left is removed; the answer is [] then.
    """
    try:
        with open(path + NOTES, encoding="ascii") as notes:
            lines = notes.read().split("\n")
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        lines, descriptor = [], None
    good = []
    if descriptor is not None:
        try:
            good = [part for part in map(_part, lines[1:-1]) if lines[0] == source and _is_whole(descriptor, *part)]
        finally:
            os.close(descriptor)
    if not good:
        remove(path)
    ranges = []
    for start, end, _hash in sorted(good):
        if ranges and start <= ranges[-1][1]:
            ranges[-1][1] = max(end, ranges[-1][1])
        else:
            ranges.append([start, end])
    return ranges


def _part(line):
    start, end, summed = line.split(" ")
    return int(start), int(end), summed


def _is_whole(descriptor, start, end, summed):
    data = os.pread(descriptor, end - start, start) if 0 < end - start <= CHUNK else b""
    return len(data) == end - start and hashlib.sha256(data).hexdigest() == summed


def receive(path, source, stream):
    """Write an image stream into a temporary file that only root may read; fsync. {"size": bytes, "inode": number}.

    It goes on in a file that an earlier `receive` of the same source left, and never overwrites another. When the
    stream ends early, what came stays there, to be gone on with.
    """
    if not path.endswith(PART):
        raise OSError("%s is no name of a temporary file (%s)" % (path, PART))
    resumes = _source_of(path) == source
    how = os.O_WRONLY | os.O_NOFOLLOW | (0 if resumes else os.O_CREAT | os.O_EXCL)
    descriptor = os.open(path, how, 0o600)
    try:
        with open(os.open(path + NOTES, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w", buffering=1) as notes:
            if not resumes:
                notes.truncate(0)
                notes.write(source + "\n")
            size = _write(descriptor, notes, stream, max(8 * CHUNK, int(source.split(" ")[0]) // SYNC_PARTS))
            return {"size": size, "inode": os.fstat(descriptor).st_ino}
    finally:
        os.close(descriptor)


def _source_of(path):
    if not os.path.lexists(path):
        return None
    try:
        with open(path + NOTES, encoding="ascii") as notes:
            return notes.readline().rstrip("\n")
    except FileNotFoundError:
        return None


def _write(descriptor, notes, stream, sync_every):
    unsynced = 0
    while True:
        offset, length = RECORD.unpack(_take(stream, RECORD.size))
        if length == 0:
            os.ftruncate(descriptor, offset)
            os.fsync(descriptor)
            return offset
        data = stream.read(length)
        rest, position = memoryview(data), offset
        while rest:
            done = os.pwrite(descriptor, rest, position)
            position, rest = position + done, rest[done:]
        notes.write("%d %d %s\n" % (offset, offset + len(data), hashlib.sha256(data).hexdigest()))
        if len(data) != length:
            raise OSError("the stream ended early, at byte %d of the image" % (offset + len(data)))
        unsynced += length
        if unsynced >= sync_every:
            unsynced = 0
            os.fdatasync(descriptor)


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
    remove(temporary)
    _sync_folder(os.path.dirname(path))
    return {}


def _sync_folder(path):
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove(path):
    """Remove a file, and the notes of its parts; a missing one is fine."""
    for name in (path + NOTES, path) if path.endswith(PART) else (path,):
        if os.path.lexists(name):
            os.unlink(name)
    return {}


def folder(path, mode):
    """Make a directory, and those above it; one that is there is fine."""
    os.makedirs(path, mode, exist_ok=True)
    return {}


def survey(paths, role, uuid):
    """{"files": look(paths and those that the note names), "note": the note of the guest's move or null}."""
    told = recall(role, uuid)
    named = list(told["created"]) + list(told["temporary"]) if told else []
    return {"files": look(sorted({*paths, *named})), "note": told}


def recall(role, uuid):
    """The note of the move of the guest with that UUID, or None. role: leaving or arriving."""
    try:
        with open(_note_path(role, uuid), encoding="utf-8") as told:
            return json.load(told)
    except FileNotFoundError:
        return None


def note(role, uuid, told, paths):
    """Keep the note of a move, durably: what came before it stays whole until it is there. Returns what it holds.

    told: JSON. Its "made" gets the inodes of `paths`, which the move has just made on this host.
    """
    told["made"].update({path: os.stat(path).st_ino for path in paths})
    target = _note_path(role, uuid)
    os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
    temporary = "%s.%d" % (target, os.getpid())
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
        json.dump(told, out)
        out.flush()
        os.fsync(out.fileno())
    os.replace(temporary, target)
    _sync_folder(os.path.dirname(target))
    return told


def forget(role, uuid):
    """Remove the note; a missing one is fine."""
    if os.path.lexists(_note_path(role, uuid)):
        os.unlink(_note_path(role, uuid))
    return {}


def _note_path(role, uuid):
    return os.path.join(JOURNALS, role, uuid + ".json")


SERVED = (look, survey, digest, received, receive, publish, remove, folder, note, forget)


def main():
    """Serve one request: {"do": name, "with": {arguments}}; `receive` takes the rest of standard input."""
    stream = sys.stdin.buffer
    request = json.loads(stream.readline())
    arguments = request["with"]
    if request["do"] == "receive":
        arguments["stream"] = stream
    serving = {act.__name__: act for act in SERVED}
    try:
        answer = {"answer": serving[request["do"]](**arguments)}
    except OSError as error:
        answer = {"error": str(error)}
    sys.stdout.write(json.dumps(answer) + "\n")
