# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/benchmarks/p2v.md: the goals, the notes, the copies, who took part."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional, Sequence

from tests.bench.p2v import figures, rounds
from tests.bench.p2v.contenders import CONTENDERS, DD, LINK_MIB_S
from tests.bench.p2v.figures import Figures, middle
from tests.bench.p2v.goals import verdicts

PAGE = rounds.KEPT.with_suffix(".md")
NOTES = Path(__file__).parent / "notes.md"
ENOUGH_ROUNDS = 5
INTRODUCTION = """# What an image of a machine costs

`make bench-p2v`: two hosts (Debian 13); the disk is a loop device of %d MiB with ext4, of which 25 %% were written and half of that deleted
again, so that free blocks are not zero. Half of the files are those of a Linux system, half random bytes. Everybody in turn, every second
round backwards; medians. The link is a `tc` token bucket of 200 Mbit/s, which leaves %.1f MiB/s. Each copy is a line of `p2v.jsonl`.

Both hosts and the controller share one machine with two cores, so only the ratios mean something. The time of `kvm_p2v_image` is that of
the Ansible task without Ansible's own for a task that does nothing; of the others, that of the command. Theirs are neither consistent nor
verified.
"""


def write() -> None:
    """What was not measured is said."""
    measured = Figures(rounds.kept())
    size = measured.copies[-1]["disk_mib"] if measured.copies else 0
    lines = [INTRODUCTION % (size, LINK_MIB_S), *_how_many(measured), "## Goals", ""]
    lines += ["| goal | measured | reached |", "|---|---|---|"]
    for verdict in verdicts(measured):
        word = {None: "-", True: "yes", False: "**no**"}[verdict.reached]
        lines.append("| %s | %s | %s |" % (verdict.goal, verdict.found, word))
    if NOTES.is_file():
        lines += ["", NOTES.read_text(encoding="utf-8").strip()]
    lines += ["", *_copies(measured), "", *_writer(measured), "", "## Who took part", "", *_contenders()]
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _how_many(measured: Figures) -> List[str]:
    few = "" if measured.rounds >= ENOUGH_ROUNDS else ", so a first look only"
    loads = [load for copy in measured.copies for load in copy["load"]]
    busy = " The machine's load was %.1f to %.1f." % (min(loads), max(loads)) if loads else ""
    return ["**%d round%s%s.**%s" % (measured.rounds, "" if measured.rounds == 1 else "s", few, busy), ""]


def _copies(measured: Figures) -> List[str]:
    lines = [
        "## The copies",
        "",
        "| | rounds | s | times as fast as `dd \\| ssh` | MiB over the link | inside the module s | pause s |",
    ]
    lines.append("|---|---|---|---|---|---|---|")
    for who, contender in CONTENDERS.items():
        if measured.of(who):
            cells = [
                contender.title,
                str(len(measured.of(who))),
                _one(measured.numbers(who, figures.seconds), "%.1f"),
                _one(measured.ratios(DD, who, figures.seconds), "%.1f"),
                _one(measured.numbers(who, figures.wire_mib), "%.0f"),
                _one(measured.numbers(who, figures.inside_s), "%.1f"),
                _one(measured.numbers(who, figures.pause_s), "%.2f"),
            ]
            lines.append("| %s |" % " | ".join(cells))
    return lines


def _writer(measured: Figures) -> List[str]:
    lines = ["## A writer on the source", "", "With the run, from its first second to its last, over without it:", ""]
    lines += ["| | MiB/s without | with | share | p99 of fsync without ms | with | ratio | longest with |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for who, contender in CONTENDERS.items():
        felt = [copy["writer"] for copy in measured.of(who) if "writer" in copy]
        if felt:
            cells = [contender.title]
            cells += [_one([each[side]["mib_s"] for each in felt], "%.2f") for side in ("without", "with")]
            cells.append(_one(measured.numbers(who, figures.pace_share), "%.2f"))
            cells += [_one([each[side]["p99_ms"] for each in felt], "%.1f") for side in ("without", "with")]
            cells.append(_one(measured.numbers(who, figures.slower), "%.2f"))
            cells.append(_one([each["with"]["max_ms"] for each in felt], "%.0f"))
            lines.append("| %s |" % " | ".join(cells))
    return lines


def _one(values: Sequence[Optional[float]], form: str) -> str:
    told = [value for value in values if value is not None]
    return form % middle(told) if told else "-"


def _contenders() -> List[str]:
    lines = ["| | how | why |", "|---|---|---|"]
    for contender in CONTENDERS.values():
        how = "`%s`" % contender.typed.replace("|", "\\|") if contender.typed else "`kvm_p2v_image`, defaults"
        lines.append("| %s | %s | %s |" % (contender.title, how, contender.why))
    return lines
