# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Offline moves in full: nothing is sent twice, and everything that belongs to the guest comes along."""

from __future__ import annotations

import re
from typing import List

import pytest

from .disks import exists, make_disk, records_of, sha256
from .fleet import IMAGES, Lab, answers, guest, until
from .test_kvm_migrate import DISK, WEB, start_web1
from .test_kvm_migrate_faults import Running

PART = f"{IMAGES}/.web1.qcow2.kvmops-part"
MIB = 1024**2


def allocated(lab: Lab, host: str, path: str) -> int:
    """Bytes that the file takes on the medium; 0 when it is not there."""
    said = lab.sh(host, "sh", "-c", 'stat -c "%%b %%B" "%s" 2>/dev/null || echo 0 0' % path).split()
    return int(said[0]) * int(said[1])


def sent_by(lab: Lab, host: str) -> int:
    """Bytes that left the host since it is up, as its kernel counts them."""
    script = "cd /sys/class/net; for card in host*; do cat $card/statistics/tx_bytes; done"
    return sum(int(line) for line in lab.sh(host, "sh", "-c", script).split())


# Whoever holds the lock of a move is the process that runs kvm_migrate.
_HOLDER = "for held in /proc/[0-9]*/fd/*; do case $(readlink $held) in */kvm_migrate-*.lock) echo $held;; esac; done"


def kill_the_module(lab: Lab, host: str = "kvm1") -> None:
    """kill -9 of the process that runs kvm_migrate there."""
    holders = {path.split("/")[2] for path in lab.sh(host, "sh", "-c", _HOLDER).split()}
    assert len(holders) == 1, holders
    lab.sh(host, "kill", "-9", *holders)


