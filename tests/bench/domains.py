# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a hundred domains cost: one task for all, beside a loop of community.libvirt.virt and beside virsh.

python -m tests.bench.domains [ROUNDS] [--domains 100] [--sample 100] [--off] [--add] [--lab NAME] [--write FILE]

Each ratio is of two contenders in the same round; who comes first alternates; medians are told. Times of tasks are
Ansible's own, without its start; those of virsh are of one shell on the host. A loop costs the same for each of its
items, so it may be measured on some of the domains and counted for all (--sample). Where a hundred guests are too many,
they stay off (--off), and none is made and started for the numbers.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import subprocess
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence

from tests.integration.fleet import LAB, ROOT, Lab

NAME = "bench-domains"
NUMBERS = ROOT / "docs" / "benchmarks" / "domains.jsonl"
HOST = "kvm1"
Times = Dict[str, float]
XML = """<domain type='qemu'><name>%s</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><devices><controller type='usb' model='none'/>
<memballoon model='none'/></devices></domain>"""


class Goal(NamedTuple):
    """baseline over contender is at least `times`."""

    words: str
    contender: str
    baseline: str
    times: float


GOALS = (
    Goal("unchanged: one task against a loop of `community.libvirt.virt`", "one task", "loop", 50),
    Goal("read: `kvm_domain_info` against a loop of `virsh dominfo`", "info", "dominfo loop", 20),
    Goal("read: `kvm_domain_info` against `virsh dominfo` for each, in one shell", "info", "dominfo", 20),
    Goal("made and started: one task against `virsh define` and `start`", "created", "virsh created", 1 / 1.3),
)
FLOOR = "ping"


def main() -> None:
    """Run the rounds and print the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    parser.add_argument("--domains", type=int, default=100)
    parser.add_argument("--sample", type=int, default=100, help="how many of them a loop goes over")
    parser.add_argument("--off", action="store_true", help="the guests are defined and not started")
    parser.add_argument("--add", action="store_true", help="to the rounds of earlier runs")
    parser.add_argument("--lab", help="a lab that is up already, and stays up")
    parser.add_argument("--write", type=Path, help="also write the page to this file")
    arguments = parser.parse_args()
    names = ["d%03d" % number for number in range(arguments.domains)]
    earlier = NUMBERS.read_text(encoding="utf-8").splitlines() if arguments.add and NUMBERS.exists() else []
    rounds = [json.loads(line) for line in earlier]
    name = arguments.lab or NAME
    if not arguments.lab:
        subprocess.run([str(LAB), "up", "--name", NAME, "--hosts", "1"], check=True, stdin=subprocess.DEVNULL)
    try:
        lab = Lab(name, ROOT / ".lab" / name / "inventory.yml")
        for number in range(len(rounds), len(rounds) + arguments.rounds):
            rounds.append(
                one_round(lab, names, names[: arguments.sample], "present" if arguments.off else "paused", number)
            )
    finally:
        if not arguments.lab:
            subprocess.run([str(LAB), "down", "--name", NAME], check=True, stdin=subprocess.DEVNULL)
    NUMBERS.write_text("".join(json.dumps(one) + "\n" for one in rounds), encoding="utf-8")
    text = page(rounds, len(names), arguments.sample)
    print(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")


def one_round(lab: Lab, names: Sequence[str], some: Sequence[str], state: str, number: int) -> Times:
    """Seconds of each contender. some: those that a loop goes over."""
    times: Times = {}
    share = len(names) / len(some)
    start = (("created", lambda: created(lab, names)), ("virsh created", lambda: virsh_created(lab, names)))
    pairs: Sequence[Any] = (
        ((FLOOR, lambda: play(lab, [{"ansible.builtin.ping": {}}])),),
        (("one task", lambda: one_task(lab, names, state)), ("loop", lambda: share * loop(lab, some, state))),
        (
            ("info", lambda: info(lab, names)),
            ("dominfo", lambda: dominfo(lab, names)),
            ("dominfo loop", lambda: share * dominfo_loop(lab, some)),
        ),
    )
    for pair in pairs if state == "present" else (start, *pairs):
        alternating: Sequence[Any] = pair if number % 2 == 0 else pair[::-1]
        for who, run in alternating:
            times[who] = run()
            print(json.dumps({"round": number, "who": who, "seconds": round(times[who], 3)}), flush=True)
    wipe(lab)
    return times


def created(lab: Lab, names: Sequence[str]) -> float:
    wipe(lab)
    return task(lab, wanted(names, state="paused"), expect_change=True)


def virsh_created(lab: Lab, names: Sequence[str]) -> float:
    wipe(lab)
    files = "".join("cat >/tmp/%s.xml <<'E'\n%s\nE\n" % (name, XML % name) for name in names)
    lab.sh(HOST, "sh", "-c", files)
    loop_ = "for d in %s; do virsh -q define /tmp/$d.xml; virsh -q start --paused $d; done" % " ".join(names)
    return shell(lab, loop_)


def one_task(lab: Lab, names: Sequence[str], state: str) -> float:
    task(lab, wanted(names, state=state))
    return task(lab, wanted(names, state=state), expect_change=False)


def loop(lab: Lab, names: Sequence[str], state: str) -> float:
    """As its users write it: the definition, then the state."""
    defined = {
        "community.libvirt.virt": {"command": "define", "xml": "{{ item.xml }}"},
        "loop": [{"name": name, "xml": XML % name} for name in names],
    }
    state = "shutdown" if state == "present" else state
    paused = {"community.libvirt.virt": {"name": "{{ item }}", "state": state}, "loop": list(names)}
    quiet = {"loop_control": {"label": ""}}
    return play(lab, [dict(defined, **quiet), dict(paused, **quiet)])


def info(lab: Lab, names: Sequence[str]) -> float:
    return play(lab, [{"kvmops.fleet.kvm_domain_info": {"names": list(names)}}])


def dominfo(lab: Lab, names: Sequence[str]) -> float:
    return shell(lab, "for d in %s; do virsh -q dominfo $d >/dev/null; done" % " ".join(names))


def dominfo_loop(lab: Lab, names: Sequence[str]) -> float:
    asked = {"ansible.builtin.command": {"argv": ["virsh", "dominfo", "{{ item }}"]}, "loop": list(names)}
    return play(lab, [asked])


def wanted(names: Sequence[str], **shared: Any) -> Dict[str, Any]:
    plain = {"memory_mib": 32, "vcpus": 1, "machine": "pc-q35-7.2", "domain_type": "qemu", "disks": []}
    return {"kvmops.fleet.kvm_domain": dict(plain, domains=[{"name": name} for name in names], **shared)}


def task(lab: Lab, what: Dict[str, Any], expect_change: Any = None) -> float:
    return play(lab, [what], expect_change)


def play(lab: Lab, tasks: List[Dict[str, Any]], expect_change: Any = None) -> float:
    """Seconds of the tasks, from the begin of the first to the end of the last."""
    book = lab.inventory.parent / "bench.json"
    book.write_text(json.dumps([{"hosts": HOST, "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    done = lab.playbook(str(book))["plays"][0]["tasks"]
    changed = any(one["hosts"][HOST]["changed"] for one in done)
    if expect_change is not None and changed != expect_change:
        raise SystemExit("changed is %s: %s" % (changed, json.dumps(done)[:2000]))
    times = [one["task"]["duration"] for one in done]
    return (moment(times[-1]["end"]) - moment(times[0]["start"])).total_seconds()


def moment(said: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(said.replace("Z", "+00:00"))


def shell(lab: Lab, script: str) -> float:
    """Seconds by the host's own clock, without the way to it."""
    timed = "set -e; a=$(date +%s.%N); " + script + "; echo; echo $a $(date +%s.%N)"
    begin, end = lab.sh(HOST, "sh", "-c", timed).split()[-2:]
    return float(end) - float(begin)


