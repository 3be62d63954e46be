# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The labs that the integration tests share: ready hosts, of the releases that a module asks for."""

from __future__ import annotations

import os
import subprocess
from typing import Callable, Dict, Iterator

import pytest

from .fleet import LAB, ROOT, Lab

HOSTS = ("kvm1", "kvm2", "kvm3")
OLDER = "bookworm,bookworm,trixie"
# For moves that are slowed down: QEMU before 9.0 without KVM loses what a guest writes meanwhile (concern tcg-lost-writes).
NEWER = "trixie,trixie,bookworm"


@pytest.fixture(name="labs", scope="session")
def fixture_labs() -> Iterator[Callable[[str], Lab]]:
    """A lab by the releases of its hosts, up for the whole run. KVMOPS_LAB names one with those of OLDER that is up already;
    it stays up, and so do those with other releases, as <its name>-ttb and so on. Else each worker starts and ends its own."""
    given = os.environ.get("KVMOPS_LAB")
    name = given or "test-%s" % os.environ.get("PYTEST_XDIST_WORKER", "one")
    started: Dict[str, Lab] = {}

    def lab(releases: str) -> Lab:
        if releases not in started:
            initials = "".join(release[0] for release in releases.split(","))
            started[releases] = start(name if releases == OLDER else "%s-%s" % (name, initials), releases)
        return started[releases]

    yield lab
    for one in () if given else started.values():
        subprocess.run([str(LAB), "down", "--name", one.name], check=True, stdin=subprocess.DEVNULL)


def start(name: str, releases: str) -> Lab:
    words = ["--name", name, "--hosts", str(len(releases.split(","))), "--os", releases, "--shared-storage", "nfs"]
    subprocess.run([str(LAB), "up", *words], check=True, stdin=subprocess.DEVNULL)
    folder = ROOT / ".lab" if name == "lab" else ROOT / ".lab" / name
    return Lab(name=name, inventory=folder / "inventory.yml")


@pytest.fixture(name="lab", scope="module")
def fixture_lab(labs: Callable[[str], Lab], request: pytest.FixtureRequest) -> Lab:
    """The lab with the hosts that the module's RELEASES names; without it, those of OLDER."""
    return labs(getattr(request.module, "RELEASES", OLDER))


@pytest.fixture(name="clean")
def fixture_clean(lab: Lab) -> Iterator[Lab]:
    """A lab whose hosts have no domain and no image, before and after."""
    wipe(lab)
    yield lab
    wipe(lab)


def wipe(lab: Lab) -> None:
    """No domain and no image on any host."""
    script = (
        "for d in $(virsh -q list --name); do virsh -q destroy $d; done;"
        "for d in $(virsh -q list --all --name); do virsh -q undefine $d --nvram --managed-save --snapshots-metadata; done;"
        "find /var/lib/libvirt/images -mindepth 1 -delete; virsh -q pool-refresh default; rm -rf /var/lib/kvmops/journal"
    )
    for host in HOSTS:
        lab.sh(host, "sh", "-c", script)
