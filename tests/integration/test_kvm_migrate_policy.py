# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How live moves are steered, on a slow link: two hosts of the newer release, and one of the older one."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from .conftest import wipe
from .fleet import LAB, ROOT, Lab, Task, answers, guest, until

HOSTS = ("kvm1", "kvm2", "kvm3")
LINK, LINK_MIB_S = "100mbit", 11.4
BUSY = "kvmops.dirty_mib_s=40 kvmops.dirty_set_mib=32"


@pytest.fixture(name="lab", scope="module")
def fixture_lab() -> Iterator[Lab]:
    """Compression needs the newer release on both ends. kvm1 and kvm2 are trixie, kvm3 is bookworm."""
    given = os.environ.get("KVMOPS_LAB")
    name = "%s-policy" % (given or "test-%s" % os.environ.get("PYTEST_XDIST_WORKER", "one"))
    words = ["--name", name, "--hosts", "3", "--os", "trixie,trixie,bookworm"]
    subprocess.run([str(LAB), "up", *words], check=True, stdin=subprocess.DEVNULL)
    yield Lab(name=name, inventory=Path(ROOT / ".lab" / name) / "inventory.yml")
    if not given:
        subprocess.run([str(LAB), "down", "--name", name], check=True, stdin=subprocess.DEVNULL)


@pytest.fixture(name="slow")
def fixture_slow(lab: Lab) -> Iterator[Lab]:
    """Clean hosts on links of 100 Mbit/s, so that the link is what limits a move."""
    wipe(lab, HOSTS)
    for host in HOSTS:
        lab.lab("fault", "rate", host, LINK)
    yield lab
    for host in HOSTS:
        lab.lab("fault", "rate", host, "none")
    wipe(lab, HOSTS)


def start_web1(lab: Lab, host: str = "kvm1", **more: Any) -> None:
    lab.one(host, "kvm_domain", **guest("web1", 101, **more))
    until(lambda: answers(lab, 101), 60, "web1 answers")


def move(lab: Lab, host: str = "kvm2", on: str = "kvm1", **more: Any) -> Dict[str, Any]:
    return lab.one(on, "kvm_migrate", **dict({"name": "web1", "host": host}, **more))


def chosen(moved: Dict[str, Any]) -> List[str]:
    return [choice["what"] for choice in moved["choices"]]


def test_a_guest_that_writes_faster_than_the_link_moves_within_the_declared_pause(slow: Lab) -> None:
    """With what virsh does by default it never comes to an end; the policies end it, and keep what they declare."""
    start_web1(slow, cmdline=BUSY)
    by_default = ["virsh", "migrate", "--live", "--p2p", "web1", "qemu+ssh://root@kvm2/system", "--timeout", "25"]
    said = slow.sh("kvm1", *by_default, "--timeout-suspend", "--migrateuri", "tcp://kvm2", check=False)
    stopped = slow.sh("kvm2", "virsh", "domjobinfo", "web1", "--completed", "--rawstats")
    assert "downtime" in stopped, (said, stopped)
