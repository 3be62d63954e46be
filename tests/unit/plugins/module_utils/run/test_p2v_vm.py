# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Overlays over copied disks: made behind the images, thrown away before these change, and never when a guest wrote to them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import p2v_agent
from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_folder import holding
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError, PreflightError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import P2vWish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_vm import VmWish
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v import P2vJob
from ansible_collections.kvmops.fleet.plugins.module_utils.run.p2v_world import World

from .p2v_source import MIB, FileSource
from .test_p2v import Place, wish

# Without a fix-up, which needs libguestfs; without a hypervisor the domain itself is left out.
PLAIN = VmWish("old1", domain={})
IMAGE, OVERLAY, RECORD = "old1-sda.qcow2", "old1-sda.vm.qcow2", "old1.vm.json"
ALL = sorted([IMAGE, IMAGE + ".manifest", OVERLAY, RECORD])


class VmPlace(Place):
    def made(
        self, asked: P2vWish, vm: VmWish = PLAIN, source: Optional[FileSource] = None, apply: bool = True
    ) -> Dict[str, Any]:
        source = source or self.new_source(asked)
        with holding(asked.name, str(self.root / "run")) as folder, p2v_agent.listening(folder.socket) as server:
            world = World(asked.name, asked.format, str(self.pool), folder.nbd, self.told.append)
            source.dial(folder.socket, asked.connections)
            agent = p2v_agent.awaited(server, asked.run, asked.connections, 10)
            try:
                return self.job(P2vJob(asked, world, agent, None, vm), apply)
            finally:
                agent.bye()
                source.join()

    def left(self, asked: P2vWish, vm: VmWish = PLAIN) -> Dict[str, Any]:
        """A run for a source that was left."""
        return self.job(P2vJob(asked, self.world(asked), None, None, vm), True)

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
def fixture_place(tmp_path: Path) -> Iterator[VmPlace]:
    yield VmPlace(tmp_path)


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
    assert set(head["machine"]) == {"memory_bytes", "cpus", "root", "firmware", "disks", "interfaces"}