def test_a_killed_copy_goes_on_where_it_ended(clean: Lab) -> None:
    path = make_disk(clean, "kvm1", "web1.qcow2")
    clean.one("kvm1", "kvm_domain", **dict(guest("web1", 101, disks=[DISK]), state="present"))
    before, size, counted = sha256(clean, "kvm1", path), allocated(clean, "kvm1", path), sent_by(clean, "kvm1")
    clean.lab("fault", "rate", "kvm1", "20mbit")
    try:
        move = Running(clean, name="web1", host="kvm2")
        until(lambda: allocated(clean, "kvm2", PART) > size // 2, 60, "half of it came")
        kill_the_module(clean)
        assert move.result()["failed"]
    finally:
        clean.lab("fault", "rate", "kvm1", "none")
    assert clean.state("kvm1", "web1") == "shut off" and not exists(clean, "kvm2", path)
    check = clean.one("kvm1", "kvm_migrate", name="web1", host="kvm2", check=True)
    assert check["changed"] and exists(clean, "kvm2", PART), "check mode touched what came"

    second = clean.one("kvm1", "kvm_migrate", name="web1", host="kvm2")
    metrics = second["metrics"]
    assert 0 < metrics["wire_bytes"] < size * 0.6, "what had come was sent again"
    assert metrics["resent_bytes"] <= 0.02 * size, metrics
    assert sha256(clean, "kvm2", path) == before and second["hashes"] == {path: before}
    # Both runs together, counted by the kernel; its frames and ssh's own bytes included.
    assert sent_by(clean, "kvm1") - counted <= 1.07 * size
    assert not exists(clean, "kvm2", PART) and not exists(clean, "kvm2", PART + ".chunks")
    assert no_notes(clean)


def no_notes(lab: Lab) -> bool:
    """Whether no host remembers a move."""
    return not any(
        lab.sh(host, "sh", "-c", "ls /var/lib/kvmops/journal/* 2>/dev/null; true").count(".json") for host in HOSTS
    )


HOSTS = ("kvm1", "kvm2", "kvm3")


def test_a_source_that_changed_is_sent_anew(clean: Lab) -> None:
    path = make_disk(clean, "kvm1", "web1.qcow2")
    clean.one("kvm1", "kvm_domain", **dict(guest("web1", 101, disks=[DISK]), state="present"))
    clean.lab("fault", "rate", "kvm1", "20mbit")
    try:
        move = Running(clean, name="web1", host="kvm2")
        until(lambda: allocated(clean, "kvm2", PART) > 4 * MIB, 60, "some of it came")
        kill_the_module(clean)
        move.result()
    finally:
        clean.lab("fault", "rate", "kvm1", "none")
    make_disk(clean, "kvm1", "web1.qcow2")
    before = sha256(clean, "kvm1", path)
    second = clean.one("kvm1", "kvm_migrate", name="web1", host="kvm2")
    assert second["metrics"]["resent_bytes"] > 0 and sha256(clean, "kvm2", path) == before


@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
def test_the_wire_carries_little_more_than_the_image_holds(clean: Lab, image_format: str) -> None:
    path = make_disk(clean, "kvm1", "web1.img", image_format=image_format)
    disk = {"pool": "default", "name": "web1.img", "format": image_format}
    clean.one("kvm1", "kvm_domain", **dict(guest("web1", 101, disks=[disk]), state="present"))
    size, counted = allocated(clean, "kvm1", path), sent_by(clean, "kvm1")
    real = clean.one("kvm1", "kvm_migrate", name="web1", host="kvm2")
    assert 0 < real["metrics"]["wire_bytes"] <= 1.05 * size and real["metrics"]["resent_bytes"] == 0
    assert sent_by(clean, "kvm1") - counted <= 1.05 * size
    assert allocated(clean, "kvm2", path) <= 1.05 * size, "holes were filled"


@pytest.mark.parametrize("dest", ["kvm2", "kvm3"])
def test_everything_of_a_uefi_guest_comes_along(clean: Lab, dest: str) -> None:
    """Variables, TPM state, autostart, metadata, title; kvm3 is the newer release."""
    efi = {key: value for key, value in guest("web1", 101).items() if key != "boot"}
    fleet = {"metadata": {"group": "shop"}, "autostart": True, "tpm": "emulator", "disks": []}
    clean.one("kvm1", "kvm_domain", **dict(efi, state="present", firmware="efi", **fleet))
    clean.virsh("kvm1", "desc", "web1", "--config", "--title", "the shop")
    clean.virsh("kvm1", "start", "--paused", "web1")
    xml = clean.virsh("kvm1", "dumpxml", "web1")
    clean.virsh("kvm1", "destroy", "web1")
    nvram = re.findall(r"<nvram[^>]*>([^<]+)</nvram>", xml)[0]
    clean.sh("kvm1", "sh", "-c", "printf mark | dd of=%s bs=1 seek=300000 conv=notrunc status=none" % nvram)
    tpm = "/var/lib/libvirt/swtpm/%s/tpm2/tpm2-00.permall" % clean.virsh("kvm1", "domuuid", "web1")
    before = [sha256(clean, "kvm1", path) for path in (nvram, tpm)]
    real = clean.one("kvm1", "kvm_migrate", name="web1", host=dest)
    assert real["hashes"] == dict(zip((nvram, tpm), before, strict=True))
    assert [sha256(clean, dest, path) for path in (nvram, tpm)] == before
    assert clean.virsh(dest, "desc", "web1", "--title") == "the shop"
    assert "<kvmops:group>shop</kvmops:group>" in clean.virsh(dest, "dumpxml", "web1")
    assert "Autostart:      enable" in clean.virsh(dest, "dominfo", "web1")
    clean.virsh(dest, "start", "--paused", "web1")
    assert not exists(clean, "kvm1", nvram) and not exists(clean, "kvm1", tpm)
    clean.virsh(dest, "destroy", "web1")
    if dest == "kvm3":
        back = clean.one(dest, "kvm_migrate", name="web1", host="kvm1")
        assert back["changed"] and clean.virsh("kvm1", "desc", "web1", "--title") == "the shop"
        clean.virsh("kvm1", "start", "--paused", "web1")


def test_saved_memory_comes_along_and_goes_on(clean: Lab) -> None:
    make_disk(clean, "kvm1", "web1.qcow2")
    start_web1(clean, disks=[DISK])
    clean.virsh("kvm1", "managedsave", "web1")
    real = clean.one("kvm1", "kvm_migrate", name="web1", host="kvm2")
    assert real["mode"] == "offline" and any("saved memory" in step for step in real["steps"])
    assert not exists(clean, "kvm1", "/var/lib/libvirt/qemu/save/web1.save")
    clean.virsh("kvm2", "start", "web1")
    assert not exists(clean, "kvm2", "/var/lib/libvirt/qemu/save/web1.save"), "it booted instead"
    until(lambda: answers(clean, 101), 30, "web1 answers on kvm2")
    clean.virsh("kvm2", "destroy", "web1")
    numbers = records_of(clean, "kvm2", WEB)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), numbers


def snapshots(lab: Lab, host: str) -> List[str]:
    return lab.virsh(host, "snapshot-list", "web1", "--topological", "--name").split()


def test_snapshots_are_refused_or_carried(clean: Lab) -> None:
    make_disk(clean, "kvm1", "web1.qcow2")
    clean.one("kvm1", "kvm_domain", **dict(guest("web1", 101, disks=[DISK]), state="present"))
    for name in ("before", "after", "later"):
        clean.virsh("kvm1", "snapshot-create-as", "web1", name)
    clean.virsh("kvm1", "snapshot-revert", "web1", "after")
    refused = clean.one("kvm1", "kvm_migrate", name="web1", host="kvm3", may_fail=True)
    assert [concern["id"] for concern in refused["concerns"]] == ["snapshots"]
    assert "before, after, later" in refused["msg"]
    check, real, again, again_check = clean.quartet("kvm1", "kvm_migrate", name="web1", host="kvm3", snapshots="carry")
    assert check["steps"] == real["steps"] and not again["changed"] and not again_check["changed"]
    assert snapshots(clean, "kvm3") == ["before", "after", "later"]
    assert clean.virsh("kvm3", "snapshot-current", "web1", "--name") == "after"
    clean.virsh("kvm3", "snapshot-revert", "web1", "later")
    records_of(clean, "kvm3", WEB)
    assert clean.state("kvm1", "web1") is None
