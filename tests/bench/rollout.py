# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a rollout costs: three bare hosts, the first run, then runs that find nothing to do.

python tests/bench/rollout.py [ROUNDS] [--write FILE]

The baseline of every ratio is the first run of the same round. Rounds begin with fresh bare hosts; medians are told.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import time
from pathlib import Path
from typing import Dict, List, Tuple

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "tests/lab/lab"
ANSIBLE_PLAYBOOK = ROOT / ".venv/bin/ansible-playbook"
NAME = "bench-rollout"
SHAPE = ("--hosts", "3", "--os", "bookworm,bookworm,trixie")
RUNS: Dict[str, Tuple[str, ...]] = {
    "check run on bare hosts": ("--check",),
    "first run": (),
    "second run": (),
    "check run, nothing to do": ("--check",),
}
GOAL_PERCENT = 15


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    parser.add_argument("--write", type=Path, help="also write the table to this file")
    arguments = parser.parse_args()
    rounds = [one_round() for _ in range(arguments.rounds)]
    text = table(rounds)
    print(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")


def one_round() -> Dict[str, Tuple[float, int, int]]:
    """Seconds, changed tasks and tasks that ran (of all hosts), for each kind of run."""
    lab("up", "--bare", *SHAPE)
    try:
        return {what: play(*words) for what, words in RUNS.items()}
    finally:
        lab("down")


def lab(command: str, *words: str) -> None:
    subprocess.run([str(LAB), command, "--name", NAME, *words], check=True, stdin=subprocess.DEVNULL)


def play(*words: str) -> Tuple[float, int, int]:
    environment = dict(os.environ, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), ANSIBLE_NOCOLOR="1")
    command = [str(ANSIBLE_PLAYBOOK), "-i", str(ROOT / ".lab" / NAME / "inventory.yml"), "kvmops.fleet.site", *words]
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - began
    if done.returncode != 0:
        raise SystemExit(done.stdout[-4000:] + done.stderr[-2000:])
    recap = done.stdout.rpartition("PLAY RECAP")[2]
    return seconds, total(recap, "changed"), total(recap, "ok")


def total(recap: str, word: str) -> int:
    return sum(int(number) for number in re.findall(word + r"=(\d+)", recap))


def table(rounds: List[Dict[str, Tuple[float, int, int]]]) -> str:
    """The medians, and each kind of run as a share of the first run of its round."""
    lines = [
        "# What a rollout costs",
        "",
        "`make bench-rollout`: three bare hosts (Debian 12, 12, 13), medians of %d rounds." % len(rounds),
        "",
        "| run of `kvmops.fleet.site` | seconds | share of the first run | changed tasks | tasks that ran |",
        "|---|---|---|---|---|",
    ]
    for what in RUNS:
        seconds = statistics.median(one[what][0] for one in rounds)
        share = statistics.median(one[what][0] / one["first run"][0] for one in rounds)
        changed, ran = rounds[-1][what][1:]
        lines.append("| %s | %.1f | %.1f %% | %d | %d |" % (what, seconds, 100 * share, changed, ran))
    lines += ["", "Goal: a second run changes nothing and takes at most %d %% of the first." % GOAL_PERCENT, ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
