# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real image files become real images, by real qemu-nbd; and what must not be touched is seen on real files and locks."""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import (
    image_server,
    p2v_attached,
    p2v_image,
    p2v_import_look,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_folder import holding
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError, PreflightError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import GONE, NONE, P2vWish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_import import ImportDisk
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_vm import VmWish
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v import was_left
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v import P2vJob
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_import import imported
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_look import left_already
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_world import World

MIB = 1024 * 1024
SIZE = 24 * MIB


class Place:
    """A folder with images that others made, and a pool."""

    def __init__(self, root: Path) -> None:
        self.root, self.pool, self.raw = root, root / "pool", root / "sda.img"
        self.pool.mkdir()
        noise = random.Random(5)
        with self.raw.open("wb") as file:
            file.write(noise.randbytes(3 * MIB + 4096))
            file.seek(9 * MIB + 512)
            file.write(noise.randbytes(MIB))
            file.truncate(SIZE)

    def converted(self, image_format: str, *options: str) -> Path:
        path = self.root / ("as.%s" % image_format)
        argv = ["qemu-img", "convert", "-f", "raw", "-O", image_format, *options, str(self.raw), str(path)]
        subprocess.run(argv, check=True)
        return path

    def go(
        self,
        disks: Sequence[ImportDisk],
        apply: bool = True,
        users: Optional[Dict[str, List[str]]] = None,
        before: Callable[[], Any] = lambda: None,
        **more: Any,
    ) -> Dict[str, Any]:
        """before: called between the look and the copy."""
        wish = P2vWish(
            "old1", "default", disks=tuple(each.disk for each in disks), cold=True, imports=tuple(disks), **more
        )
        with holding(wish.name, str(self.root / "run")) as folder:
            world = World(wish.name, wish.format, str(self.pool), folder.nbd, lambda told: None)
            with imported(wish, world, None, users or {}) as source:
                job = P2vJob(wish, world, source)  # type: ignore[arg-type]
                found = job.observe()
                plan = job.plan(found)
                before()
                outcome = job.apply(plan, found) if plan.changes and apply else None
                return {"steps": plan.words, "changed": plan.changes, **job.report(plan, found, outcome)}

    def refused(self, *disks: ImportDisk, **more: Any) -> List[str]:
        before = sorted(path.name for path in self.pool.iterdir())
        with pytest.raises(PreflightError) as caught:
            self.go(disks, **more)
        assert sorted(path.name for path in self.pool.iterdir()) == before
        return [each.id for each in caught.value.concerns]

    def image(self, disk: str = "sda", image_format: str = "qcow2") -> bytes:
        """What a guest would read."""
        path, raw = self.pool / ("old1-%s.%s" % (disk, image_format)), self.root / "back"
        subprocess.run(["qemu-img", "convert", "-f", image_format, "-O", "raw", str(path), str(raw)], check=True)
        return raw.read_bytes()


@pytest.fixture(name="place")
def fixture_place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def disk(path: Path, image_format: str = "raw", name: str = "sda") -> ImportDisk:
    return ImportDisk(str(path), image_format, name)


@pytest.mark.parametrize("image_format", ["raw", "qcow2", "vmdk", "vdi", "vhdx", "vpc"])
def test_an_image_of_any_format_is_the_same_disk_and_a_second_run_changes_nothing(
    place: Place, image_format: str
) -> None:
    path = place.raw if image_format == "raw" else place.converted(image_format)
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    looked = place.go([disk(path, image_format)], apply=False)
    assert looked["changed"] and not list(place.pool.iterdir())
    first = place.go([disk(path, image_format)])
    assert first["changed"] and first["power"] is None and first["pause_s"] is None
    assert place.image()[:SIZE] == place.raw.read_bytes() and not any(place.image()[SIZE:])
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    if image_format != "vhdx":
        assert first["metrics"]["bytes"] < 12 * MIB
    assert place.go([disk(path, image_format)])["steps"] == ()


