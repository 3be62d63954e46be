# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Overlays over copied disks: made behind the images, thrown away before these change, and never when a guest wrote to them."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import p2v_agent
from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_folder import holding
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge, HostError, PreflightError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import P2vWish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_vm import BootTest, VmWish
from ansible_collections.kvmops.fleet.plugins.module_utils.run import p2v_boot_test, p2v_rounds, p2v_vm_domain
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v import P2vJob
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_world import World
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.host import fake_hypervisor

from .p2v_source import MIB, FileSource
from .test_p2v import Place, wish

# Without a fix-up, which needs libguestfs; without a hypervisor the domain itself is left out.
PLAIN = VmWish("old1", domain={})
IMAGE, OVERLAY, RECORD = "old1-sda.qcow2", "old1-sda.vm.qcow2", "old1.vm.json"
ALL = sorted([IMAGE, IMAGE + ".manifest", OVERLAY, RECORD])
FLAT = sorted([IMAGE, IMAGE + ".manifest", RECORD])


class VmPlace(Place):
    hv: Any = None
    users: Dict[str, Any] = {}

    def made(
        self, asked: P2vWish, vm: VmWish = PLAIN, source: Optional[FileSource] = None, apply: bool = True
    ) -> Dict[str, Any]:
        source = source or self.new_source(asked)
        with holding(asked.name, str(self.root / "run")) as folder, p2v_agent.listening(folder.socket) as server:
            world = World(asked.name, asked.format, str(self.pool), folder.nbd, self.told.append, self.users)
            source.dial(folder.socket, asked.connections)
            agent = p2v_agent.awaited(server, asked.run, asked.connections, 10)
            try:
                return self.job(P2vJob(asked, world, agent, self.hv, vm), apply)
            finally:
                agent.bye()
                source.join()

    def left(self, asked: P2vWish, vm: VmWish = PLAIN) -> Dict[str, Any]:
        """A run for a source that was left."""
        return self.job(P2vJob(asked, self.world(asked), None, self.hv, vm), True)

    def job(self, job: P2vJob, apply: bool) -> Dict[str, Any]:
        found = job.observe()
        plan = job.plan(found)
        outcome = job.apply(plan, found) if plan.changes and apply else None
        return {"steps": plan.words, "changed": plan.changes, **job.report(plan, found, outcome)}

    def backing(self) -> str:
        told = subprocess.run(
            ["qemu-img", "info", "--output=json", str(self.pool / OVERLAY)], check=True, capture_output=True, text=True
        )
        seen = json.loads(told.stdout)
        assert seen["backing-filename-format"] == "qcow2"
        return Path(seen["backing-filename"]).name


@pytest.fixture(name="place")
def fixture_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VmPlace:
    # These sources answer at once or never.
    monkeypatch.setattr(p2v_rounds, "QUIET_S", 0.2)
    return VmPlace(tmp_path)


def test_a_copy_gets_an_overlay_and_a_record_and_a_second_run_changes_nothing(place: VmPlace) -> None:
    would = place.made(wish(), apply=False)
    assert place.there() == [] and would["steps"][-1].startswith("make ")
    told = place.made(wish())
    assert place.there() == ALL and place.backing() == IMAGE
    assert told["fixup"]["images"] == [
        {"disk": "sda", "path": str(place.pool / OVERLAY), "below": str(place.pool / IMAGE)}
    ]
    before = (place.pool / OVERLAY).stat()
    again = place.made(wish())
    assert not again["changed"] and again["fixup"] == told["fixup"]
    assert (place.pool / OVERLAY).stat().st_ino == before.st_ino


