# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""New images from images, with the real qemu-img: whole and under their name, or not there at all."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any, Dict

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import disk_image
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.source_image import WantedImage

MIB = 1024 * 1024
CONTENT = b"kvmops" * 1000


@pytest.fixture(name="raw")
def fixture_raw(tmp_path: Path) -> Path:
    path = tmp_path / "base.raw"
    path.write_bytes(CONTENT.ljust(MIB, b"\0"))
    return path


def img(*words: str) -> str:
    return subprocess.run(["qemu-img", *words], check=True, capture_output=True, text=True).stdout


def info(path: Path) -> Dict[str, Any]:
    told: Dict[str, Any] = json.loads(img("info", "--output=json", str(path)))
    return told


def test_a_look_tells_size_and_checksum(raw: Path) -> None:
    wanted = WantedImage(str(raw), "raw", "sha256:00")
    seen = disk_image.look(wanted)
    assert (seen.error, seen.size, seen.contains, seen.refers) == ("", MIB, None, ())
    assert seen.checksum == "sha256:" + hashlib.sha256(raw.read_bytes()).hexdigest()
    assert disk_image.look(WantedImage(str(raw), "raw")).checksum is None
    assert "No such file" in disk_image.look(WantedImage(str(raw) + "x", "raw")).error
    assert disk_image.look(WantedImage(str(raw.parent), "raw")).error
    assert disk_image.look(WantedImage(str(raw), "qcow2")).error


def test_what_an_image_names_is_told_and_not_opened(raw: Path, tmp_path: Path) -> None:
    top = tmp_path / "top.qcow2"
    img("create", "-q", "-f", "qcow2", "-b", "/nowhere", "-F", "raw", "-u", str(top), "1M")
    seen = disk_image.look(WantedImage(str(top), "qcow2", "sha256:00"))
    assert (seen.refers, seen.size, seen.checksum) == (("its backing file /nowhere",), 0, None)
    assert disk_image.look(WantedImage(str(top), "raw")).contains == "qcow2"


@pytest.mark.parametrize("form", ["qcow2", "raw"])
def test_a_copy_grows_and_is_for_root_alone(raw: Path, tmp_path: Path, form: str) -> None:
    made = tmp_path / "made"
    disk_image.make_from(disk_image.look(WantedImage(str(raw), "raw")), str(made), form, 3 * MIB)
    told = info(made)
    assert (told["format"], told["virtual-size"], made.stat().st_mode & 0o777) == (form, 3 * MIB, 0o600)
    img("convert", "-f", form, "-O", "raw", str(made), str(tmp_path / "read"))
    assert (tmp_path / "read").read_bytes() == CONTENT.ljust(3 * MIB, b"\0")
    assert sorted(os.listdir(tmp_path)) == ["base.raw", "made", "read"]


def test_an_image_that_changed_since_the_look_is_not_used(raw: Path, tmp_path: Path) -> None:
    seen = disk_image.look(WantedImage(str(raw), "raw"))
    raw.write_bytes(b"other".ljust(MIB, b"\0"))
    with pytest.raises(HostError, match="changed meanwhile"):
        disk_image.make_from(seen, str(tmp_path / "made"), "raw", MIB)
    assert os.listdir(tmp_path) == ["base.raw"]


def test_all_or_none(raw: Path, tmp_path: Path) -> None:
    """The second name is taken: the first one is not given either, and what was there stays."""
    (tmp_path / "taken").write_text("precious", encoding="utf-8")
    copies = [
        disk_image.Copy(["-f", "raw", "--", str(raw)], str(tmp_path / name), "qcow2") for name in ("free", "taken")
    ]
    with pytest.raises(HostError, match="File exists"):
        disk_image.copy(copies, "copy two disks", lambda: None)
    assert sorted(os.listdir(tmp_path)) == ["base.raw", "taken"]
    assert (tmp_path / "taken").read_text(encoding="utf-8") == "precious"


def test_rest_of_a_killed_run_is_replaced_and_a_running_one_left_alone(raw: Path, tmp_path: Path) -> None:
    part = tmp_path / ".made.kvmops-part"
    part.write_bytes(b"rest" * MIB)
    seen = disk_image.look(WantedImage(str(raw), "raw"))
    with part.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(HostError, match="another task is writing"):
            disk_image.make_from(seen, str(tmp_path / "made"), "raw", MIB)
    assert part.stat().st_size == 4 * MIB
    disk_image.make_from(seen, str(tmp_path / "made"), "raw", MIB)
    assert (tmp_path / "made").read_bytes() == raw.read_bytes() and not part.exists()


def test_a_chain_has_to_say_its_formats(raw: Path, tmp_path: Path) -> None:
    top, silent = tmp_path / "top", tmp_path / "silent"
    img("create", "-q", "-f", "qcow2", "-b", str(raw), "-F", "raw", str(top))
    assert disk_image.chain(str(top), "qcow2") == ["qcow2", "raw"]
    img("create", "-q", "-f", "qcow2", "-b", str(raw), "-F", "raw", str(silent))
    # The header extension with the backing format becomes one that QEMU does not know.
    silent.write_bytes(silent.read_bytes().replace(b"\xe2\x79\x2a\xca", b"\xe2\x79\x2a\xcb", 1))
    with pytest.raises(HostError, match="does not say which format"):
        disk_image.chain(str(silent), "qcow2")
