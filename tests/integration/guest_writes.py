# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run on a host with an image of a guest's memory: what tests/lab/guest/kvmguest.c writes to, page by page.

guest_writes.py IMAGE PAGES prints a JSON list: how often each page was written to, or null for one that is not there as it was
drawn.
"""

from __future__ import annotations

import array
import json
import sys
from typing import Dict, Iterator, List, Optional, Tuple

SEED, MASK = 88172645463325252, (1 << 64) - 1
PAGE, WORDS = 4096, 512


def drawn(pages: int) -> Iterator[array.array[int]]:
    """What the guest fills its memory with: xorshift64, word after word."""
    value = SEED
    for _page in range(pages):
        words = array.array("Q")
        for _word in range(WORDS):
            value ^= value << 13 & MASK
            value ^= value >> 7
            value ^= value << 17 & MASK
            words.append(value)
        yield words


def written(path: str, pages: int) -> List[Optional[int]]:
    """Of each page the first word counts, and all others stay."""
    known: Dict[bytes, Tuple[int, int]] = {
        words[1:].tobytes(): (page, words[0]) for page, words in enumerate(drawn(pages))
    }
    counts: List[Optional[int]] = [None] * pages
    with open(path, "rb") as memory:
        for block in iter(lambda: memory.read(PAGE), b""):
            page, first = known.get(block[8:], (-1, 0))
            if page >= 0:
                counts[page] = (int.from_bytes(block[:8], "little") - first) & MASK
    return counts


if __name__ == "__main__":
    print(json.dumps(written(sys.argv[1], int(sys.argv[2]))))
