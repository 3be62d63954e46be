# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real hosts for tests: run modules and playbooks as a user does, look at the hosts as an outsider does."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "tests" / "lab" / "lab"
ANSIBLE_PLAYBOOK = ROOT / ".venv" / "bin" / "ansible-playbook"
KERNEL = {"kernel": "/srv/lab/guest/vmlinuz", "initrd": "/srv/lab/guest/initrd.img"}
MACHINE = "pc-q35-7.2"
IMAGES = "/var/lib/libvirt/images"


@dataclass(frozen=True)
class Task:
    """One module call. check: in check mode. may_fail: a failure is a result, not an error of the play."""

    module: str
    args: Mapping[str, Any]
    check: bool = False
    may_fail: bool = False


@dataclass(frozen=True)
class Lab:
    """A lab that is up. inventory: what ansible-playbook takes with -i."""

    name: str
    inventory: Path

    def lab(self, *argv: str, check: bool = True, timeout_s: int = 600) -> str:
        """One command of tests/lab/lab; its output."""
        words = 2 if argv[0] in ("fault", "machine") else 1
        done = subprocess.run(
            [str(LAB), *argv[:words], "--name", self.name, *argv[words:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError("lab %s: %s%s" % (" ".join(argv), done.stdout, done.stderr))
        return done.stdout

    def sh(self, host: str, *argv: str, check: bool = True) -> str:
        """A command on a host; its output."""
        return self.lab("exec", host, "--", *argv, check=check)

    def virsh(self, host: str, *argv: str, check: bool = True) -> str:
        return self.sh(host, "virsh", "-q", *argv, check=check).strip()

    def state(self, host: str, domain: str) -> Optional[str]:
        """`running`, `paused`, `shut off` … as virsh says; None when the host does not know the domain."""
        said = self.virsh(host, "domstate", domain, check=False)
        return said or None

    def owners(self, domain: str, hosts: Sequence[str]) -> List[str]:
        """The hosts on which the domain is active."""
        return [host for host in hosts if self.state(host, domain) in ("running", "paused", "in shutdown")]

    def play(
        self, host: str, tasks: Sequence[Task], extra_args: Sequence[str] = (), timeout_s: int = 900
    ) -> List[Dict[str, Any]]:
        """Run the tasks on the host in one play; the result of each."""
        book = self._book(host, tasks)
        told = self.playbook(
            str(book), *extra_args, check=not any(task.may_fail for task in tasks), timeout_s=timeout_s
        )
        return [
            results["hosts"][host]
            for play in told["plays"]
            for results in play["tasks"]
            if host in results["hosts"] and results["task"]["name"].startswith("step ")
        ]

    def start(self, host: str, tasks: Sequence[Task]) -> subprocess.Popen[bytes]:
        """The same play in the background, in a process group of its own, its output thrown away."""
        words = [str(ANSIBLE_PLAYBOOK), "-i", str(self.inventory), str(self._book(host, tasks))]
        environment = dict(os.environ, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), ANSIBLE_SSH_ARGS="-o ControlMaster=no")
        return subprocess.Popen(
            words,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def one(self, on: str, module: str, check: bool = False, may_fail: bool = False, **args: Any) -> Dict[str, Any]:
        """One module call; its result."""
        return self.play(on, [Task(module, args, check, may_fail)])[0]

    def quartet(self, on: str, module: str, **args: Any) -> List[Dict[str, Any]]:
        """check, real, again, again in check: the four results."""
        return self.play(on, [Task(module, args, check) for check in (True, False, False, True)], ["--diff"])

    def playbook(self, book: str, *argv: str, check: bool = True, timeout_s: int = 900) -> Dict[str, Any]:
        """Run a playbook (a path or an FQCN); what Ansible's JSON callback tells of it."""
        done = subprocess.run(
            [str(ANSIBLE_PLAYBOOK), "-i", str(self.inventory), book, *argv],
            cwd=ROOT,
            env=dict(
                os.environ,
                ANSIBLE_STDOUT_CALLBACK="ansible.posix.json",
                ANSIBLE_SHOW_CUSTOM_STATS="1",
                ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"),
            ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        start = done.stdout.find("{\n")
        told: Dict[str, Any] = json.JSONDecoder().raw_decode(done.stdout[start:])[0] if start >= 0 else {}
        if not told or (check and done.returncode != 0):
            said = "\n".join(failures(told)) or done.stdout[-6000:]
            raise AssertionError("ansible-playbook %s: %s\n%s" % (book, said, done.stderr[-3000:]))
        return dict(told, rc=done.returncode)

    def _book(self, host: str, tasks: Sequence[Task]) -> Path:
        plain = [
            {
                "name": "step %d" % number,
                "kvmops.fleet.%s" % task.module: dict(task.args),
                "check_mode": task.check,
                "ignore_errors": task.may_fail,
            }
            for number, task in enumerate(tasks)
        ]
        book = self.inventory.parent / ("book-%s.json" % os.getpid())
        # Two plays may be begun at the same time; none may read half a book.
        whole = book.with_suffix(".%d" % threading.get_ident())
        whole.write_text(json.dumps([{"hosts": host, "gather_facts": False, "tasks": plain}]), encoding="utf-8")
        return whole.replace(book)


def failures(told: Mapping[str, Any]) -> List[str]:
    """What failed on which host, with all that the task said, from what Ansible's JSON callback tells."""
    return [
        "%s: %s: %s" % (host, task["task"]["name"], json.dumps(result, indent=1)[-8000:])
        for play in told.get("plays", ())
        for task in play["tasks"]
        for host, result in task["hosts"].items()
        if result.get("failed") or result.get("unreachable")
    ]


def until(question: Callable[[], Any], seconds: float, what: str) -> Any:
    """Ask until the answer is true, and give it. Fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError("not so after %s s: %s" % (seconds, what))
        time.sleep(0.2)


@contextlib.contextmanager
def alone(what: str) -> Iterator[None]:
    """One test at a time, of all on this machine: for what the labs share, as a setting of the kernel under them."""
    with open("/run/lock/kvmops-tests-%s" % what, "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


GET = "import sys,urllib.request as r;print(r.urlopen(sys.argv[1],timeout=5).read().decode())"


def answers(lab: Lab, number: int, name: str = "web1") -> bool:
    """Whether the guest at 10.77.0.<number> answers over HTTP, with its own name."""
    page = lab.lab("ns", "--", "python3", "-c", GET, "http://10.77.0.%d/" % number, check=False)
    return name in page


def guest(name: str, number: int, memory_mib: int = 128, **more: Any) -> Dict[str, Any]:
    """Options of kvm_domain for a tiny guest that answers at 10.77.0.<number>."""
    cmdline = "console=ttyS0 kvmops.ip=10.77.0.%d/24 kvmops.name=%s %s" % (number, name, more.pop("cmdline", ""))
    plain: Dict[str, Any] = {
        "name": name,
        "state": "running",
        "memory_mib": memory_mib,
        "vcpus": 1,
        "machine": MACHINE,
        "domain_type": "qemu",
        "boot": dict(KERNEL, cmdline=cmdline.strip()),
        "networks": [{"bridge": "br0", "model": "virtio"}],
    }
    return dict(plain, **more)