def test_an_overlay_is_made_anew_over_a_newer_image(place: VmPlace) -> None:
    place.made(wish())
    before = (place.pool / OVERLAY).stat()
    source = place.new_source(wish())
    source.write("sda", 9 * MIB, b"new" * 100)
    told = place.made(wish(), source=source)
    assert told["steps"][0].startswith("remove ") and place.there() == ALL
    assert (place.pool / OVERLAY).stat().st_mtime_ns > before.st_mtime_ns
    place.expect(place.image(OVERLAY))
    # Without a wish for it none is left over a newer image.
    source = place.new_source(wish())
    source.write("sda", 9 * MIB, b"newer" * 100)
    place.made(wish(), VmWish("old1"), source)
    assert place.there() == [IMAGE, IMAGE + ".manifest"]


def test_what_a_guest_wrote_is_kept(place: VmPlace) -> None:
    place.made(wish())
    subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", "write 0 4k", str(place.pool / OVERLAY)], check=True, capture_output=True
    )
    kept = (place.pool / OVERLAY).read_bytes()
    assert not place.made(wish())["changed"]
    source = place.new_source(wish())
    source.write("sda", 9 * MIB, b"new" * 100)
    for vm in (PLAIN, VmWish("old1")):
        with pytest.raises(PreflightError, match="p2v-vm-written"):
            place.made(wish(), vm, source)
        source = place.new_source(wish())
        source.write("sda", 9 * MIB, b"new" * 100)
    assert (place.pool / OVERLAY).read_bytes() == kept and place.there() == ALL


def test_a_source_is_not_left_when_its_guest_cannot_be_made(place: VmPlace) -> None:
    (place.pool / (".%s.part" % OVERLAY)).mkdir(parents=True)
    with pytest.raises(HostError, match="Is a directory"):
        place.made(wish(cutover="poweroff"))
    assert place.source and not place.source.off and not place.source.frozen
    assert place.there() == sorted([".%s.part" % OVERLAY, IMAGE, IMAGE + ".manifest"])
    (place.pool / (".%s.part" % OVERLAY)).rmdir()
    told = place.made(wish(cutover="poweroff"))
    assert place.source.off and place.there() == ALL and told["power"] == "off"


def test_a_guest_is_made_of_a_source_that_was_left_before(place: VmPlace) -> None:
    place.made(wish(cutover="poweroff"), VmWish("old1"))
    assert place.there() == [IMAGE, IMAGE + ".manifest"]
    told = place.left(wish(cutover="poweroff"))
    assert told["changed"] and place.there() == ALL and told["left_already"]
    assert not place.left(wish(cutover="poweroff"))["changed"]
    head = json.loads((place.pool / (IMAGE + ".manifest")).read_text().splitlines()[0])
    assert set(head["machine"]) == {"memory_bytes", "cpus", "root", "firmware", "rescue", "disks", "interfaces"}


TESTED = VmWish("old1", domain={"networks": [], "memory_mib": 64, "domain_type": "qemu"}, boot_test=BootTest(5.0))
OTHER_DISK = "<devices><disk type='file' device='disk'><source file='/x'/><target dev='vda'/></disk></devices>"
LOGIN = "Debian GNU/Linux 12 old1 ttyS0\n\nold1 login: "


