# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hosts of the measurement, the disk, and one copy of it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Dict, Iterator, List

from tests.bench.p2v.contenders import LINK, Contender
from tests.integration import wire
from tests.integration.fleet import IMAGES, LAB, ROOT, Lab, failures

HOST, SOURCE = "kvm1", "kvm2"
NAME = "bench"
DISK_MIB, USED_PERCENT = int(os.environ.get("KVMOPS_BENCH_DISK_MIB", "2048")), 25
FOLDER = "/srv/p2v-bench-%d" % DISK_MIB
IMAGE, SOCKET, FORWARDED = IMAGES + "/bench-typed.img", "/run/bench-nbd", "/run/bench-nbd-here"
KEY, KNOWN, CONTROL = "/root/.ssh/bench", "/root/.ssh/bench-known", "/run/bench-control"
# The writer alone, before a run begins and after it has ended.
ALONE_S = 6.0
HERE = Path(__file__).parent
FILLER, WRITER = ((HERE / name).read_text(encoding="utf-8") for name in ("filler.py", "writer.py"))
TIMED = """
import json, subprocess, sys, time
def sent():
    with open("/proc/net/dev") as lines:
        return max(int(line.split(":")[1].split()[8]) for line in lines if ":" in line and not line.strip().startswith("lo:"))
before, began = sent(), time.monotonic()
subprocess.run(["bash", "-ec", "set -o pipefail; " + sys.argv[1]], check=True)
print(json.dumps({"seconds": time.monotonic() - began, "wire_mib": (sent() - before) / 2**20}))
"""


@contextlib.contextmanager
def lab_up() -> Iterator[Lab]:
    """Two hosts of the newer release. KVMOPS_LAB names a lab that is up already and stays up."""
    given = os.environ.get("KVMOPS_LAB")
    name = given or "bench-p2v"
    words = ["--name", name, "--hosts", "2", "--os", "trixie,trixie"]
    subprocess.run([str(LAB), "up", *words], check=True, stdin=subprocess.DEVNULL)
    try:
        yield Lab(name=name, inventory=ROOT / ".lab" / name / "inventory.yml")
    finally:
        if not given:
            subprocess.run([str(LAB), "down", "--name", name], check=True, stdin=subprocess.DEVNULL)


