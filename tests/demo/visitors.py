#!/usr/bin/env python3
# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the web pages of guests, now more and now less, so that they have something to do: visitors.py SECONDS ADDRESS …"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
import urllib.request

# Requests per second at their peak, and the seconds from one peak to the next, for the first guest, the second …
HABITS = [(60, 20), (20, 9), (40, 31), (10, 6)]


def visit(address: str, peak: float, period_s: float, seconds: float) -> None:
    """One after another, as a sine of the time asks for."""
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://{address}/", timeout=2).read()
        time.sleep(1 / (1 + peak * (1 + math.sin(2 * math.pi * passed / period_s)) / 2))


def main() -> None:
    """One thread per guest."""
    seconds = float(sys.argv[1])
    for address, habit in zip(sys.argv[2:], HABITS, strict=False):
        threading.Thread(target=visit, args=(address, *habit, seconds)).start()


if __name__ == "__main__":
    main()
