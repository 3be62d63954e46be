# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which other files an image means, told from its own bytes: of images that qemu-img made, and of some that it would not make."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import List, Tuple

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_import import (
    FOOT_BYTES,
    FORMATS,
    HEAD_BYTES,
    contained,
    refers_to,
)


def ends(path: Path) -> Tuple[bytes, bytes]:
    data = path.read_bytes()
    return data[:HEAD_BYTES], data[-FOOT_BYTES:]


def made(folder: Path, image_format: str, *options: str) -> Path:
    path = folder / ("x.%s" % image_format)
    subprocess.run(["qemu-img", "create", "-q", "-f", image_format, *options, str(path), "8M"], check=True)
    return path


@pytest.mark.parametrize("image_format", FORMATS)
def test_an_image_that_is_whole_means_no_other_file(tmp_path: Path, image_format: str) -> None:
    head, foot = ends(made(tmp_path, image_format))
    assert refers_to(image_format, head, foot) == []
    assert contained(head, foot) == (None if image_format == "raw" else image_format)


@pytest.mark.parametrize("subformat", ["monolithicSparse", "streamOptimized"])
def test_both_kinds_of_whole_vmdk_are_known(tmp_path: Path, subformat: str) -> None:
    raw = made(tmp_path, "raw")
    path = tmp_path / "whole.vmdk"
    argv = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=" + subformat, str(raw), str(path)]
    subprocess.run(argv, check=True)
    assert refers_to("vmdk", *ends(path)) == []


@pytest.mark.parametrize("image_format", ["qcow2", "vmdk"])
def test_a_backing_file_is_told_by_its_name(tmp_path: Path, image_format: str) -> None:
    below = made(tmp_path, image_format)
    path = tmp_path / "over"
    argv = ["qemu-img", "create", "-q", "-f", image_format, "-b", str(below), "-F", image_format, str(path)]
    subprocess.run(argv, check=True)
    (told,) = refers_to(image_format, *ends(path))
    assert str(below) in told
    if image_format == "qcow2":
        subprocess.run(
            ["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/shadow", str(path)], check=True
        )
        assert refers_to("qcow2", *ends(path)) == ["its backing file /etc/shadow"]


def test_a_qcow2_whose_data_is_elsewhere_is_not_whole(tmp_path: Path) -> None:
    path = made(tmp_path, "qcow2", "-o", "data_file=%s,data_file_raw=on" % (tmp_path / "data"))
    assert refers_to("qcow2", *ends(path)) == ["another file with its data"]


@pytest.mark.parametrize("subformat", ["monolithicFlat", "twoGbMaxExtentSparse"])
def test_the_descriptor_of_a_vmdk_means_its_extents(tmp_path: Path, subformat: str) -> None:
    path = made(tmp_path, "vmdk", "-o", "subformat=" + subformat)
    (told,) = refers_to("vmdk", *ends(path))
    assert told.startswith("its extent x-") and contained(*ends(path)) == "vmdk"


def vmdk(capacity: int, descriptor: bytes) -> bytes:
    """A sparse header with its descriptor at sector 4."""
    header = struct.pack("<4sIIQQQQ", b"KDMV", 1, 3, capacity, 128, 4, 20)
    return header.ljust(4 * 512, b"\0") + descriptor.ljust(20 * 512, b"\0")


EVIL: List[Tuple[str, bytes, str]] = [
    ("vmdk", b'# Disk DescriptorFile\nRW 8 FLAT "/etc/shadow" 0\n', "its extent /etc/shadow"),
    ("vmdk", b'version=1\nRW 8 FLAT "/etc/shadow" 0\n', "its extent /etc/shadow"),
    ("vmdk", b"nonsense", "extents"),
    ("vmdk", vmdk(0, b'RW 8 FLAT "/etc/shadow" 0\n'), "its extent /etc/shadow"),
    ("vmdk", vmdk(8, b'parentCID=ffffffff\nparentFileNameHint="/etc/shadow"\n'), "its parent /etc/shadow"),
    ("vmdk", vmdk(8, b"parentCID=12345678\n"), "a parent"),
    ("vmdk", b"COWD".ljust(512, b"\0"), "the disk that it has the differences to"),
    ("qcow2", struct.pack(">4sIQI", b"QFI\xfb", 3, 1 << 40, 10).ljust(512, b"\0"), "not at the beginning"),
    ("qcow2", struct.pack(">4sIQI", b"QFI\xfb", 2, 32, 11).ljust(32, b"\0") + b"/etc/\nshado", "/etc/?shado"),
    ("vpc", b"conectix".ljust(60, b"\0") + struct.pack(">I", 4).ljust(452, b"\0"), "differences"),
]


@pytest.mark.parametrize(("image_format", "head", "words"), EVIL)
def test_what_nobody_makes_by_chance_is_seen_through(image_format: str, head: bytes, words: str) -> None:
    assert words in " ".join(refers_to(image_format, head, b""))


def test_bytes_that_end_too_early_are_no_crash() -> None:
    for image_format in FORMATS:
        for head in (b"", b"QFI\xfb", b"KDMV", b"conectix", b"vhdxfile"):
            refers_to(image_format, head, head)
            contained(head, head)