@contextlib.contextmanager
def disk_of(lab: Lab) -> Iterator[str]:
    """The kernel's name of the disk, filled, on the limited link. What the baselines need is there as well."""
    lab.lab("volume", SOURCE, FOLDER, "--mib", str(DISK_MIB))
    minor = lab.sh(SOURCE, "findmnt", "--noheadings", "--output", "MAJ:MIN", FOLDER).strip().partition(":")[2]
    name = "loop" + minor
    lab.sh(SOURCE, "sh", "-ec", "[ -e /dev/%s ] || mknod /dev/%s b 7 %s" % (name, name, minor))
    if not lab.sh(SOURCE, "sh", "-c", "ls %s | grep kept || true" % FOLDER):
        lab.sh(SOURCE, "python3", "-c", FILLER, "fill", FOLDER, str(DISK_MIB * USED_PERCENT // 100))
    _let_in(lab)
    for host in (HOST, SOURCE):
        lab.sh(host, "sh", "-ec", "command -v zstd || (apt-get -q update && apt-get -q -y install zstd)")
        lab.lab("fault", "rate", host, LINK)
    try:
        yield name
    finally:
        for host in (HOST, SOURCE):
            lab.lab("fault", "rate", host, "none")


def _let_in(lab: Lab) -> None:
    """The source logs in to the receiver as root, for what is typed."""
    lab.sh(SOURCE, "sh", "-ec", "[ -e %s ] || ssh-keygen -q -t ed25519 -N '' -f %s" % (KEY, KEY))
    public, host_key = (
        lab.sh(SOURCE, "cat", KEY + ".pub").strip(),
        lab.sh(HOST, "cat", "/etc/ssh/ssh_host_ed25519_key.pub"),
    )
    keys = "/root/.ssh/authorized_keys"
    lab.sh(HOST, "sh", "-ec", "grep -qF '%s' %s || echo '%s' >>%s" % (public, keys, public, keys))
    lab.sh(SOURCE, "sh", "-ec", "echo '%s %s' >%s" % (_address(lab), " ".join(host_key.split()[:2]), KNOWN))


def _address(lab: Lab) -> str:
    """Of the receiver."""
    words = [str(ROOT / ".venv/bin/ansible-inventory"), "-i", str(lab.inventory), "--host", HOST]
    return str(json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)["ansible_host"])


def one_copy(lab: Lab, contender: Contender, disk: str, number: int) -> Dict[str, Any]:
    """One copy: how long it took, what went over the link, and what the run and the writer told."""
    if not contender.kept:
        _forget(lab)
    told: Dict[str, Any] = {"load": [os.getloadavg()[0]]}
    if contender.changed_percent:
        lab.sh(SOURCE, "python3", "-c", FILLER, "change", FOLDER, str(contender.changed_percent), str(number))
    if contender.typed is not None:
        told.update(_typed(lab, contender, disk))
    elif contender.writer_mib_s is None:
        told.update(_ours(lab, contender, disk))
    else:
        words = [FOLDER + "/written", str(contender.writer_set_mib), str(contender.writer_mib_s)]
        with wire.observing(lab, "exec", SOURCE, "--", "python3", "-c", WRITER, *words) as writes:
            threading.Event().wait(ALONE_S)
            told["began"] = time.monotonic()
            told.update(_ours(lab, contender, disk))
            told["ended"] = time.monotonic()
            threading.Event().wait(ALONE_S)
        told["writes"] = writes
        lab.sh(SOURCE, "rm", FOLDER + "/written")
    told["load"].append(os.getloadavg()[0])
    return told


def _forget(lab: Lab) -> None:
    script = "rm -f %s/%s-* %s/.%s-*; virsh -q pool-refresh default; sync" % (IMAGES, NAME, IMAGES, NAME)
    lab.sh(HOST, "sh", "-c", script)


def _typed(lab: Lab, contender: Contender, disk: str) -> Dict[str, Any]:
    ssh = ["ssh", "-i", KEY, "-o", "UserKnownHostsFile=" + KNOWN, "-o", "BatchMode=yes", "root@" + _address(lab)]
    script = str(contender.typed).format(disk="/dev/" + disk, ssh=" ".join(ssh), image=IMAGE, socket=FORWARDED)
    with _server(lab, ssh) if contender.nbd else contextlib.nullcontext():
        told = json.loads(lab.sh(SOURCE, "python3", "-c", TIMED, script))
    lab.sh(HOST, "rm", "-f", IMAGE)
    return {key: round(value, 2) for key, value in told.items()}


@contextlib.contextmanager
def _server(lab: Lab, ssh: List[str]) -> Iterator[None]:
    """An NBD server on the receiver, and the way to it; neither counts as time of the copy."""
    script = (
        "rm -f {socket}; qemu-img create -q -f qcow2 {image} {mib}M;"
        " qemu-nbd -f qcow2 -k {socket} -e 4 --fork --pid-file={socket}.pid {image}"
    )
    lab.sh(HOST, "sh", "-ec", script.format(socket=SOCKET, image=IMAGE, mib=DISK_MIB))
    way = [
        *ssh[:-1],
        "-fNM",
        "-S",
        CONTROL,
        "-o",
        "ExitOnForwardFailure=yes",
        "-L",
        "%s:%s" % (FORWARDED, SOCKET),
        ssh[-1],
    ]
    # In the background with its output elsewhere: else the command that started it would not end.
    lab.sh(SOURCE, "sh", "-ec", "rm -f %s; %s >/dev/null 2>&1 </dev/null" % (FORWARDED, " ".join(way)))
    try:
        yield
    finally:
        lab.sh(SOURCE, *ssh[:-1], "-S", CONTROL, "-O", "exit", ssh[-1], check=False)
        lab.sh(HOST, "sh", "-c", "kill $(cat %s.pid); rm -f %s %s.pid" % (SOCKET, SOCKET, SOCKET), check=False)


def _ours(lab: Lab, contender: Contender, disk: str) -> Dict[str, Any]:
    """The task as Ansible runs it, after one that does nothing: its time is Ansible's own."""
    book = lab.inventory.parent / "book-bench-p2v.json"
    options = dict({"name": NAME, "source": SOURCE, "disks": [disk]}, **contender.ours)
    tasks = [
        {"name": "nothing", "ansible.builtin.ping": {}},
        {"name": "nothing again", "ansible.builtin.ping": {}},
        {"name": "image", "kvmops.fleet.kvm_p2v_image": options, "ignore_errors": True},
    ]
    book.write_text(json.dumps([{"hosts": HOST, "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    told = lab.playbook(str(book), check=False)
    took, results = {}, {}
    for task in told["plays"][0]["tasks"]:
        took[task["task"]["name"]] = _seconds(task["task"]["duration"])
        results[task["task"]["name"]] = task["hosts"].get(HOST, {})
    result = results.get("image", {})
    assert result and not result.get("failed"), failures(told)
    return {
        "seconds": round(took["image"] - took["nothing again"], 2),
        "nothing_s": round(took["nothing again"], 2),
        "wire_mib": round(result["metrics"]["wire_bytes"] / 2**20, 2),
        "told": {key: result[key] for key in ("metrics", "passes", "pause_s", "prediction")},
    }


def _seconds(duration: Dict[str, str]) -> float:
    start, end = (datetime.fromisoformat(duration[key].replace("Z", "+00:00")) for key in ("start", "end"))
    return (end - start).total_seconds()
