# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Servers of several kinds, each at work, become guests that take over: with their addresses, and without a record missing.

Each is a computer of its own, and off at the end of its test.
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from .fleet import IMAGES, LAB, MACHINE, ROOT, Lab, Task
from .taken_over import (
    Site,
    checked,
    differing,
    left_disk,
    prepare_host,
    until_off,
    visiting,
    with_old_python,
)

pytestmark = pytest.mark.machine

NAME = os.environ.get("KVMOPS_LAB", "p2vservers")
SOURCE, HOST, CARD = "pm1", "kvm1", "enp0s16"
# Emulated, on a machine that others use as well.
PATIENCE_S = 900.0
VERSIONS = Path(os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))) / "versions"
DATA_DISK = (
    "echo start=1MiB | sfdisk --quiet --label dos /dev/sdb; udevadm settle; mkfs.ext4 -q /dev/sdb1; mkdir -p /srv/data;"
    " echo '/dev/sdb1 /srv/data ext4 defaults 0 2' >>/etc/fstab; systemctl daemon-reload; mount /srv/data"
)


@dataclass(frozen=True)
class Kind:
    """start: options of `lab machine start`. python: the only one it has, of pyenv's; empty: the system's own. shown: what the
    guest says to a shell command, as words of its answer."""

    start: Tuple[str, ...]
    python: str = ""
    setup: str = ""
    path: str = "/var/lib/records"
    disks: Tuple[str, ...] = ("sda",)
    shown: Tuple[Tuple[str, str], ...] = ()


KINDS = {
    "xfs on a plain partition, a swap partition, Python 2.7 only": Kind(
        ("--layout", "xfs", "--table", "mbr"),
        python="2.7",
        shown=(("findmnt -no SOURCE,FSTYPE /", "/dev/vda1 xfs"), ("swapon --noheadings --show=NAME", "/dev/vda2")),
    ),
    "LVM, UEFI, records on a second disk, Python 3.6 only": Kind(
        ("--firmware", "uefi", "--disks", "2"),
        python="3.6",
        setup=DATA_DISK,
        path="/srv/data/records",
        disks=("sda", "sdb"),
        shown=(
            ("findmnt -no SOURCE /boot/efi", "/dev/vda1"),
            ("findmnt -no SOURCE /srv/data", "/dev/vdb1"),
            ("swapon --noheadings --show=NAME", "/dev/dm-"),
        ),
    ),
    "btrfs with subvolumes": Kind(
        ("--layout", "btrfs", "--table", "mbr"),
        shown=(("findmnt -no SOURCE /", "/dev/vda1[/@rootfs]"), ("findmnt -no SOURCE /home", "/dev/vda1[/@home]")),
    ),
}


@pytest.fixture(name="lab", scope="module")
def fixture_lab() -> Iterator[Lab]:
    up = "KVMOPS_LAB" in os.environ
    if not up:
        words = ["up", "--name", NAME, "--hosts", "1", "--os", "bookworm"]
        subprocess.run([str(LAB), *words], check=True, stdin=subprocess.DEVNULL)
    lab = Lab(name=NAME, inventory=ROOT / ".lab" / NAME / "inventory.yml")
    try:
        # Each in its turn has the first address of a machine.
        prepare_host(lab, HOST, "10.77.0.51")
        yield lab
    finally:
        if not up:
            subprocess.run([str(LAB), "down", "--name", NAME], check=True, stdin=subprocess.DEVNULL)


@pytest.fixture(name="kind", params=KINDS)
def fixture_kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = KINDS[request.param]
    if kind.python and not list(VERSIONS.glob(kind.python + ".*")):
        pytest.skip("pyenv has no Python %s here" % kind.python)
    return kind


@pytest.fixture(name="site")
def fixture_site(lab: Lab, kind: Kind) -> Iterator[Site]:
    lab.lab("machine", "start", SOURCE, *kind.start, timeout_s=1200)
    site = Site(lab, SOURCE, kind.path)
    try:
        yield site
    finally:
        script = (
            "virsh -q destroy old1; virsh -q undefine old1 --nvram; rm -f %s/*old1*; virsh -q pool-refresh default"
            % IMAGES
        )
        lab.sh(HOST, "sh", "-c", script, check=False)
        lab.lab("machine", "remove", SOURCE)


def test_its_guest_takes_over(lab: Lab, kind: Kind, site: Site, tmp_path: Path, record_property: Any) -> None:
    python = "/usr/bin/python3"
    if kind.python:
        python = with_old_python(site, sorted(VERSIONS.glob(kind.python + ".*"))[-1])
    lab.sh(SOURCE, "sh", "-ec", kind.setup or "true")
    site.serve(python)
    old = lab.sh(SOURCE, "cat", "/proc/sys/kernel/random/boot_id").strip()
    began, seconds = time.monotonic(), {}

    def lap(what: str) -> None:
        seconds[what] = round(time.monotonic() - began - sum(seconds.values()))

    with visiting(site) as visitor:
        told = lab.play(HOST, [Task("kvm_p2v_image", request(site))], timeout_s=3000)[0]
        lap("task")
        visitor.is_answered(PATIENCE_S, len(visitor.answers))
    gap, number = visitor.handed_over(old)
    print("\n" + "\n".join([*told["fixup"]["changes"], *told["summary"]]), told["fixup"]["concerns"], told["metrics"])
    assert told["power"] == "off" and [disk["name"] for disk in told["disks"]] == list(kind.disks)
    until_off(lab)
    assert lab.state(HOST, "old1") == "running"
    metrics = told["metrics"]
    assert metrics["impact"]["after"]["received"] > 0
    assert abs(metrics["downtime_ms"] / 1000.0 - gap) < 3, (metrics["downtime_ms"], gap)

    records = checked(site.records())
    of_old = [each for each, boot in records if boot == old]
    assert {boot for dummy, boot in records} - {old} == {records[-1][1]} and records[len(of_old)][1] != old
    # What it told anybody is there; the machine's own disk says that there was no more.
    assert len(of_old) >= number
    for command, words in kind.shown:
        said = site.ssh("sh", "-c", command)
        assert words in " ".join(said.split()), (command, said)
    assert CARD in site.ssh("ip", "-o", "-4", "address", "show", "to", site.address)
    assert "virtio_blk" in site.ssh(
        "sh", "-c", "ls /sys/bus/virtio/drivers; ls -d /sys/bus/virtio/drivers/virtio_blk/virtio*"
    )
    lap("looks")
    with left_disk(site, tmp_path) as left:
        left_records = (left / kind.path.lstrip("/")).read_text().splitlines()
        assert [number for number, dummy in checked(left_records)] == of_old
        explained, others = differing(left, site, python, told["fixup"]["changes"])
    lap("files")
    print("explained:", sorted(explained), "\nothers:", others)
    assert others == {}
    print("seconds", seconds, "gap %.1f s" % gap, "records", len(of_old), len(records))
    record_property("seconds", seconds)


def request(site: Site) -> Dict[str, Any]:
    networks: List[Dict[str, str]] = [{"interface": CARD, "bridge": "br0"}]
    return {
        "name": "old1",
        "source": SOURCE,
        "cutover": "poweroff",
        "fixup": True,
        "fixup_options": {"serial_console": True, "timeout_s": PATIENCE_S},
        "domain": {"state": "running", "machine": MACHINE, "memory_mib": 768, "networks": networks},
        "probe": {"type": "http", "url": site.page, "answer_timeout_s": PATIENCE_S},
    }
