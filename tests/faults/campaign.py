# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fault campaign of kvm_migrate: make faults.

Each round draws a moment of the move from a seed that is printed, does the fault, judges, heals, and runs the task again.
Results are added to .cache/faults/results.json, and docs/faults.md is made from all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from typing import Iterator, List, Tuple

from ansible_collections.kvmops.fleet.tests.integration.disks import sha256
from ansible_collections.kvmops.fleet.tests.integration.fleet import IMAGES, LAB, ROOT, Lab, Task, until

from . import page
from .catalogue import HERE, OFFLINE, REFUSED, THERE, Fault, chosen
from .inject import INJECTIONS, start_controller
from .judge import (
    Round,
    everything,
    is_over,
    judge_disk,
    judge_looks,
    judge_message,
    judge_owner,
    judge_times,
    judge_told,
)
from .refusals import OBSTACLES
from .scene import BUSY, FRAIL, SLOW_LINK, SLOW_MIB_S, SMALL, WEB, Scene, draw

SETTLES_S = 90


def one_round(lab: Lab, fault: Fault, seed: int, hosts: str) -> Round:
    """Never raises for what the product did; for a lab that does not work it does."""
    began = time.monotonic()
    one = Round(fault.id, seed, hosts)
    args = {} if fault.kind in (OFFLINE, REFUSED) else {"bandwidth_mib_s": SLOW_MIB_S}
    args = {key: value for key, value in {**args, **fault.args}.items() if value is not None}
    home, folder = folders_of(fault)
    if (home, folder) != (IMAGES, IMAGES):
        args["pool_map"] = {pool_of(home): pool_of(folder)}
    scene = Scene(lab, random.Random("%s %d" % (fault.id, seed)), args, running=fault.kind not in (OFFLINE, REFUSED))
    try:
        scene.set_up(BUSY if fault.cmdline is None else fault.cmdline, folder, home, fault.cache)
        if fault.kind == REFUSED:
            _refused(one, fault, scene)
        else:
            _faulted(one, fault, scene)
    except AssertionError as error:
        one.wrong.append(str(error)[-500:])
    finally:
        scene.close()
    judge_looks(one, scene)
    one.took_s = round(time.monotonic() - began, 1)
    return one


def folders_of(fault: Fault) -> Tuple[str, str]:
    """Where the disk is on the source, and where it comes to."""
    if fault.frail == HERE:
        return FRAIL, IMAGES
    return IMAGES, FRAIL if fault.frail else SMALL if fault.small else IMAGES


def pool_of(folder: str) -> str:
    return "default" if folder == IMAGES else folder.rsplit("/", 1)[-1]


def _faulted(one: Round, fault: Fault, scene: Scene) -> None:
    if fault.link or fault.kind == OFFLINE:
        scene.lab.lab("fault", "rate", HERE, fault.link or SLOW_LINK)
    moment = draw(scene.chance, fault.phases)
    one.moment = moment.text
    if scene.running:
        scene.page()
    (start_controller if fault.inject == "kill_controller" else Scene.begin)(scene)
    one.insist(scene.wait_for(moment), "the moment did not come")
    scene.faulted_at = time.time()
    with INJECTIONS[fault.inject](scene):
        pass
    one.insist(scene.ends_within(240) or fault.inject == "kill_controller", "the task did not end")
    one.insist(scene.results or fault.inject == "kill_controller", "the task gave no result")
    if scene.results:
        judge_message(one, fault, scene.results[0])
        judge_told(one, fault, scene.results[0])
    if fault.told:
        until(scene.page, 60, "the guest answers after the move")
    if not fault.follows:
        until(
            lambda: is_over(scene),
            SETTLES_S,
            "one host has the guest, and no half of a move is left: %s" % (scene.watch.states(),),
        )
        judge_times(one, scene)
        owner = judge_owner(one, fault, scene)
        one.left = scene.left(owner, fault.off)
        one.insist(not fault.clean or not one.left, "left behind: %s" % one.left)
    scene.lab.lab("fault", "heal")
    _again(one, fault, scene)


