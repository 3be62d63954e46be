# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on the source: writes to a file, an fsync after each write, and tells how long each took.

Arguments: file, MiB of it, MiB/s (0: as fast as it can). Until standard input ends; then prints one line of JSON:
[moment of the beginning, seconds] of each write. Moments are time.monotonic(), which all hosts of the lab share.
A write that is late is not left out: the next ones begin at once, until the pace is met again.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time

PIECE = 16 << 10


def main():
    path, mib, rate = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    kept = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    noise, ended, told = random.Random(1), threading.Event(), []
    for dummy in range(mib):
        os.write(kept, noise.randbytes(1 << 20))
    os.fsync(kept)
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    print("reading", flush=True)
    every, data = PIECE / (rate * (1 << 20)) if rate else 0.0, noise.randbytes(PIECE)
    due = time.monotonic()
    while not ended.is_set():
        began = time.monotonic()
        os.pwrite(kept, data, noise.randrange((mib << 20) // PIECE) * PIECE)
        os.fsync(kept)
        told.append([round(began, 4), round(time.monotonic() - began, 5)])
        due += every
        time.sleep(max(0.0, due - time.monotonic()) if every else 0.0)
    print(json.dumps(told))


main()
