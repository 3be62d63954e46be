# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on a host: makes an initramfs that holds more than the guest's own. Prints its path.

Arguments: the guest's initramfs, MiB of files of this Linux system, MiB of random bytes, the first program's text.
Standard input: the worker's program. What it makes is the same on every host of a release.
"""

from __future__ import annotations

import os
import random
import sys

FOLDER, LIBRARIES, PIECE = "/var/lib/kvmops-bench", "/usr/lib/x86_64-linux-gnu", 4 << 20


def libraries():
    """The bytes of the system's libraries, one file after another."""
    for folder, folders, names in os.walk(LIBRARIES):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    yield file.read()


def bytes_of(chunks, size):
    whole = bytearray()
    for chunk in chunks:
        whole += chunk
        if len(whole) >= size:
            return bytes(whole[:size])
    raise SystemExit("only %d of %d bytes" % (len(whole), size))


def entry(name, data, mode=0o100755):
    """One file of a cpio archive of the kind newc, as the kernel unpacks it."""
    numbers = [1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08x" % number for number in numbers) + name.encode() + b"\0"
    return padded(head) + padded(data)


def padded(data):
    return data + b"\0" * (-len(data) % 4)


def main():
    base, files_mib, random_mib = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    init, worker = sys.argv[4].encode(), sys.stdin.buffer.read()
    path = "%s/initrd-%d-%d.img" % (FOLDER, files_mib, random_mib)
    os.makedirs(FOLDER, exist_ok=True)
    data = bytes_of(libraries(), files_mib << 20) + random.Random(1).randbytes(random_mib << 20)
    with open(base, "rb") as own, open(path, "wb") as target:
        target.write(padded(own.read()))
        target.write(entry("init", init) + entry("bin/worker", worker))
        for at in range(0, len(data), PIECE):
            target.write(entry("filling-%d" % at, data[at : at + PIECE]))
        target.write(entry("TRAILER!!!", b""))
    print(path)


main()
