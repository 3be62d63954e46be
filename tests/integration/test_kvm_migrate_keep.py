# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stays on the source when the guest has moved: it never starts there, and the way back is open."""

from __future__ import annotations

import pytest

from .disks import exists, make_disk, records_of, sha256
from .fleet import Lab, answers, guest, until
from .test_kvm_migrate import DISK, WEB, start_web1
from .test_kvm_migrate_offline import no_notes
from .test_kvm_migrate_watch import MOVE, kill_module, moving

HOSTS = ("kvm1", "kvm2", "kvm3")
KEPT = "/var/lib/kvmops/kept"


def check_kept(lab: Lab, host: str, there: str) -> None:
    """The host has a definition that says where the guest is, and libvirt refuses to start it, with a disk and without."""
    assert lab.state(host, "web1") == "shut off" and not exists(lab, host, WEB)
    assert "Autostart:      disable" in lab.virsh(host, "dominfo", "web1")
    for disk in (False, True):
        if disk:
            make_disk(lab, host, "web1.qcow2")
        said = lab.sh(host, "sh", "-c", "virsh start web1 2>&1 || true")
        assert "/var/lib/kvmops/web1-has-moved-to-%s" % there in said, said
        assert lab.state(host, "web1") == "shut off"
    lab.sh(host, "rm", WEB)
    assert lab.sh(host, "sh", "-c", "ls %s || true" % KEPT).split() == []


def test_a_definition_is_kept_of_a_live_move_and_the_guest_returns(clean: Lab) -> None:
    make_disk(clean, "kvm1", "web1.qcow2")
    start_web1(clean, disks=[DISK], autostart=True)
    args = {"name": "web1", "host": "kvm2", "keep_source": "definition"}
    check, real, again, again_check = clean.quartet("kvm1", "kvm_migrate", **args)
    assert check["changed"] and real["changed"] and check["steps"] == real["steps"]
    assert not again["changed"] and not again_check["changed"]
    assert again["state"] == "running" and clean.owners("web1", HOSTS) == ["kvm2"] and answers(clean, 101)
    (kept,) = clean.one("kvm1", "kvm_domain_info")["domains"]
    assert kept["moved_to"] == "kvm2" and kept["state"] == "shutoff"
    assert "Autostart:      enable" in clean.virsh("kvm2", "dominfo", "web1")
    check_kept(clean, "kvm1", "kvm2")
    elsewhere = clean.one("kvm1", "kvm_migrate", name="web1", host="kvm3", may_fail=True)
    assert elsewhere["failed"] and "it has moved to kvm2" in elsewhere["msg"], elsewhere["msg"]

    # To the host that has a definition, and one stays here in turn.
    back = clean.one("kvm2", "kvm_migrate", **dict(args, host="kvm1"))
    assert back["changed"] and clean.owners("web1", HOSTS) == ["kvm1"] and answers(clean, 101)
    assert "has-moved-to" not in clean.virsh("kvm1", "dumpxml", "web1", "--inactive")
    assert "Autostart:      enable" in clean.virsh("kvm1", "dominfo", "web1")
    check_kept(clean, "kvm2", "kvm1")
    assert no_notes(clean)
    clean.virsh("kvm1", "destroy", "web1")
    numbers = records_of(clean, "kvm1", WEB)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) and len(numbers) > 3, numbers


def test_a_definition_is_kept_of_an_offline_move_and_the_guest_returns(clean: Lab) -> None:
    before = sha256(clean, "kvm1", make_disk(clean, "kvm1", "web1.qcow2"))
    clean.one("kvm1", "kvm_domain", **dict(guest("web1", 101, disks=[DISK], autostart=True), state="present"))
    args = {"name": "web1", "host": "kvm2", "keep_source": "definition"}
    check, real, again, again_check = clean.quartet("kvm1", "kvm_migrate", **args)
    assert check["steps"] == real["steps"] and not again["changed"] and not again_check["changed"]
    check_kept(clean, "kvm1", "kvm2")
    back = clean.one("kvm2", "kvm_migrate", name="web1", host="kvm1")
    assert back["changed"] and clean.state("kvm2", "web1") is None and sha256(clean, "kvm1", WEB) == before
    assert "has-moved-to" not in clean.virsh("kvm1", "dumpxml", "web1") and no_notes(clean)
    clean.virsh("kvm1", "start", "web1")
    until(lambda: answers(clean, 101), 60, "web1 answers on kvm1")


@pytest.mark.long
def test_a_run_that_dies_leaves_no_definition_that_could_start(clean: Lab) -> None:
    make_disk(clean, "kvm1", "web1.qcow2")
    start_web1(clean, disks=[DISK], autostart=True)
    with moving(clean, keep_source="definition"):
        kill_module(clean)
        until(lambda: clean.owners("web1", HOSTS) == ["kvm2"], 90, "libvirt ended the move by itself")
        until(lambda: clean.state("kvm1", "web1") is None, 20, "kvm1 let go")
    told = clean.one("kvm1", "kvm_migrate", **dict(MOVE, keep_source="definition"))
    assert any("keep the definition of web1" in step for step in told["steps"])
    check_kept(clean, "kvm1", "kvm2")
    assert no_notes(clean)


def test_the_disks_are_kept_for_a_return(clean: Lab) -> None:
    make_disk(clean, "kvm1", "web1.qcow2")
    start_web1(clean, disks=[DISK])
    args = {"name": "web1", "host": "kvm2", "keep_source": "disks"}
    real = clean.one("kvm1", "kvm_migrate", **args)
    assert real["changed"] and clean.state("kvm1", "web1") is None and exists(clean, "kvm1", WEB)
    back = clean.one("kvm2", "kvm_migrate", name="web1", host="kvm1")
    assert any("remove %s from kvm1" % WEB in step for step in back["steps"])
    assert clean.owners("web1", HOSTS) == ["kvm1"] and no_notes(clean)
    until(lambda: answers(clean, 101), 20, "web1 answers on kvm1")
