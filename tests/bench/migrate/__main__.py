# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""python -m tests.bench.migrate run|page: measure, or make docs/benchmarks/migrate.md from what was measured."""

from __future__ import annotations

import argparse
import sys

from tests.bench.migrate import page, rounds
from tests.bench.migrate.scenarios import SCENARIOS


def main() -> None:
    """run measures one scenario after another and keeps each; page reads what is kept."""
    parser = argparse.ArgumentParser(prog="bench-migrate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["run", "page"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=list(SCENARIOS), help="these scenarios")
    parser.add_argument("--contenders", nargs="*", help="these contenders only")
    parser.add_argument("--add", action="store_true", help="to the rounds that are kept; else they are replaced")
    arguments = parser.parse_args()
    if arguments.what == "run":
        rounds.run(arguments.only or list(SCENARIOS), arguments.rounds, arguments.add, arguments.contenders)
    page.write()


if __name__ == "__main__":
    sys.exit(main())
