# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Image streams between two real processes: the far side's program is run by a real interpreter."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path
from typing import Callable, List, Sequence

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import far_side, files
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import Place
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.image import temporary_of


class Other(Place):
    """Another host, played by another process: what ssh would start there is started here."""

    def command(self, argv: Sequence[str]) -> Sequence[str]:
        return [sys.executable, *argv[1:]]


THERE = Other("kvm2", "root@kvm2")


@pytest.fixture(name="image")
def fixture_image(tmp_path: Path) -> Path:
    """5 GiB with three islands of data: at the start, across a chunk border, and at the very end."""
    path = tmp_path / "source.img"
    with open(path, "wb") as out:
        out.write(os.urandom(100_000))
        out.seek(far_side.CHUNK - 10)
        out.write(os.urandom(300_000))
        out.seek(5 * 1024**3 - 5)
        out.write(b"12345")
    return path


def test_a_sparse_image_arrives_whole_and_sparse(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.kvmops-part"
    pieces: List[int] = []
    sent = files.send(THERE, str(image), str(target), pieces.append)
    assert sent.data < 600_000 and sent.kept == 0, "holes were sent"
    assert sum(pieces) == sent.wire and sent.data < sent.wire < sent.data * 1.01
    assert target.stat().st_size == image.stat().st_size
    assert target.stat().st_blocks * 512 < 1_000_000
    assert target.stat().st_mode & 0o777 == 0o600
    with open(image, "rb") as one, open(target, "rb") as two:
        for offset in (0, far_side.CHUNK - 4096, 5 * 1024**3 - 4096):
            one.seek(offset), two.seek(offset)
            assert one.read(400_000) == two.read(400_000)


def test_digest_is_sha256_of_the_content_on_both_sides(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(os.urandom(5_000_000))
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert files.digest(THERE, str(path)) == expected
    assert far_side.digest(str(path)) == expected


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path, target = tmp_path / "x", tmp_path / "y"
    path.write_bytes(b"new")
    target.write_bytes(b"old")
    with pytest.raises(HostError, match="File exists"):
        files.publish(THERE, str(path), str(target))
    assert target.read_bytes() == b"old" and path.read_bytes() == b"new"


def test_publish_renames_with_the_rights_asked(tmp_path: Path) -> None:
    part, target = tmp_path / "x.kvmops-part", tmp_path / "image"
    part.write_bytes(b"data")
    files.publish(THERE, str(part), str(target), mode=0o640, owner=os.getuid(), group=os.getgid())
    assert target.read_bytes() == b"data" and not part.exists()
    assert target.stat().st_mode & 0o777 == 0o640


class Cut(Exception):
    """The sender dies."""


def cut_after(size: int) -> Callable[[int], None]:
    """An on_bytes that dies once so many bytes went out."""
    gone = [0]

    def count(piece: int) -> None:
        gone[0] += piece
        if gone[0] > size:
            raise Cut

    return count


def settled(path: Path) -> int:
    """The size of the notes once the far side, which outlives its sender, has written the last of them."""
    notes, sizes = Path(str(path) + far_side.NOTES), [-1]
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and (not notes.exists() or notes.stat().st_size != sizes[-1]):
        sizes.append(notes.stat().st_size if notes.exists() else -2)
        time.sleep(0.2)
    return sizes[-1]


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_copy_cut_short_goes_on_and_sends_next_to_nothing_twice(tmp_path: Path, part: float) -> None:
    path, target, size = tmp_path / "x", tmp_path / "y.kvmops-part", 60 * far_side.CHUNK
    path.write_bytes(os.urandom(size))
    with pytest.raises(Cut):
        files.send(THERE, str(path), str(target), cut_after(int(size * part)))
    settled(target)
    second = files.send(THERE, str(path), str(target), lambda piece: None)
    # The sender is killed with a part of its last chunk, and a pipe's content, under way.
    assert second.kept >= size * part - 2 * far_side.CHUNK
    assert second.data == size - second.kept
    assert target.read_bytes() == path.read_bytes()


def test_a_part_that_was_damaged_meanwhile_is_sent_again(tmp_path: Path) -> None:
    path, target = tmp_path / "x", tmp_path / "y.kvmops-part"
    path.write_bytes(os.urandom(10 * far_side.CHUNK))
    files.send(THERE, str(path), str(target), lambda piece: None)
    with open(target, "r+b") as out:
        out.seek(3 * far_side.CHUNK + 7)
        out.write(b"power cut")
    second = files.send(THERE, str(path), str(target), lambda piece: None)
    assert second.data == far_side.CHUNK and target.read_bytes() == path.read_bytes()


def test_a_source_that_changed_starts_anew(tmp_path: Path) -> None:
    path, target = tmp_path / "x", tmp_path / "y.kvmops-part"
    path.write_bytes(os.urandom(3 * far_side.CHUNK))
    files.send(THERE, str(path), str(target), lambda piece: None)
    path.write_bytes(os.urandom(2 * far_side.CHUNK))
    second = files.send(THERE, str(path), str(target), lambda piece: None)
    assert second.kept == 0 and target.read_bytes() == path.read_bytes()


def test_zeros_are_not_sent(tmp_path: Path) -> None:
    path, target = tmp_path / "x", tmp_path / "y.kvmops-part"
    path.write_bytes(bytes(8 * far_side.CHUNK) + b"end")
    sent = files.send(THERE, str(path), str(target), lambda piece: None)
    assert sent.data == 3 and target.read_bytes() == path.read_bytes()


def test_the_temporary_name_ends_as_the_far_side_demands() -> None:
    assert temporary_of("/pool/web1.qcow2") == "/pool/.web1.qcow2" + far_side.PART


def test_only_temporary_names_are_received(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(HostError, match="no name of a temporary file"):
        files.send(THERE, str(tmp_path / "x"), str(tmp_path / "y"), lambda piece: None)


def test_the_far_side_says_what_it_could_not_do(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="copy /etc/os-release to .* on kvm2: .*No such file or directory"):
        files.send(THERE, "/etc/os-release", str(tmp_path / "none" / "x.kvmops-part"), lambda size: None)


def test_look_tells_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"0" * 8192)
    seen = files.look(THERE, [str(tmp_path / "x"), str(tmp_path / "none"), "/nowhere/at/all"])
    here, missing, homeless = (seen[path] for path in sorted(seen, key=len))
    facts = {facts.path: facts for facts in (here, missing, homeless)}
    found = facts[str(tmp_path / "x")]
    assert found.exists and found.kind == "file" and found.size == 8192 and found.inode and found.fstype
    assert not facts[str(tmp_path / "none")].exists and facts[str(tmp_path / "none")].directory
    assert not facts["/nowhere/at/all"].directory


def test_names_that_look_like_shell_stay_names(tmp_path: Path) -> None:
    odd = tmp_path / "a'; touch pwned; '$(touch pwned2)"
    odd.write_bytes(b"x")
    assert files.digest(THERE, str(odd)) == hashlib.sha256(b"x").hexdigest()
    files.remove(THERE, str(odd))
    assert os.listdir(tmp_path) == []


def test_ssh_gets_every_word_quoted() -> None:
    command = Place("kvm2", "root@kvm2", 2222).command(["python3", "-c", "a b;c"])
    assert command[-1] == "python3 -c 'a b;c'"
    assert command[command.index("-p") + 1] == "2222"
    assert "-oStrictHostKeyChecking=yes" in command and "-oBatchMode=yes" in command


def test_a_setting_of_the_kernel_is_told_and_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting, secret = tmp_path / "setting", tmp_path / "secret"
    setting.write_text("1\n")
    secret.write_text("secret\n")
    monkeypatch.setattr(far_side, "SETTINGS", (str(setting),))
    seen = far_side.look([str(setting), str(secret), str(tmp_path / "none")])
    assert [facts.get("value") for facts in seen.values()] == ["1", None, None]
