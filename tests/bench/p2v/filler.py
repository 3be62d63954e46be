# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on the source: fills a filesystem with files, of which half are deleted again, or changes some of what is left.

fill FOLDER MIB: files of 8 MiB; half hold files of this Linux system, half random bytes; every second one is removed.
change FOLDER PERCENT SEED: that much of the bytes that are left, in pieces of 64 KiB, are overwritten at random places.
Prints the MiB that the files hold. The same on every host of a release.
"""

from __future__ import annotations

import os
import random
import sys

PIECE, STEP, LIBRARIES = 8 << 20, 64 << 10, "/usr/lib/x86_64-linux-gnu"


def libraries():
    """The bytes of the system's libraries, one file after another, again from the beginning at their end."""
    while True:
        for folder, folders, names in os.walk(LIBRARIES):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                if not os.path.islink(path):
                    with open(path, "rb") as file:
                        while True:
                            data = file.read(STEP)
                            if not data:
                                break
                            yield data


def pieces():
    """PIECE bytes of libraries each."""
    held = b""
    for data in libraries():
        held += data
        while len(held) >= PIECE:
            yield held[:PIECE]
            held = held[PIECE:]


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)
        os.fsync(file.fileno())


def fill(folder, mib):
    text, noise = pieces(), random.Random(2014)
    for number in range(int(mib) * (1 << 20) // PIECE):
        data = next(text) if number // 2 % 2 else noise.randbytes(PIECE)
        write("%s/%s-%03d" % (folder, "gone" if number % 2 else "kept", number), data)
    os.sync()
    for name in os.listdir(folder):
        if name.startswith("gone"):
            os.remove("%s/%s" % (folder, name))
    os.sync()


def kept(folder):
    return sorted("%s/%s" % (folder, name) for name in os.listdir(folder) if name.startswith("kept"))


def change(folder, percent, seed):
    noise, files = random.Random(int(seed)), kept(folder)
    places = [(path, offset) for path in files for offset in range(0, PIECE, STEP)]
    for path, offset in noise.sample(places, round(len(places) * float(percent) / 100)):
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(noise.randbytes(STEP))
            os.fsync(file.fileno())
    os.sync()


{"fill": fill, "change": change}[sys.argv[1]](*sys.argv[2:])
print(len(kept(sys.argv[2])) * PIECE >> 20)