@pytest.fixture(name="hv")
def fixture_hv(place: VmPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The fake hypervisor, whose guests print place.console when they start."""
    # Of this host, which sees its files.
    place.hv, place.console = replace(fake_hypervisor.hypervisor(), uri="fake:///"), LOGIN
    place.hv.conn.pools["default"].path = str(place.pool)
    monkeypatch.setattr(p2v_boot_test, "LOGS", str(tmp_path))
    start = fake_hypervisor.FakeDomain.createWithFlags

    def started(dom: Any, flags: int = 0) -> int:
        place.started.append((dom.name(), bool(place.source and place.source.off)))
        place.seen[dom.name()] = dom.XMLDesc(0)
        (tmp_path / ("%s.console" % dom.name())).write_text(place.console)
        return int(start(dom, flags))

    place.started, place.seen = [], {}
    monkeypatch.setattr(fake_hypervisor.FakeDomain, "createWithFlags", started)
    return place.hv


def test_a_guest_is_defined_and_a_copy_of_it_booted_and_all_is_clean_behind_it(place: VmPlace, hv: Any) -> None:
    told = place.made(wish(), TESTED)
    assert [words.split()[0] for words in told["steps"][-3:]] == ["make", "define", "boot"]
    assert told["domain"]["state"] == "shutoff" and told["boot_test"]["sign"] == "console"
    assert told["metrics"]["guest_s"] > 0 and "At a cutover" in told["summary"][-1]
    assert [disk["source"] for disk in told["domain"]["disks"]] == [str(place.pool / OVERLAY)]
    # Without a look into the system, what any system can drive.
    assert [disk["bus"] for disk in told["domain"]["disks"]] == ["sata"]
    assert place.started == [("old1.boot-test", False)] and list(hv.conn.domains) == ["old1"]
    assert ".old1-sda.vm.qcow2.boot-test" in place.seen["old1.boot-test"]
    assert place.there() == ALL and not list(place.root.glob("*.console"))
    again = place.made(wish(), TESTED)
    assert not again["changed"] and again["boot_test"] == told["boot_test"] and len(place.started) == 1


def test_the_source_goes_on_when_the_copy_does_not_boot(place: VmPlace, hv: Any) -> None:
    place.console = "GRUB\nKernel panic - not syncing: VFS: Unable to mount root fs\n"
    vm = replace(TESTED, domain=dict(TESTED.domain or {}, state="running"), final=True)
    with pytest.raises(HostError, match="Kernel panic.*The last of its console: GRUB"):
        place.made(wish(cutover="poweroff"), vm)
    assert place.source and not place.source.off and not place.source.frozen
    assert list(hv.conn.domains) == ["old1"] and not hv.conn.domains["old1"].isActive()
    assert place.there() == ALL and not list(place.root.glob("*.console"))

    place.console = LOGIN
    told = place.made(wish(cutover="poweroff"), vm)
    assert told["steps"][0].startswith("remove ") and [words.split()[0] for words in told["steps"][-3:]] == [
        "power",
        "put",
        "start",
    ]
    assert place.started[-2:] == [("old1.boot-test", False), ("old1", True)]
    assert told["domain"]["state"] == "running" and place.source.off
    # One file for each disk, which is the guest's own from now on.
    assert place.there() == FLAT and told["fixup"]["images"][0]["path"] == str(place.pool / IMAGE)
    assert [disk["source"] for disk in told["domain"]["disks"]] == [str(place.pool / IMAGE)]
    place.expect(place.image())
    subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", "write 0 4k", str(place.pool / IMAGE)], check=True, capture_output=True
    )
    assert not place.left(wish(cutover="poweroff"), vm)["changed"]
    # Somebody stopped it: the next run starts it, and tests nothing anew.
    hv.conn.domains["old1"].destroy()
    told = place.left(wish(cutover="poweroff"), vm)
    assert told["steps"] == ("start the domain",) and place.started[-1][0] == "old1"


def card(address: str) -> Dict[str, Any]:
    """Facts of a source with one card, and the options of a domain that has it."""
    return {"name": "eth0", "mac": "02:00:00:00:00:01", "kind": "card", "state": "up", "addresses": [address]}


def test_no_guest_starts_while_somebody_has_its_address(
    place: VmPlace, hv: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(p2v_vm_domain, "SILENT_WITHIN_S", 0.0)
    monkeypatch.setattr(p2v_vm_domain.here, "bridges_of", lambda dummy: ("br0",))
    networks = [{"interface": "eth0", "bridge": "br0"}]
    vm = replace(TESTED, domain=dict(TESTED.domain or {}, networks=networks, state="running"), final=True)
    source = place.new_source(wish(cutover="poweroff"))
    # That is this host.
    source.facts["interfaces"] = [card("127.0.0.77/8")]
    with pytest.raises(HostError, match="somebody answers at 127.0.0.77.*Then run again"):
        place.made(wish(cutover="poweroff"), vm, source)
    assert source.off and not hv.conn.domains["old1"].isActive()
    with pytest.raises(HostError, match="somebody answers"):
        place.left(wish(cutover="poweroff"), vm)
    monkeypatch.setattr(p2v_vm_domain.echoes, "answering", lambda addresses, dummy: ())
    assert place.left(wish(cutover="poweroff"), vm)["domain"]["state"] == "running"
    monkeypatch.setattr(p2v_vm_domain.echoes, "answering", lambda addresses, dummy: addresses)
    # It is the guest now who answers there.
    assert not place.left(wish(cutover="poweroff"), vm)["changed"]


def test_the_pause_is_predicted_with_the_guest_once_it_was_rehearsed(place: VmPlace, hv: Any) -> None:
    blind = place.made(wish(cutover="poweroff"), TESTED, apply=False)
    assert blind["concerns"][-1]["id"] == "p2v-vm-not-rehearsed"
    rehearsed = place.made(wish(), TESTED)
    assert rehearsed["prediction"]["guest_s"] is None
    record = json.loads((place.pool / RECORD).read_text())
    record["took"] = {"fixup_s": 40.0, "boot_test_s": 2.5}
    (place.pool / RECORD).write_text(json.dumps(record))
    would = place.made(wish(cutover="poweroff"), TESTED, apply=False)
    assert "p2v-vm-not-rehearsed" not in [each["id"] for each in would["concerns"]]
    assert any("(40 s the last time)" in words for words in would["steps"])
    told = place.made(wish(cutover="poweroff"), TESTED)
    assert told["prediction"]["guest_s"] == 42.5 and told["prediction"]["pause_s"] > 42.5
    assert not any("not rehearsed" in words for words in told["summary"])


@contextlib.contextmanager
def in_use(trial: Path, until: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has the overlay open, and with it the image below, until the fake domain of that name is ended."""
    socket = trial.with_suffix(".socket")
    words = ["qemu-nbd", "--persistent", "--format=qcow2", "--socket=%s" % socket, str(trial)]
    destroy = fake_hypervisor.FakeDomain.destroyFlags

    def destroyed(dom: Any, flags: int = 0) -> int:
        if dom.name() == until:
            process.kill()
            process.wait()
        return int(destroy(dom, flags))

    monkeypatch.setattr(fake_hypervisor.FakeDomain, "destroyFlags", destroyed)
    with subprocess.Popen(words) as process:
        try:
            latest = time.monotonic() + 30
            while not socket.exists():
                assert process.poll() is None and time.monotonic() < latest
                time.sleep(0.02)
            yield process
        finally:
            process.kill()
            socket.unlink(missing_ok=True)


def test_what_a_dead_run_left_is_cleared_and_a_running_guest_is_not(
    place: VmPlace, hv: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.made(wish(), TESTED)
    left = hv.conn.domains["old1"].XMLDesc(0).replace(">old1<", ">old1.boot-test<")
    left = left.replace(hv.conn.domains["old1"].UUIDString(), "11111111-2222-3333-4444-555555555555")
    hv.conn.defineXMLFlags(left.replace("/%s" % OVERLAY, "/.%s.boot-test" % OVERLAY))
    hv.conn.domains["old1.boot-test"].createWithFlags(0)
    trial = place.pool / (".%s.boot-test" % OVERLAY)
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(place.pool / OVERLAY), str(trial)]
    subprocess.run(argv, check=True)
    with in_use(trial, "old1.boot-test", monkeypatch) as qemu:
        source = place.new_source(wish())
        source.write("sda", 9 * MIB, b"new" * 100)
        place.made(wish(), TESTED, source)
        assert qemu.poll() is not None
    assert list(hv.conn.domains) == ["old1"] and place.there() == ALL

    hv.conn.domains["old1"].createWithFlags(0)
    place.users = {str(place.pool / OVERLAY): ["old1"]}
    source = place.new_source(wish())
    source.write("sda", 9 * MIB, b"newer" * 100)
    with pytest.raises(PreflightError, match="p2v-vm-running"):
        place.made(wish(), VmWish("old1"), source)
    assert place.there() == ALL


def test_domains_of_others_are_left_alone(place: VmPlace, hv: Any) -> None:
    other = "<domain type='qemu'><name>%s</name><memory>1024</memory><os><type>hvm</type></os><devices/></domain>"
    hv.conn.defineXMLFlags(other % "old1")
    with pytest.raises(PreflightError, match="p2v-vm-domain-exists"):
        place.made(wish(), TESTED)
    assert place.there() == []
    hv.conn.domains.clear()
    hv.conn.defineXMLFlags(other.replace("<devices/>", OTHER_DISK) % "old1.boot-test")
    with pytest.raises(CannotConverge, match="with other disks"):
        place.made(wish(), TESTED)
    assert sorted(hv.conn.domains) == ["old1", "old1.boot-test"] and place.started == []


@pytest.mark.parametrize("at", ["begun", "committed", "redefined"])
def test_what_was_cut_short_behind_the_source_is_ended_by_the_next_run(place: VmPlace, hv: Any, at: str) -> None:
    vm = replace(TESTED, final=True)
    place.made(wish(cutover="poweroff"), replace(vm, final=False))
    subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 4k", str(place.pool / OVERLAY)], check=True, capture_output=True
    )
    record = json.loads((place.pool / RECORD).read_text())
    if at != "begun":
        subprocess.run(["qemu-img", "commit", "-q", "-d", "-f", "qcow2", str(place.pool / OVERLAY)], check=True)
    record["flat"] = "done" if at == "redefined" else "begun"
    (place.pool / RECORD).write_text(json.dumps(record))
    told = place.left(wish(cutover="poweroff"), vm)
    assert "put what the fix-up changed" in " ".join(told["steps"])
    assert place.there() == FLAT and place.image()[:4096] == bytes([7]) * 4096
    assert [disk["source"] for disk in told["domain"]["disks"]] == [str(place.pool / IMAGE)]
    assert not place.left(wish(cutover="poweroff"), vm)["changed"]


