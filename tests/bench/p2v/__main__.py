# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""python -m tests.bench.p2v run|page: measure, or make docs/benchmarks/p2v.md from what was measured."""

from __future__ import annotations

import argparse
import sys

from tests.bench.p2v import page, rounds
from tests.bench.p2v.contenders import CONTENDERS


def main() -> None:
    """run measures round after round and keeps each copy; page reads what is kept."""
    parser = argparse.ArgumentParser(prog="bench-p2v", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["run", "page"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=list(CONTENDERS), help="these contenders only")
    parser.add_argument("--add", action="store_true", help="to the rounds that are kept; else they are replaced")
    arguments = parser.parse_args()
    if arguments.what == "run":
        rounds.run(arguments.rounds, arguments.add, arguments.only)
    page.write()


if __name__ == "__main__":
    sys.exit(main())
