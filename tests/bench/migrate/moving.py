# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hosts of the measurement, the guest on them, and one move of it, watched from outside."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Dict, Iterator, List

from tests.bench.migrate.contenders import Contender
from tests.bench.migrate.scenarios import Scenario
from tests.integration import wire
from tests.integration.fleet import KERNEL, LAB, ROOT, Lab, answers, failures, guest, until

HOSTS = ("kvm1", "kvm2")
NAME, NUMBER = "bench", 101
ADDRESS = "10.77.0.%d" % NUMBER
# Looked at before a move begins, and after it has ended: what the guest does when left alone.
BEFORE_S, AFTER_S = 2.0, 1.0
TUNED_PASSES = 1.3
HERE = Path(__file__).parent
DRIVER, OBSERVER, FILLER = (
    (HERE / name).read_text(encoding="utf-8") for name in ("driver.py", "observer.py", "filler.py")
)


@contextlib.contextmanager
def lab_up() -> Iterator[Lab]:
    """Two hosts of the newer release. KVMOPS_LAB names a lab that is up already and stays up."""
    given = os.environ.get("KVMOPS_LAB")
    name = given or "bench-migrate"
    words = ["--name", name, "--hosts", "2", "--os", "trixie,trixie"]
    subprocess.run([str(LAB), "up", *words], check=True, stdin=subprocess.DEVNULL)
    try:
        yield Lab(name=name, inventory=ROOT / ".lab" / name / "inventory.yml")
    finally:
        if not given:
            subprocess.run([str(LAB), "down", "--name", name], check=True, stdin=subprocess.DEVNULL)


@contextlib.contextmanager
def guest_of(lab: Lab, scenario: Scenario) -> Iterator[None]:
    """The scenario's guest, up and answering on the scenario's link."""
    boot = dict(KERNEL)
    for host in HOSTS:
        boot["initrd"] = filled(lab, host, scenario)
    options = guest(NAME, NUMBER, memory_mib=scenario.memory_mib, cmdline=scenario.load)
    options["boot"] = dict(options["boot"], **boot)
    remove_guest(lab)
    lab.one(HOSTS[0], "kvm_domain", **options)
    try:
        until(lambda: answers(lab, NUMBER, NAME), 90, "the guest answers")
        for host in HOSTS:
            lab.lab("fault", "rate", host, scenario.link)
        yield
    finally:
        for host in HOSTS:
            lab.lab("fault", "rate", host, "none")
        remove_guest(lab)


def filled(lab: Lab, host: str, scenario: Scenario) -> str:
    """An initramfs on that host with the worker and what shall lie in memory; its path."""
    worker = ROOT / ".cache" / "bench-migrate" / "worker"
    worker.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-O2", "-static", "-s", "-o", str(worker), str(HERE / "worker.c")], check=True)
    init = (LAB.parent / "guest" / "init").read_text(encoding="utf-8")
    begins, found, ends = init.partition("exec /bin/kvmguest")
    assert found, "the guest's first program does not end as it did"
    init = "%s/bin/worker %s &\n%s%s" % (begins, scenario.pages_written, found, ends)
    words = ["python3", "-c", FILLER, KERNEL["initrd"], str(scenario.files_mib), str(scenario.random_mib), init]
    with worker.open("rb") as program:
        done = subprocess.run(
            [str(LAB), "exec", "--name", lab.name, host, "--", *words], stdin=program, capture_output=True, check=True
        )
    return done.stdout.decode().strip()


def remove_guest(lab: Lab) -> None:
    for host in HOSTS:
        lab.virsh(host, "destroy", NAME, check=False)
        lab.virsh(host, "undefine", NAME, check=False)


def first_pass_mib(lab: Lab, scenario: Scenario) -> float:
    """A first move, which does not count: what one pass over the guest's memory sends."""
    words = ["--live", "--p2p", "--persistent", "--undefinesource", "--timeout", "30", "--timeout-suspend"]
    order = {"virsh": words, "downtime_ms": 2000, "rule": None, "cut_s": 120}
    seen = _driven(lab, where(lab), order)
    assert not seen.get("error"), seen
    return round(float(seen["first_pass_mib"] or seen["stats"]["memory_processed"] / 2**20), 1)


