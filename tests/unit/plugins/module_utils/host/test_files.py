# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Image streams between two real processes: the far side's program is run by a real interpreter."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import List, Sequence

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import far_side, files
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import Place, run
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError


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
    target = tmp_path / "part"
    pieces: List[int] = []
    sent = files.send(THERE, str(image), str(target), pieces.append)
    assert sent < 600_000, "holes were sent"
    assert sum(pieces) >= sent
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
        files.send(THERE, str(path), str(target), lambda size: None)
    with pytest.raises(HostError, match="File exists"):
        files.publish(THERE, str(path), str(target))
    assert target.read_bytes() == b"old" and path.read_bytes() == b"new"


def test_publish_renames_with_the_rights_asked(tmp_path: Path) -> None:
    part, target = tmp_path / "part", tmp_path / "image"
    part.write_bytes(b"data")
    files.publish(THERE, str(part), str(target), mode=0o640, owner=os.getuid(), group=os.getgid())
    assert target.read_bytes() == b"data" and not part.exists()
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_broken_stream_leaves_no_partial_file(tmp_path: Path) -> None:
    target = tmp_path / "part"
    head = files._program() + files._request("receive", path=str(target))
    stream = head + far_side.RECORD.pack(0, 1000) + b"only this"
    done = run(["python3", "-c", files._BOOTSTRAP], THERE, stdin=stream)
    assert "ended early" in done.out
    assert not target.exists()


def test_the_far_side_says_what_it_could_not_do(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="copy /etc/os-release to .* on kvm2: .*No such file or directory"):
        files.send(THERE, "/etc/os-release", str(tmp_path / "none" / "part"), lambda size: None)


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