def wipe(lab: Lab) -> None:
    script = "for d in $(virsh -q list --name); do virsh -q destroy $d; done; for d in $(virsh -q list --all --name); do virsh -q undefine $d; done"
    lab.sh(HOST, "sh", "-c", script)


def page(rounds: List[Times], domains: int, sample: int) -> str:
    """The medians, and what became of each goal."""
    lines = [
        "# What %d domains cost" % domains,
        "",
        "`make bench-domains`: one host (Debian 12), %d guests that stand still, medians of %d rounds, who comes first alternates."
        % (domains, len(rounds)),
        "",
        "| | seconds | against | seconds | times as fast | goal | reached |",
        "|---|---|---|---|---|---|---|",
    ]
    for goal in GOALS if "created" in rounds[0] else GOALS[:-1]:
        mine, other = ([one[who] for one in rounds] for who in (goal.contender, goal.baseline))
        ratio = statistics.median(theirs / ours for ours, theirs in zip(mine, other, strict=True))
        reached = "yes" if ratio >= goal.times else "**no**"
        seconds = [statistics.median(times) for times in (mine, other)]
        row = (goal.words, seconds[0], goal.baseline, seconds[1], ratio, goal.times, reached)
        lines.append("| %s | %.2f | %s | %.2f | %.1f | %.2f | %s |" % row)
    floor = statistics.median(one[FLOOR] for one in rounds)
    lines += ["", "`ansible.builtin.ping` takes %.2f s: what any task costs before it does anything." % floor]
    if "created" not in rounds[0]:
        lines += ["", "The guests were off, and none was made and started for the numbers."]
    if sample < domains:
        lines += ["", "The loops went over %d of the domains; their seconds are counted for all." % sample]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
