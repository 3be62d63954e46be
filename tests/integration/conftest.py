# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab that all integration tests share: three ready hosts, two of one release and one of another."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Iterator, Sequence

import pytest

from .fleet import LAB, ROOT, Lab

HOSTS = ("kvm1", "kvm2", "kvm3")


@pytest.fixture(name="lab", scope="session")
def fixture_lab() -> Iterator[Lab]:
    """Up for the whole run. KVMOPS_LAB names one that is up already and stays up; else each worker starts and ends its own."""
    given = os.environ.get("KVMOPS_LAB")
    name = given or "test-%s" % os.environ.get("PYTEST_XDIST_WORKER", "one")
    words = ["--name", name, "--hosts", "3", "--os", "bookworm,bookworm,trixie", "--shared-storage", "nfs"]
    subprocess.run([str(LAB), "up", *words], check=True, stdin=subprocess.DEVNULL)
    folder = ROOT / ".lab" if name == "lab" else ROOT / ".lab" / name
    yield Lab(name=name, inventory=Path(folder) / "inventory.yml")
    if not given:
        subprocess.run([str(LAB), "down", "--name", name], check=True, stdin=subprocess.DEVNULL)


@pytest.fixture(name="clean")
def fixture_clean(lab: Lab) -> Iterator[Lab]:
    """A lab whose hosts have no domain and no image, before and after."""
    wipe(lab)
    yield lab
    wipe(lab)


def wipe(lab: Lab, hosts: Sequence[str] = HOSTS) -> None:
    """No domain and no image on any host."""
    script = (
        "for d in $(virsh -q list --name); do virsh -q destroy $d; done;"
        "for d in $(virsh -q list --all --name); do virsh -q undefine $d --nvram --managed-save --snapshots-metadata; done;"
        "find /var/lib/libvirt/images -mindepth 1 -delete; virsh -q pool-refresh default; rm -rf /var/lib/kvmops/journal"
    )
    for host in hosts:
        lab.sh(host, "sh", "-c", script)
