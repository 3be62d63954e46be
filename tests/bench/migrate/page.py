# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/benchmarks/migrate.md, made from what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import List, Sequence

from tests.bench.migrate import figures, picture
from tests.bench.migrate.contenders import CONTENDERS
from tests.bench.migrate.figures import Figures, middle
from tests.bench.migrate.goals import verdicts
from tests.integration.fleet import ROOT

FOLDER = ROOT / "docs" / "benchmarks"
PAGE = FOLDER / "migrate.md"
NOTES = Path(__file__).parent / "notes.md"
LEAST_LOST_S, ENOUGH_ROUNDS = 0.5, 5
INTRODUCTION = """# What a live move costs

`make bench-migrate`: two hosts (Debian 13), one guest of 256 MiB, moved to and fro; everybody in turn, every second round
backwards; medians, and the worst in brackets. The link is a `tc` token bucket of 200 Mbit/s, which leaves 22.8 MiB/s for
memory. *One pass* is the guest's memory that is not empty, divided by that. `kvm_migrate` is told `link_mib_s: 22.8`.

The hosts, the guest (emulated, without KVM) and the observer share one machine with two cores, so only the ratios mean
something. A program in the guest does a hundred small pieces of work a second and answers datagrams; a client outside sends
a hundred a second. *Stop* is the longest time without an answer. *Work lost* is what the program did not do, from the
beginning of the move to 0.8 s after its end, in seconds of what it did before. *Beside the move* is the time of the
command, or of the Ansible task without Ansible's own time for a task that does nothing, less the total time.
"""


def write() -> None:
    """The page and the pictures. What was not measured is said."""
    measured = figures.measured()
    lines = [
        INTRODUCTION,
        *_few_rounds(list(measured.values())),
        "## Goals",
        "",
        "| goal | measured | reached |",
        "|---|---|---|",
    ]
    for verdict in verdicts(measured):
        word = {None: "-", True: "yes", False: "**no**"}[verdict.reached]
        lines.append("| %s | %s | %s |" % (verdict.goal, verdict.found, word))
    if NOTES.is_file():
        lines += ["", NOTES.read_text(encoding="utf-8").strip()]
    for one in measured.values():
        lines += ["", *_scenario(one)]
    lines += ["", "## Who took part", "", *_contenders()]
    FOLDER.mkdir(parents=True, exist_ok=True)
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _few_rounds(measured: Sequence[Figures]) -> List[str]:
    few = ["%s (%d)" % (one.scenario.title.lower(), one.rounds) for one in measured if one.rounds < ENOUGH_ROUNDS]
    if not few:
        return []
    return ["**Fewer than %d rounds, so a first look only:** %s." % (ENOUGH_ROUNDS, "; ".join(few)), ""]


def _scenario(one: Figures) -> List[str]:
    loads = [load for move in one.moves for load in move["load"]]
    lines = [
        "## %s" % one.scenario.title,
        "",
        "%d rounds; one pass is %.0f MiB, %.1f s; the machine's load was %.1f to %.1f. Ratios: against %s, same round."
        % (one.rounds, one.pass_mib, one.pass_s, min(loads), max(loads), CONTENDERS[one.scenario.baseline].title),
        "",
        "| | arrived | total s | passes | ratio | stop ms | work lost s | ratio | beside the move s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(one, who) for who in one.scenario.contenders if one.of(who)]
    drawn = picture.write(one, FOLDER)
    if drawn:
        lines += ["", "![The guest's work while it moves](%s)" % drawn]
    return lines


def _row(one: Figures, who: str) -> str:
    moves = one.of(who)
    arrived = [move for move in moves if move["moved"]]
    total = one.numbers(who, figures.total_s if arrived else figures.spent_s)
    baseline = one.scenario.baseline
    cells = [
        CONTENDERS[who].title,
        "%d of %d" % (len(arrived), len(moves)),
        ("" if arrived else "given up after ") + _pair(total, "%.1f"),
        "%.2f" % (middle(total) / one.pass_s) if arrived else "-",
        _ratio(one.ratios(who, baseline, figures.total_s)),
        _pair(one.numbers(who, figures.pause_ms), "%.0f"),
        _pair(one.numbers(who, figures.lost_s), "%.1f"),
        _ratio(one.ratios(who, baseline, figures.lost_s) if _is_felt(one) else []),
        _pair(one.numbers(who, figures.over_s), "%.2f"),
    ]
    return "| %s |" % " | ".join(cells)


def _is_felt(one: Figures) -> bool:
    """The baseline lost enough for a ratio to mean something."""
    lost = one.numbers(one.scenario.baseline, figures.lost_s)
    return bool(lost) and middle(lost) >= LEAST_LOST_S


def _pair(values: Sequence[float], form: str) -> str:
    return "-" if not values else "%s (%s)" % (form % middle(values), form % max(values))


def _ratio(values: Sequence[float]) -> str:
    return "-" if not values else "%.2f" % middle(values)


def _contenders() -> List[str]:
    lines = ["| | how | why |", "|---|---|---|"]
    for contender in CONTENDERS.values():
        if contender.virsh is not None:
            how = "`virsh migrate %s GUEST URI`" % " ".join(contender.virsh)
        else:
            how = "`%s`" % ", ".join("%s: %s" % pair for pair in contender.ours.items())
        lines.append("| %s | %s | %s |" % (contender.title, how, contender.why))
    return lines