def _again(one: Round, fault: Fault, scene: Scene) -> None:
    """A run in check mode, which changes nothing, and the real one, which reaches the goal."""
    if not fault.follows:
        before = scene.left(None)
        scene.run(check=True)
        after = scene.left(None)
        one.insist(before == after, "check mode changed %s" % sorted(set(before) ^ set(after)))
    result = scene.run()
    one.again = "failed" if result.get("failed") else "moved" if result.get("changed") else "nothing to do"
    one.insist(not result.get("failed"), "the second run: %s" % " ".join(str(result.get("msg", result)).split())[:600])
    if fault.follows:
        judge_times(one, scene)
        judge_owner(one, replace(fault, owner=THERE), scene)
    left = scene.left(THERE, fault.off)
    one.insist(not left, "left after the second run: %s" % left)
    if not left:
        judge_disk(one, fault, scene)


def _refused(one: Round, fault: Fault, scene: Scene) -> None:
    """One check and one real run are refused and change nothing; without the obstacle the same task moves the guest."""
    with OBSTACLES[fault.inject](scene):
        before = everything(scene)
        told = scene.lab.play(HERE, [Task("kvm_migrate", scene.args, check, may_fail=True) for check in (True, False)])
        one.insist(everything(scene) == before, "something was changed")
        refusals = told[fault.late :]
        one.insist(len(told) == 2 and all(result.get("failed") for result in refusals), "it was not refused")
        for result in refusals:
            ids = [concern["id"] for concern in result.get("concerns", ())]
            one.insist(set(fault.ids) <= set(ids), "refused with %s: %s" % (ids, result.get("msg")))
        judge_message(one, replace(fault, fails=True), told[-1])
        one.owner, one.moment = "untouched", "before it began"
    copied = sha256(scene.lab, HERE, WEB)
    result = scene.run()
    one.again = "failed" if result.get("failed") else "moved"
    one.insist(not result.get("failed"), "the second run: %s" % " ".join(str(result.get("msg")).split())[:600])
    if not result.get("failed"):
        one.disk = "identical" if sha256(scene.lab, THERE, WEB) == copied else "DIFFERENT"
        one.insist(one.disk == "identical", "the disk is another")
        left = scene.left(THERE)
        one.insist(not left, "left after the second run: %s" % left)


@contextlib.contextmanager
def lab_of(releases: str) -> Iterator[Lab]:
    """KVMOPS_LAB names one that is up already and stays up."""
    given = os.environ.get("KVMOPS_LAB")
    name = given or "faults"
    subprocess.run(
        [str(LAB), "up", "--name", name, "--hosts", "2", "--os", releases], check=True, stdin=subprocess.DEVNULL
    )
    try:
        yield Lab(name=name, inventory=ROOT / ".lab" / name / "inventory.yml")
    finally:
        if not given:
            subprocess.run([str(LAB), "down", "--name", name], check=True, stdin=subprocess.DEVNULL)


def line_of(one: Round) -> str:
    """What is shown of a round while the campaign runs."""
    safe = "-" if one.safe_s is None else "%.1f s" % one.safe_s
    head = "%-4s seed %-6d %-14s %-22s %-14s again: %-14s safe after %s (%.0f s)" % (
        (one.fault, one.seed, one.moment, one.owner, one.disk, one.again, safe, one.took_s)
    )
    return "\n       ".join(["%s %s" % ("ok   " if not one.wrong else "WRONG", head), *one.wrong])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="ids (M1), names (cut-all) or kinds (live, offline, refused, worst)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--os", default="trixie,bookworm", dest="releases")
    parser.add_argument("--seconds", type=int, help="begin no more rounds after that time")
    parser.add_argument("--fresh", action="store_true", help="forget the results of earlier campaigns")
    parser.add_argument("--page-only", action="store_true", help="docs/faults.md from the results that are there")
    words = parser.parse_args()
    if words.fresh:
        page.forget()
    faults: List[Fault] = list(chosen([name for name in words.only.replace(",", " ").split() if name]))
    failed = 0 if words.page_only else _rounds(words, faults)
    page.write()
    print(page.table(page.known()))
    return 1 if failed else 0


def _rounds(words: argparse.Namespace, faults: List[Fault]) -> int:
    began, failed = time.monotonic(), 0
    with lab_of(words.releases) as lab:
        for number in range(words.rounds):
            for fault in faults:
                if words.seconds and time.monotonic() - began > words.seconds:
                    print("no more rounds: --seconds %d have passed" % words.seconds, flush=True)
                    return failed
                one = one_round(lab, fault, words.seed + number, words.releases)
                page.add(one)
                failed += bool(one.wrong)
                print(line_of(one), flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