def where(lab: Lab) -> str:
    (owner,) = lab.owners(NAME, HOSTS)
    return owner


def one_move(lab: Lab, contender: Contender, scenario: Scenario, pass_s: float) -> Dict[str, Any]:
    """One move from where the guest is to the other host: what was seen from the side, from outside, and told by ours."""
    source = where(lab)
    record: Dict[str, Any] = {"from": source, "load": [_load()]}
    with observing(lab) as seen_outside:
        time.sleep(BEFORE_S)
        record["alone_until"] = time.monotonic()
        order = {"downtime_ms": contender.downtime_ms, "rule": contender.rule, "cut_s": contender.passes * pass_s}
        if contender.virsh is not None:
            words = [word.format(pass_s=math.ceil(TUNED_PASSES * pass_s)) for word in contender.virsh]
            record.update(_driven(lab, source, dict(order, virsh=words)))
        else:
            record.update(_ours(lab, source, contender, scenario))
        time.sleep(AFTER_S)
    owner = where(lab)
    record.update(answers=seen_outside, moved=owner != source)
    record["load"].append(_load())
    assert answers(lab, NUMBER, NAME), "the guest is gone"
    return record


def _load() -> float:
    return os.getloadavg()[0]


def _watcher(lab: Lab, source: str, order: Dict[str, Any]) -> List[str]:
    (dest,) = [host for host in HOSTS if host != source]
    order = dict(order, name=NAME, dest="qemu+ssh://root@%s/system" % dest)
    return [str(LAB), "exec", "--name", lab.name, source, "--", "python3", "-c", DRIVER, json.dumps(order)]


def _driven(lab: Lab, source: str, order: Dict[str, Any]) -> Dict[str, Any]:
    done = subprocess.run(
        _watcher(lab, source, order), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=400
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout))


def _ours(lab: Lab, source: str, contender: Contender, scenario: Scenario) -> Dict[str, Any]:
    (dest,) = [host for host in HOSTS if host != source]
    options = dict({"link_mib_s": scenario.link_mib_s}, **contender.ours, name=NAME, host=dest)
    order = {"virsh": None, "downtime_ms": 0, "rule": None, "cut_s": 60}
    watcher = subprocess.Popen(
        _watcher(lab, source, order), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    assert watcher.stdout is not None
    try:
        assert watcher.stdout.readline().strip() == "looking"
        told = _play(lab, source, {key: value for key, value in options.items() if value is not None})
        seen = dict(json.loads(watcher.stdout.readline()))
    finally:
        watcher.wait(timeout=90)
    return dict(seen, **told)


def _play(lab: Lab, source: str, options: Dict[str, Any]) -> Dict[str, Any]:
    """The task as Ansible runs it, after one that does nothing: its time is Ansible's own."""
    book = lab.inventory.parent / "book-bench.json"
    tasks = [
        {"name": "nothing", "ansible.builtin.ping": {}},
        {"name": "nothing again", "ansible.builtin.ping": {}},
        {"name": "move", "kvmops.fleet.kvm_migrate": options, "ignore_errors": True},
    ]
    book.write_text(json.dumps([{"hosts": source, "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    told = lab.playbook(str(book), check=False)
    took, results = {}, {}
    for task in told["plays"][0]["tasks"]:
        took[task["task"]["name"]] = _seconds(task["task"]["duration"])
        results[task["task"]["name"]] = task["hosts"].get(source, {})
    result = results.get("move", {})
    assert result, failures(told)
    kept = ("metrics", "prediction", "choices", "acts", "ended_by", "transport", "policy", "msg", "schedule")
    return {
        "task_s": took["move"],
        "nothing_s": took["nothing again"],
        "error": result.get("msg") if result.get("failed") else None,
        "told": {key: result[key] for key in kept if key in result},
    }


def _seconds(duration: Dict[str, str]) -> float:
    start, end = (datetime.fromisoformat(duration[key].replace("Z", "+00:00")) for key in ("start", "end"))
    return (end - start).total_seconds()


def observing(lab: Lab) -> contextlib.AbstractContextManager[List[Any]]:
    """Inside the block a client elsewhere uses the guest. Afterwards: [moment, units of work] of each answer."""
    return wire.observing(lab, "ns", "--", "python3", "-c", OBSERVER, ADDRESS)
