# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Results of campaigns in .cache/faults/results.json, and docs/faults.md made from them."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from dataclasses import asdict, replace
from typing import Dict, List, Sequence

from ansible_collections.kvmops.fleet.tests.integration.fleet import ROOT

from .catalogue import ELSEWHERE, FAULTS, REFUSED, Fault
from .judge import Round

RESULTS = ROOT / ".cache" / "faults" / "results.json"
PAGE = ROOT / "docs" / "faults.md"

HEAD = """\
# What goes wrong with kvm_migrate, and what then

<!-- Made by `make faults` from the results of its rounds and tests/faults/catalogue.py. -->

`make faults` does each fault to a real move between two real hosts, judges, heals, and runs the same task again.
`ROUNDS=20` does more rounds, `ONLY=M1,cut-all` some of the faults, `SEED=` the same moments again. Results add up
in `.cache/faults/results.json` until `FRESH=1`.

## How it is judged

The judge uses nothing of the collection.

- **Moment**: each round draws a point of progress (the job exists, a share of the disk, a share of the memory, nearly all)
  from a seed, and waits for it. So it does not depend on how fast the machine is.
- **One owner**: both hosts are asked for the guest's state ten times a second, over the whole round. "Twice" means that one
  host said running before and after the other said it too. A daemon that is dead or frozen says nothing; that time is not
  safe, and nothing is known of it.
- **Disk**: the guest appends a numbered record every second and syncs it. After the second run it is ended, its file
  system is checked, 40 files are compared with their checksums, and the records must be there without a gap, at least as many
  as the guest had told over HTTP. Where the guest is off, the SHA-256 of the image must be the same.
- **Left**: domains, definitions, images and parts, UEFI variables, TPM state, notes, run records, locks, QEMU processes, listening
  ports 49152 to 49215, the firewall and files in /tmp, of both hosts, compared with the time before the guest was there.
  Ansible's own folder of a module that was killed (`ansible_*_payload_*`) is not counted.
- **Message**: patterns of each fault for cause, side and next step.
- **Again**: a run in check mode, after which the same things are there as before it; then one real run, which must succeed and
  leave the guest on the destination and nothing else. After a killed run, that second run begins at once.
- **Refused**: a run in check mode and a real one; definitions, states and hashes of all images stay the same.
- **Safe**: seconds from the fault until, for good, both hosts answered, neither had a paused half of the guest, and at most one
  ran it. For a fault that a move survives, that is until the end of the move. After a killed run it takes in the second one.
- **Silence**: the longest time after the fault for which one of the two hosts told nothing of the guest. Where its daemon is
  killed or frozen that is meant to be; else it is how closely the judge looked.
"""


def add(one: Round) -> None:
    rounds = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []
    said = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    rounds.append(asdict(replace(one, commit=said.stdout.strip())))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    whole = RESULTS.with_suffix(".new")
    whole.write_text(json.dumps(rounds, indent=1) + "\n", encoding="utf-8")
    whole.replace(RESULTS)


def known() -> List[Round]:
    if not RESULTS.exists():
        return []
    return [Round(**row) for row in json.loads(RESULTS.read_text(encoding="utf-8"))]


def forget() -> None:
    RESULTS.unlink(missing_ok=True)


def table(rounds: Sequence[Round]) -> str:
    """One row for each fault that had a round."""
    rows = [
        "| fault | what is done | passed | who had the guest | left before the second run | second run | disk "
        "| safe after (median, most) | longest silence of a host |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for fault in FAULTS:
        mine = [one for one in rounds if one.fault == fault.id]
        if mine:
            rows.append(_row(fault, mine))
    return "\n".join(rows) + "\n"


def _row(fault: Fault, mine: Sequence[Round]) -> str:
    times = sorted(one.safe_s for one in mine if one.safe_s is not None)
    safe = "%.1f s, %.1f s" % (times[len(times) // 2], times[-1]) if times and fault.kind != REFUSED else "-"
    silent = max((one.silence_s for one in mine if one.silence_s is not None), default=None)
    silence = "-" if silent is None else "%.1f s" % silent
    passed = "%d of %d" % (sum(not one.wrong for one in mine), len(mine))
    left = (
        _counted("nothing" if not one.left else "%d things" % len(one.left) for one in mine)
        if not fault.follows
        else "-"
    )
    disks = _counted("records whole" if one.disk.endswith("records") else one.disk or "not reached" for one in mine)
    cells = (
        fault.id,
        fault.done,
        passed,
        _counted(one.owner for one in mine),
        left,
        _counted(one.again for one in mine),
        disks,
        safe,
        silence,
    )
    return "| %s |" % " | ".join(cells)


def _counted(words) -> str:  # type: ignore[no-untyped-def]
    counts: Dict[str, int] = Counter(words)
    return ", ".join(
        "%s (%d)" % (word or "-", count) if len(counts) > 1 else word or "-" for word, count in counts.most_common()
    )


def page(rounds: Sequence[Round]) -> str:
    hosts = ", ".join(sorted({one.hosts.replace(",", " to ") for one in rounds}))
    parts = [HEAD, "\n## Results\n\n%d rounds, %s.\n\n" % (len(rounds), hosts or "none yet"), table(rounds)]
    missing = [fault.id for fault in FAULTS if not any(one.fault == fault.id for one in rounds)]
    if missing:
        parts.append("\nNo round yet: %s.\n" % ", ".join(missing))
    wrong = [
        "- %s (seed %d, %s, at %s): %s\n" % (one.fault, one.seed, one.moment, one.commit, "; ".join(one.wrong))
        for one in rounds
        if one.wrong
    ]
    if wrong:
        parts += ["\n## Rounds that did not pass\n\n", *wrong]
    parts.append("\n## What the user reads\n\nThe message of one round each.\n\n")
    for fault in FAULTS:
        said = [
            one.message for one in rounds if one.fault == fault.id and one.message and not one.message.startswith("(")
        ]
        parts += ["- **%s**: %s\n" % (fault.id, said[-1])] if said else []
    parts.append(
        "\n## Faults of the catalogue that are not in it\n\n| fault | where it is proven, or why it is not |\n|---|---|\n"
    )
    parts += ["| %s | %s |\n" % row for row in ELSEWHERE]
    return "".join(parts)


def write() -> None:
    PAGE.write_text(page(known()), encoding="utf-8")