def test_the_owner_s_changes_of_the_domain_stay(place: VmPlace, hv: Any) -> None:
    vm = replace(TESTED, domain={}, final=True)
    source = place.new_source(wish(cutover="poweroff"))
    source.facts["memory_bytes"] = 120 * MIB
    place.made(wish(cutover="poweroff"), vm, source)
    there = hv.conn.domains["old1"].XMLDesc(0)
    more = "<disk type='file' device='disk'><source file='/x'/><target dev='sdz' bus='sata'/></disk></devices>"
    hv.conn.defineXMLFlags(re.sub("([mM]emory[^>]*>)[0-9]+<", r"\g<1>262144<", there).replace("</devices>", more))
    told = place.left(wish(cutover="poweroff"), vm)
    assert not told["changed"], told["steps"]
    assert len(told["domain"]["disks"]) == 2 and told["domain"]["memory_mib"] == 256


def test_an_image_that_a_guest_has_used_gets_no_fix_up(place: VmPlace, hv: Any) -> None:
    place.made(wish(cutover="poweroff"), VmWish("old1"))
    subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", "write 0 4k", str(place.pool / IMAGE)], check=True, capture_output=True
    )
    with pytest.raises(PreflightError, match="p2v-vm-image-changed"):
        place.left(wish(cutover="poweroff"), TESTED)
    assert place.there() == [IMAGE, IMAGE + ".manifest"]


def test_a_record_of_images_that_are_gone_says_nothing_of_new_ones(place: VmPlace) -> None:
    vm = replace(PLAIN, final=True)
    place.made(wish(cutover="poweroff"), vm)
    assert place.there() == FLAT
    for name in (IMAGE, IMAGE + ".manifest"):
        (place.pool / name).unlink()
    told = place.made(wish())
    assert place.there() == ALL and told["fixup"]["images"][0]["path"].endswith(OVERLAY)
