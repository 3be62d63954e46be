# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kvm_migrate after its own death: the next run says what is left, and cleans it up or finishes it."""

from __future__ import annotations

from .conftest import NEWER
from .disks import exists, make_disk, records_of
from .fleet import Lab, answers, guest, until
from .test_kvm_migrate import DISK, WEB, start_web1
from .test_kvm_migrate_faults import HOSTS, SLOW_MIB_S, Running, copying
from .test_kvm_migrate_offline import MIB, PART, allocated, kill_the_module, no_notes

RELEASES = NEWER


def kill_in_the_middle(lab: Lab, mib_s: int) -> None:
    """A live move of web1 from kvm1 to kvm2 whose module dies while its disk is copied."""
    make_disk(lab, "kvm1", "web1.qcow2")
    start_web1(lab, disks=[DISK], autostart=True)
    move = Running(lab, name="web1", host="kvm2", bandwidth_mib_s=mib_s)
    until(lambda: copying(lab), 30, "the copy began")
    kill_the_module(lab)
    assert move.result()["failed"]


def has_job(lab: Lab) -> bool:
    said = lab.virsh("kvm1", "domjobinfo", "web1", check=False)
    return bool(said) and "None" not in said


def test_a_half_copied_volume_of_a_killed_move_is_removed(clean: Lab) -> None:
    kill_in_the_middle(clean, SLOW_MIB_S)
    clean.virsh("kvm1", "domjobabort", "web1")
    until(lambda: clean.state("kvm2", "web1") is None and not has_job(clean), 40, "libvirt gave the move up")
    assert exists(clean, "kvm2", WEB), "libvirt removed the volume itself; this test proves nothing"
    check = clean.one("kvm1", "kvm_migrate", name="web1", host="kvm2", check=True)
    assert "remove %s from kvm2, which an earlier move left there" % WEB in check["steps"]
    assert exists(clean, "kvm2", WEB)
    real = clean.one("kvm1", "kvm_migrate", name="web1", host="kvm2")
    assert real["steps"] == check["steps"] and real["mode"] == "live"
    assert clean.owners("web1", HOSTS) == ["kvm2"] and answers(clean, 101)
    assert not exists(clean, "kvm1", WEB) and no_notes(clean)
    clean.virsh("kvm2", "destroy", "web1")
    numbers = records_of(clean, "kvm2", WEB)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_what_a_killed_run_left_open_after_the_move_is_finished(clean: Lab) -> None:
    """libvirt ends the move by itself; autostart and the disk on the source are open then."""
    kill_in_the_middle(clean, 40)
    until(lambda: clean.owners("web1", HOSTS) == ["kvm2"] and clean.state("kvm1", "web1") is None, 90, "it moved")
    assert exists(clean, "kvm1", WEB)
    check, real, again, again_check = clean.quartet("kvm1", "kvm_migrate", name="web1", host="kvm2")
    assert check["changed"] and check["steps"] == real["steps"] and real["mode"] is None
    assert not again["changed"] and not again_check["changed"]
    assert "Autostart:      enable" in clean.virsh("kvm2", "dominfo", "web1")
    assert not exists(clean, "kvm1", WEB) and answers(clean, 101) and no_notes(clean)


def test_parts_are_outdated_once_the_guest_was_started_again(clean: Lab) -> None:
    make_disk(clean, "kvm1", "web1.qcow2")
    clean.one("kvm1", "kvm_domain", **dict(guest("web1", 101, disks=[DISK]), state="present"))
    clean.lab("fault", "rate", "kvm1", "20mbit")
    try:
        move = Running(clean, name="web1", host="kvm2")
        until(lambda: allocated(clean, "kvm2", PART) > 4 * MIB, 60, "some of it came")
        kill_the_module(clean)
        move.result()
    finally:
        clean.lab("fault", "rate", "kvm1", "none")
    clean.virsh("kvm1", "start", "web1")
    until(lambda: answers(clean, 101), 60, "web1 answers")
    real = clean.one("kvm1", "kvm_migrate", name="web1", host="kvm2")
    assert real["mode"] == "live" and any(PART in step for step in real["steps"])
    assert not exists(clean, "kvm2", PART) and clean.owners("web1", HOSTS) == ["kvm2"] and no_notes(clean)


def test_a_foreign_file_is_never_removed(clean: Lab) -> None:
    """The same name, but not the file that the killed move made: it is refused, not cleaned up."""
    kill_in_the_middle(clean, SLOW_MIB_S)
    clean.virsh("kvm1", "domjobabort", "web1")
    until(lambda: clean.state("kvm2", "web1") is None and not has_job(clean), 40, "libvirt gave the move up")
    clean.sh("kvm2", "sh", "-c", "head -c 3000000 /dev/urandom > {0}.new && mv {0}.new {0}".format(WEB))
    refused = clean.one("kvm1", "kvm_migrate", name="web1", host="kvm2", may_fail=True)
    assert [concern["id"] for concern in refused["concerns"]] == ["target-disk-exists"]
    assert exists(clean, "kvm2", WEB) and clean.owners("web1", HOSTS) == ["kvm1"]


def test_a_guest_that_runs_twice_is_an_alarm(clean: Lab) -> None:
    start_web1(clean)
    xml = clean.virsh("kvm1", "dumpxml", "--inactive", "web1")
    clean.sh("kvm2", "sh", "-c", "cat > /tmp/web1.xml <<'END'\n%s\nEND" % xml)
    clean.virsh("kvm2", "create", "--paused", "/tmp/web1.xml")
    refused = clean.one("kvm1", "kvm_migrate", name="web1", host="kvm2", may_fail=True)
    assert refused["failed"] and "web1 RUNS ON BOTH kvm1 AND kvm2" in refused["msg"], refused["msg"]
    assert clean.owners("web1", HOSTS) == ["kvm1", "kvm2"], "it took a decision that was not its own"