@pytest.mark.parametrize("starts", [False, True])
def test_a_guest_is_on_an_overlay_until_it_starts_and_then_has_the_image_for_good(place: Place, starts: bool) -> None:
    """Without a hypervisor: its files, and what further runs do with them."""
    wish = P2vWish("old1", "default", disks=("sda",), cold=True, imports=(disk(place.raw),))
    vm = VmWish("old1", domain={"state": "running" if starts else "present", "networks": []}, final=starts)
    wish = replace(wish, cutover=GONE if starts else NONE)

    def run() -> Dict[str, Any]:
        with holding(wish.name, str(place.root / "run")) as folder:
            world = World(wish.name, wish.format, str(place.pool), folder.nbd, lambda told: None)
            if was_left(wish, left_already(wish, world)):  # type: ignore[arg-type]
                return told_of(P2vJob(wish, world, None, None, vm))
            with imported(wish, world, vm.domain, {}) as source:
                return told_of(P2vJob(wish, world, source, None, vm))  # type: ignore[arg-type]

    first = run()
    there = {path.name for path in place.pool.iterdir()}
    assert ("old1-sda.vm.qcow2" in there) is not starts
    assert first["changed"] and not any("not-rehearsed" in each for each in first["warnings"])
    assert not any(step.startswith("power") for step in first["steps"])
    if starts:
        # What the guest writes from now on is no reason to refuse, or to copy anything.
        image = str(place.pool / "old1-sda.qcow2")
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write 0 4k", image], check=True, capture_output=True)
        place.raw.unlink()
    second = run()
    assert not second["changed"] and second["left_already"] is starts


def told_of(job: P2vJob) -> Dict[str, Any]:
    found = job.observe()
    plan = job.plan(found)
    outcome = job.apply(plan, found) if plan.changes else None
    told = {"steps": plan.words, "changed": plan.changes, "warnings": plan.warnings}
    return {**told, **job.report(plan, found, outcome)}


def test_what_has_become_zeros_in_the_source_becomes_so_in_the_image(place: Place) -> None:
    place.go([disk(place.raw)])
    with place.raw.open("r+b") as file:
        file.truncate(2 * MIB)
        file.truncate(SIZE)
    told = place.go([disk(place.raw)])
    assert told["changed"] and place.image() == place.raw.read_bytes()
    assert place.go([disk(place.raw)])["steps"] == ()


def test_a_run_that_was_cut_short_is_gone_on_with(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*dummy: Any) -> None:
        raise HostError("publish", "this host", "cut short")

    with monkeypatch.context() as patch:
        patch.setattr(p2v_image.Image, "publish", cut)
        with pytest.raises(HostError, match="cut short"):
            place.go([disk(place.raw)])
    assert not (place.pool / "old1-sda.qcow2").exists()
    told = place.go([disk(place.raw)])
    assert "go on with" in told["steps"][0] and told["metrics"]["bytes"] == 0
    assert place.image() == place.raw.read_bytes()


def test_a_file_that_is_written_to_meanwhile_is_not_published(place: Place) -> None:
    def write() -> None:
        with place.raw.open("r+b") as file:
            file.seek(5 * MIB)
            file.write(b"new")

    with pytest.raises(HostError, match="was changed while it was copied"):
        place.go([disk(place.raw)], before=write)
    assert not (place.pool / "old1-sda.qcow2").exists()
    place.go([disk(place.raw)])
    assert place.image() == place.raw.read_bytes()


def test_no_backing_file_is_ever_read(place: Place) -> None:
    secret = place.root / "secret"
    secret.write_bytes(b"root:x:" * 100_000)
    os.utime(secret, (1, 1))
    over = place.root / "over.qcow2"
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(secret), str(over), str(SIZE)]
    subprocess.run(argv, check=True)
    # relatime: the first read of it after a change would be seen.
    os.utime(secret, (1, 1))
    assert place.refused(disk(over, "qcow2")) == ["p2v-import-chain"]
    flat = place.root / "flat.vmdk"
    flat.write_text('# Disk DescriptorFile\nversion=1\nRW 1000 FLAT "%s" 0\n' % secret, encoding="ascii")
    assert place.refused(disk(flat, "vmdk")) == ["p2v-import-chain"]
    assert secret.stat().st_atime == 1


def test_an_image_that_got_a_backing_file_after_the_look_still_does_not_read_it(place: Place) -> None:
    """The look and the opening are two moments; what opens it takes no backing file whatever the header says."""
    secret = place.root / "secret"
    secret.write_bytes(b"root:x:" * 100_000)
    over = place.root / "over.qcow2"
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(secret), str(over), str(SIZE)]
    subprocess.run(argv, check=True)
    node = image_server.node(str(over), "qcow2", False)
    with image_server.opened(str(over), "qcow2", str(place.root / "s"), 1, False, node) as clients:
        assert not any(clients[0].read(0, MIB))


