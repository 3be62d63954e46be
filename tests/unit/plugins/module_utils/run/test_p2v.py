# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hot P2V from a source whose disks are files into real images, by real qemu-nbd: what is copied, when, and what is refused."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import threading
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import nbd, p2v_agent, p2v_image
from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_folder import holding
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge, HostError, PreflightError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import P2vWish, Takeover
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v import was_left
from ansible_collections.kvmops.fleet.plugins.module_utils.run import p2v_rounds
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v import P2vJob
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_look import left_already
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_world import World

from .p2v_source import MIB, FileSource

SIZE = 24 * MIB + 4096
# Holes of several shapes: a chunk used in part, two pieces in one chunk, the end of the disk.
USED = [[0, 3 * MIB + 4096], [5 * MIB + 65536, 4096], [5 * MIB + 131072, 8192], [8 * MIB, 8 * MIB], [24 * MIB, 4096]]


class Place:
    """A source, a pool and what a run between them did."""

    def __init__(self, root: Path) -> None:
        self.root, self.pool = root, root / "pool"
        self.pool.mkdir()
        disk = root / "sda"
        noise = random.Random(7)
        with disk.open("wb") as file:
            file.write(noise.randbytes(4 * MIB) + bytes(MIB) + b"text " * (MIB // 5) + noise.randbytes(12 * MIB))
            file.truncate(SIZE - 4096)
            file.seek(SIZE - 4096)
            file.write(noise.randbytes(4096))
        self.disks, self.used = {"sda": disk}, {"sda": USED}
        self.source: Optional[FileSource] = None
        self.told: List[Any] = []

    def new_source(self, wish: P2vWish) -> FileSource:
        self.source = FileSource(self.disks, wish.run, self.used)
        return self.source

    def go(self, wish: P2vWish, source: Optional[FileSource] = None, apply: bool = True) -> Dict[str, Any]:
        source = source or self.new_source(wish)
        with holding(wish.name, str(self.root / "run")) as folder, p2v_agent.listening(folder.socket) as server:
            world = World(wish.name, wish.format, str(self.pool), folder.nbd, self.told.append)
            source.dial(folder.socket, wish.connections)
            agent = p2v_agent.awaited(server, wish.run, wish.connections, 10)
            job = P2vJob(wish, world, agent)
            try:
                found = job.observe()
                plan = job.plan(found)
                outcome = job.apply(plan, found) if plan.changes and apply else None
                return {"steps": plan.words, "changed": plan.changes, **job.report(plan, found, outcome)}
            finally:
                agent.bye()
                source.join()

    def world(self, wish: P2vWish) -> World:
        return World(wish.name, wish.format, str(self.pool), "", self.told.append)

    def image(self, name: str = "old1-sda.qcow2", image_format: str = "qcow2") -> bytes:
        """What a guest would read, by a program that is not ours."""
        raw = self.root / "read-back"
        subprocess.run(
            ["qemu-img", "convert", "-f", image_format, "-O", "raw", str(self.pool / name), str(raw)], check=True
        )
        return raw.read_bytes()

    def expect(self, content: bytes, name: str = "sda") -> None:
        disk = self.disks[name].read_bytes()
        assert len(content) == len(disk)
        for offset, length in self.used[name]:
            assert content[offset : offset + length] == disk[offset : offset + length], offset

    def there(self) -> List[str]:
        return sorted(path.name for path in self.pool.iterdir())


@pytest.fixture(name="place")
def fixture_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    # These sources answer at once or never.
    monkeypatch.setattr(p2v_rounds, "QUIET_S", 0.2)
    return Place(tmp_path)


def wish(**options: Any) -> P2vWish:
    return P2vWish(name="old1", pool="default", **options)


@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
def test_what_is_used_becomes_an_image_with_its_manifest(place: Place, image_format: str) -> None:
    told = place.go(wish(format=image_format))
    content = place.image("old1-sda." + image_format, image_format)
    place.expect(content)
    used = b"".join(content[offset : offset + length] for offset, length in USED)
    assert content.count(0) >= SIZE - len(used), "what is not used was copied"
    assert place.there() == ["old1-sda." + image_format, "old1-sda.%s.manifest" % image_format]
    lines = [json.loads(line) for line in (place.pool / place.there()[1]).read_text().splitlines()]
    assert lines[0]["disk"]["serial"] == "SERIAL-sda"
    for dummy, pieces in lines[1:]:
        for offset, length, digest in pieces:
            assert hashlib.sha256(content[offset : offset + length]).hexdigest() == digest
    assert told["changed"] and told["metrics"]["bytes"] == sum(length for dummy, length in USED)
    assert told["cannot_freeze"] == ["/boot/efi"]
    assert place.source and not place.source.frozen


def test_a_second_run_with_nothing_new_changes_nothing_and_reads_hashes_only(place: Place) -> None:
    place.go(wish())
    before = (place.pool / "old1-sda.qcow2").stat()
    told = place.go(wish())
    assert not told["changed"] and told["steps"] == ()
    assert place.source and place.source.read_bytes == 0 and place.source.hashed_bytes > 0
    after = (place.pool / "old1-sda.qcow2").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert "freeze" not in place.source.asked


def test_a_second_image_brings_only_what_has_changed(place: Place) -> None:
    place.go(wish())
    source = place.new_source(wish())
    source.write("sda", 9 * MIB + 512, b"new" * 100)
    source.write("sda", 12 * MIB, bytes(MIB))
    told = place.go(wish(), source)
    place.expect(place.image())
    assert source.read_bytes < 2 * MIB
    assert "2 MiB of sda differ" in told["steps"][0]


def test_a_look_and_a_check_touch_nothing(place: Place) -> None:
    told = place.go(wish(gather_only=True))
    assert told["discovery"]["hostname"] == "old1" and not told["changed"] and place.there() == []
    assert place.source and set(place.source.asked) == {"describe", "limit", "map", "bye"}
    told = place.go(wish(cutover="poweroff"), apply=False)
    assert told["steps"][-2:] == ("give the finished images their names", "power the source off")
    assert place.there() == [] and place.source and not place.source.off and "freeze" not in place.source.asked


def test_what_is_written_meanwhile_is_copied_in_further_rounds(place: Place) -> None:
    source = place.new_source(wish(max_downtime_s=1.0))
    noise = random.Random(3)
    left = [3]

    def busy(word: str) -> None:
        if word == "written" and left[0]:
            left[0] -= 1
            for dummy in range(5):
                source.write("sda", 8 * MIB + noise.randrange(8 * MIB - 9000), noise.randbytes(9000))
            source.write("sda", 20 * MIB, noise.randbytes(100))

    source.before_request = busy
    place.used["sda"] = [*USED[:-1], [20 * MIB, 100], USED[-1]]
    told = place.go(wish(max_downtime_s=1.0), source)
    place.expect(place.image())
    assert told["passes"][0]["rest_bytes"] > 0 and left == [0]
    assert told["passes"][-1]["what"] == "last" and told["pause_s"] > 0


def test_what_is_written_at_the_last_moment_is_in_the_image(place: Place) -> None:
    source = place.new_source(wish())
    source.before_request = lambda word: source.write("sda", 2 * MIB, b"at the freeze") if word == "freeze" else None
    place.go(wish(), source)
    assert place.image()[2 * MIB :].startswith(b"at the freeze")


def test_lost_events_are_made_good_by_hashes(place: Place) -> None:
    source = place.new_source(wish())

    def unseen(word: str) -> None:
        if word == "written" and not source.asked.count("digest") and source.asked.count("written") == 1:
            with source.disks["sda"].open("r+b") as file:
                file.seek(10 * MIB)
                file.write(b"nobody told")
            source.lost = 5

    source.before_request = unseen
    place.go(wish(), source)
    assert place.image()[10 * MIB :].startswith(b"nobody told")


@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
def test_a_run_that_was_cut_short_is_gone_on_with(place: Place, image_format: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("%s.AT_ONCE" % p2v_rounds.Copier.__module__, MIB)
    source = place.new_source(wish(format=image_format))

    def cut(word: str) -> None:
        if word == "read" and source.read_bytes > 6 * MIB:
            source.die()

    source.before_request = cut
    with pytest.raises(HostError, match="connection ended|reset|Broken pipe"):
        place.go(wish(format=image_format), source)
    assert not [name for name in place.there() if not name.startswith(".")], "nothing may look finished"
    again = place.new_source(wish(format=image_format))
    told = place.go(wish(format=image_format), again)
    place.expect(place.image("old1-sda." + image_format, image_format))
    assert again.read_bytes <= sum(length for dummy, length in USED) - 5 * MIB
    assert "go on with" in told["steps"][0]


def test_bytes_that_were_spoilt_on_the_way_are_refused(place: Place) -> None:
    source = place.new_source(wish())
    source.spoil = lambda disk, offset, data: b"x" + data[1:]
    with pytest.raises(HostError, match="SHA-256 differs"):
        place.go(wish(), source)
    assert not [name for name in place.there() if not name.startswith(".")]


@pytest.mark.parametrize("times", [1, 1000])
def test_storage_that_does_not_keep_what_was_written_is_found_out(place: Place, monkeypatch: Any, times: int) -> None:
    write, left = nbd.Nbd.write, [times]

    def forgetful(self: Any, offset: int, data: bytes) -> None:
        if offset == 9 * MIB and left[0]:
            left[0] -= 1
            data = bytes(data[:-1]) + bytes([data[-1] ^ 1])
        write(self, offset, data)

    monkeypatch.setattr(nbd.Nbd, "write", forgetful)
    if times == 1:
        place.go(wish())
        place.expect(place.image())
        return
    with pytest.raises(HostError, match="at byte %d read back as something else" % (9 * MIB)):
        place.go(wish())
    assert not [name for name in place.there() if not name.startswith(".")]


def test_a_read_error_names_disk_and_offset(place: Place) -> None:
    source = place.new_source(wish())
    source.unreadable = 9 * MIB + 5
    with pytest.raises(HostError, match="of sda at byte %d on the source: Input/output error" % (9 * MIB)):
        place.go(wish(), source)
    assert not [name for name in place.there() if not name.startswith(".")]


def test_an_unfinished_image_that_was_damaged_is_mended_from_the_source(place: Place) -> None:
    source = place.new_source(wish(format="raw"))
    source.before_request = lambda word: source.die() if word == "freeze" else None
    with pytest.raises(HostError):
        place.go(wish(format="raw"), source)
    with (place.pool / ".old1-sda.raw.part").open("r+b") as file:
        file.seek(9 * MIB)
        file.write(b"spoilt")
    place.go(wish(format="raw"))
    place.expect(place.image("old1-sda.raw", "raw"))
    assert place.source and 0 < place.source.read_bytes <= 2 * MIB


def test_an_image_that_a_machine_wrote_to_is_not_touched(place: Place) -> None:
    place.go(wish())
    image = place.pool / "old1-sda.qcow2"
    subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 4096", str(image)], check=True, stdout=subprocess.DEVNULL
    )
    seen = image.stat()
    with pytest.raises(PreflightError, match="p2v-image-changed"):
        place.go(wish())
    assert image.stat().st_mtime_ns == seen.st_mtime_ns


def test_a_file_of_that_name_is_not_touched(place: Place) -> None:
    (place.pool / "old1-sda.qcow2").write_text("mine")
    with pytest.raises(PreflightError, match="p2v-image-exists"):
        place.go(wish())
    assert (place.pool / "old1-sda.qcow2").read_text() == "mine"


def test_another_disk_of_the_same_name_is_refused(place: Place) -> None:
    place.go(wish())
    source = place.new_source(wish())
    source.serials["sda"] = "ANOTHER"
    with pytest.raises(PreflightError, match="p2v-other-disk"):
        place.go(wish(), source)
    with pytest.raises(
        PreflightError, match="p2v-serial-differs.*p2v-disk-missing|p2v-disk-missing.*p2v-serial-differs"
    ):
        place.go(wish(serials={"sda": "X"}, disks=("sda", "sdz")))


def test_a_disk_that_grows_or_a_restart_meanwhile_ends_the_run(place: Place) -> None:
    source = place.new_source(wish())
    source.before_request = lambda word: source.grow("sda", SIZE + MIB) if word == "written" else None
    with pytest.raises(HostError, match="bytes now and had"):
        place.go(wish(), source)
    source.grow("sda", SIZE)
    source = place.new_source(wish())

    def restarted(word: str) -> None:
        if word == "written":
            source.boot_id = "boot-2"

    source.before_request = restarted
    with pytest.raises(HostError, match="started anew"):
        place.go(wish(), source)
    place.go(wish())
    place.expect(place.image())


def test_a_source_that_writes_more_than_is_allowed_is_given_up_and_what_came_is_kept(place: Place) -> None:
    source = place.new_source(wish(max_downtime_s=0.01))
    source.before_request = lambda word: source.write("sda", 8 * MIB, b"w" * MIB) if word == "written" else None
    with pytest.raises(CannotConverge, match="MiB remain"):
        place.go(wish(max_downtime_s=0.01), source)
    assert "freeze" not in source.asked
    place.go(wish())
    assert place.source and place.source.read_bytes <= 2 * MIB
    place.expect(place.image())


def test_power_off_is_the_last_thing_and_a_second_run_knows(place: Place) -> None:
    told = place.go(wish(cutover="poweroff", services=("web",)))
    source = place.source
    assert source and source.off and source.frozen and source.services == {"web": False}
    assert source.asked[-1] == "poweroff" and told["power"] == "off"
    world = place.world(wish())
    assert was_left(wish(cutover="poweroff"), left_already(wish(cutover="poweroff"), world))
    assert not was_left(wish(), left_already(wish(), world))
    assert not was_left(wish(cutover="poweroff", disks=("sdb",)), left_already(wish(cutover="poweroff"), world))


@pytest.mark.parametrize(
    "options", [{"cutover": "poweroff"}, {"cutover": "freeze", "takeover": Takeover(("/bin/true",), 5)}]
)
def test_a_source_that_cannot_be_powered_off_is_thawed_and_not_called_left(place: Place, options: Any) -> None:
    source = place.new_source(wish(**options))
    source.refuses = "poweroff"
    with pytest.raises(
        HostError,
        match="power it off on the source: No such file.*" + ("VM serves" if "takeover" in options else "again"),
    ):
        place.go(wish(**options), source)
    assert not source.frozen
    assert not was_left(wish(cutover=options["cutover"]), left_already(wish(), place.world(wish())))


TAKEOVER = Takeover(("/bin/true",), 5)


@pytest.mark.parametrize("options", [{"cutover": "poweroff"}, {"cutover": "freeze", "takeover": TAKEOVER}])
def test_a_source_that_answers_after_it_was_to_go_off_is_told_of_and_not_called_left(
    place: Place, monkeypatch: Any, options: Any
) -> None:
    monkeypatch.setattr(p2v_rounds, "OFF_WITHIN_S", 0.5)
    monkeypatch.setattr(p2v_rounds, "QUIET_S", 30.0)
    source = place.new_source(wish(services=("web",), **options))
    source.stays_on = True
    with pytest.raises(HostError, match="answers still after.*" + ("VM serves" if "takeover" in options else "again")):
        place.go(wish(services=("web",), **options), source)
    assert source.asked.count("alive") > 2 and not source.frozen and source.services == {"web": True}
    assert not was_left(wish(cutover=options["cutover"]), left_already(wish(), place.world(wish())))


@pytest.mark.parametrize("options", [{"cutover": "poweroff"}, {"cutover": "freeze", "takeover": TAKEOVER}])
def test_a_source_of_which_nobody_knows_whether_it_goes_off_is_not_called_left(place: Place, options: Any) -> None:
    source = place.new_source(wish(**options))
    source.mute = True
    with pytest.raises(HostError, match="power it off on the source: the agent's connection ended.*Look at"):
        place.go(wish(**options), source)
    assert not was_left(wish(cutover=options["cutover"]), left_already(wish(), place.world(wish())))


def test_the_takeover_runs_while_the_source_stands_still_and_then_it_is_off(place: Place) -> None:
    flag = place.root / "vm-came-up"
    takeover = Takeover(("/bin/cp", str(place.pool / "old1-sda.qcow2"), str(flag)), 10)
    place.go(wish(cutover="stop", services=("web",), takeover=takeover))
    assert flag.exists() and place.source and place.source.off and place.source.frozen


@pytest.mark.parametrize(("command", "said"), [(("/bin/false",), "exit 1"), (("/bin/sleep", "60"), "no end after 1")])
def test_the_source_serves_again_when_the_takeover_fails(place: Place, command: Any, said: str) -> None:
    with pytest.raises(HostError, match=said):
        place.go(wish(cutover="stop", services=("web",), takeover=Takeover(command, 1)))
    source = place.source
    assert source and not source.off and not source.frozen and source.services == {"web": True}
    assert not was_left(wish(cutover="stop"), left_already(wish(), place.world(wish())))


def test_a_watchdog_that_thawed_makes_the_last_round_void(place: Place) -> None:
    source = place.new_source(wish(cutover="poweroff"))
    source.thawed_by_itself = True
    with pytest.raises(HostError, match="watchdog thawed"):
        place.go(wish(cutover="poweroff"), source)
    assert not source.off and not [name for name in place.there() if not name.startswith(".")]


def test_a_freeze_that_lasts_too_long_is_ended(place: Place, monkeypatch: Any) -> None:
    monkeypatch.setattr(p2v_rounds, "FLOOR_S", 0.0)
    source = place.new_source(wish(max_downtime_s=1.0))
    never = threading.Event()

    def stuck(word: str) -> None:
        if word == "freeze":
            source.write("sda", 0, b"late")
        elif word == "read" and source.frozen:
            never.wait(5)

    source.before_request = stuck
    with pytest.raises(HostError, match="stood still for"):
        place.go(wish(max_downtime_s=1.0), source)
    assert not source.frozen


def test_many_small_writes_to_a_chunk_read_it_back_once(place: Place, monkeypatch: Any) -> None:
    """Farther from each other than what is read in one go; some lie over what was not used before."""
    reads: List[int] = []
    really = nbd.Nbd.read
    monkeypatch.setattr(
        nbd.Nbd, "read", lambda self, offset, length: (reads.append(offset // MIB), really(self, offset, length))[1]
    )
    source = place.new_source(wish())

    def busy(word: str) -> None:
        if word == "written" and "freeze" not in source.asked:
            reads.clear()
            for offset in range(0, MIB, 64 * 1024):
                source.write("sda", 5 * MIB + offset, b"new" * 1000)
                source.write("sda", 9 * MIB + offset + 512, b"new" * 1000)

    source.before_request = busy
    place.go(wish(max_passes=1), source)
    place.used["sda"] = [*USED, *([chunk * MIB + k * 65536, 3512] for chunk in (5, 9) for k in range(16))]
    content = place.image()
    place.expect(content)
    lines = [json.loads(line) for line in (place.pool / "old1-sda.qcow2.manifest").read_text().splitlines()]
    for dummy, pieces in lines[1:]:
        for offset, length, digest in pieces:
            assert hashlib.sha256(content[offset : offset + length]).hexdigest() == digest
    # Once to join the pieces, once to verify them.
    assert reads.count(9) == 2, reads


def test_two_disks_become_two_images(place: Place) -> None:
    other = place.root / "sdb"
    other.write_bytes(random.Random(9).randbytes(3 * MIB))
    place.disks["sdb"], place.used["sdb"] = other, [[0, 3 * MIB]]
    told = place.go(wish(connections=3))
    place.expect(place.image())
    place.expect(place.image("old1-sdb.qcow2"), "sdb")
    assert [image["disk"] for image in told["images"]] == ["sda", "sdb"]


def test_a_second_run_at_the_same_time_is_refused(place: Place) -> None:
    with holding("old1", str(place.root / "run")), pytest.raises(CannotConverge, match="another run"):
        place.go(wish())


def test_a_pool_without_room_is_refused_before_anything_is_written(place: Place, monkeypatch: Any) -> None:
    monkeypatch.setattr("%s.p2v_target.free_bytes" % p2v_image.__package__, lambda folder: 8 * MIB)
    with pytest.raises(PreflightError, match="p2v-target-space"):
        place.go(wish())
    assert place.there() == []