def test_paths_that_lead_nowhere_or_to_something_else_are_refused_together(place: Place) -> None:
    loop = place.root / "loop"
    loop.symlink_to(loop)
    paths = [loop, place.root / "none", place.root, Path("/dev/null")]
    disks = [disk(path, "raw", "sd%s" % "abcd"[number]) for number, path in enumerate(paths)]
    assert place.refused(*disks) == ["p2v-import-path"] * 4


def test_one_file_by_two_names_and_the_target_itself_are_refused(place: Place) -> None:
    link = place.root / "link.img"
    link.hardlink_to(place.raw)
    assert place.refused(disk(place.raw), disk(link, name="sdb")) == ["p2v-import-twice"]
    place.go([disk(place.raw)])
    again = place.root / "again"
    again.symlink_to(place.pool / "old1-sda.qcow2")
    # Of another disk of the run as well: publishing that one would replace this one's source.
    assert place.refused(disk(again, "qcow2", "sda")) == ["p2v-import-target"]
    assert place.refused(disk(place.raw), disk(again, "qcow2", "sdb")) == ["p2v-import-target"]


def test_a_file_of_another_format_than_was_said_is_refused(place: Place) -> None:
    assert place.refused(disk(place.converted("qcow2"))) == ["p2v-import-other-format"]
    assert place.refused(disk(place.raw, "qcow2")) == ["p2v-import-unreadable"]
    assert place.refused(disk(place.converted("vdi"), "vhdx")) == ["p2v-import-other-format"]


def test_the_formats_of_qemu_img_are_those_that_it_tells() -> None:
    assert {"raw", "qcow2", "vmdk", "vdi", "vhdx", "vpc"} <= p2v_import_look.supported()
    several = "Supported image formats:\n  blkdebug raw\n  qcow2 vpc\n\nSee <https://qemu.org>\n"
    assert p2v_import_look.formats_in(several) == {"blkdebug", "raw", "qcow2", "vpc"}
    assert p2v_import_look.formats_in("Supported formats: raw\n\nSee\n") == {"raw"}


def test_what_is_wrong_with_source_and_target_is_told_together(place: Place) -> None:
    (place.pool / "old1-sda.qcow2").write_bytes(b"of somebody else")
    with place.raw.open("r+b"):
        assert place.refused(disk(place.raw)) == ["p2v-import-in-use", "p2v-image-exists"]


def test_an_encrypted_image_is_refused(place: Place) -> None:
    path = place.root / "secret.qcow2"
    secret = ["--object", "secret,id=s0,data=words"]
    options = ["-o", "encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=10"]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *secret, *options, str(path), "4M"], check=True)
    assert place.refused(disk(path, "qcow2")) == ["p2v-import-unreadable"]


def test_an_image_that_qemu_writes_to_is_refused(place: Place) -> None:
    path = place.converted("qcow2")
    with image_server.opened(str(path), "qcow2", str(place.root / "w"), 1, True):
        assert set(place.refused(disk(path, "qcow2"))) == {"p2v-import-in-use", "p2v-import-unreadable"}
    assert place.go([disk(path, "qcow2")])["changed"]


def test_a_file_that_somebody_writes_or_has_locked_is_refused(place: Place) -> None:
    with place.raw.open("r+b"):
        assert place.refused(disk(place.raw)) == ["p2v-import-in-use"]
    with place.raw.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert place.refused(disk(place.raw)) == ["p2v-import-in-use"]
    with place.raw.open("rb"):
        assert place.go([disk(place.raw)])["changed"]


def test_a_disk_of_a_domain_that_runs_is_refused_under_any_of_its_names(place: Place) -> None:
    link = place.root / "link.img"
    link.symlink_to(place.raw)
    with pytest.raises(PreflightError, match="is a disk of web1, which runs"):
        place.go([disk(link)], users={str(place.raw): ["web1"], "/nothing": ["web2"]})


def test_the_disk_that_this_machine_runs_from_is_in_use() -> None:
    mounted = [each for each in p2v_attached.mounts.mounts() if os.path.exists("/dev/" + each.device)]
    if not mounted:
        pytest.skip("nothing here is mounted from a device that /dev has")
    device = mounted[0].device
    assert any(mounted[0].point in each for each in p2v_attached.held("/dev/" + device))
    assert device in p2v_attached.lineage(device)
