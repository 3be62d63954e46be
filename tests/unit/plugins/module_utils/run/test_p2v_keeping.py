# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading back beside the copy, with real images and real qemu-nbd: what is checked when, and that nothing escapes the check."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import image_server, nbd, p2v_image
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_manifest import Manifest, Piece
from ansible_collections.kvmops.fleet.plugins.module_utils.run import p2v_copy, p2v_keeping

from .p2v_source import MIB, FileSource
from .test_p2v import Place, wish

BESIDE, BEHIND = "reading back", "behind"


class Checks:
    """Each check of a chunk, in order: by whom, which, whether it was found wrong."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: List[Tuple[str, int, bool]] = []
        self._changed = threading.Condition()
        wrong = p2v_image.Image.wrong

        def noted(image: Any, client: Any, chunks: Any) -> Any:
            who = threading.current_thread().name
            found = []
            for chunk in chunks:
                bad = wrong(image, client, [chunk])
                found += bad
                with self._changed:
                    self.done.append((BESIDE if who == BESIDE else BEHIND, chunk, bool(bad)))
                    self._changed.notify_all()
            return found

        monkeypatch.setattr(p2v_image.Image, "wrong", noted)

    def of(self, chunk: int) -> List[Tuple[str, bool]]:
        return [(who, bad) for who, each, bad in self.done if each == chunk]

    def wait(self, what: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(what, 20), self.done


@pytest.fixture(name="place")
def fixture_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Copies in small portions, and follows as soon as there is a chunk."""
    monkeypatch.setattr(p2v_copy, "AT_ONCE", MIB)
    monkeypatch.setattr(p2v_copy, "PULSE_S", 0.01)
    monkeypatch.setattr(p2v_keeping, "WORTH_READING", 1)
    monkeypatch.setattr(p2v_keeping, "READER_EVERY_S", 0.0)
    return Place(tmp_path)


@pytest.fixture(name="checks")
def fixture_checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    return Checks(monkeypatch)


def held_at(source: FileSource, size: int, until: Callable[[], None]) -> None:
    """The source sends no more than about so many bytes before that."""

    def wait(word: str) -> None:
        if word == "read" and source.read_bytes >= size:
            source.before_request = lambda word: None
            until()

    source.before_request = wait


@pytest.mark.parametrize("image_format", ["qcow2", "raw"])
def test_what_is_on_the_medium_is_checked_while_more_comes(place: Place, checks: Checks, image_format: str) -> None:
    source = place.new_source(wish(format=image_format, connections=1))
    held_at(source, 4 * MIB, lambda: checks.wait(lambda: len({chunk for dummy, chunk, dummy in checks.done}) >= 4))
    told = place.go(wish(format=image_format, connections=1), source)
    place.expect(place.image("old1-sda." + image_format, image_format))
    beside = [chunk for who, chunk, dummy in checks.done if who == BESIDE]
    behind = [chunk for who, chunk, dummy in checks.done if who == BEHIND]
    assert {0, 1, 2} <= set(beside) and not {0, 1, 2} & set(behind), checks.done
    # Nothing is published that was not checked by one of the two.
    assert {chunk for dummy, chunk, dummy in checks.done} == {0, 1, 2, 3, 5, *range(8, 16), 24}
    assert not [each for each in checks.done if each[2]] and told["passes"][0]["verify_s"] >= 0


def test_what_the_storage_did_not_keep_is_found_beside_the_copy_and_mended(
    place: Place, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, left = nbd.Nbd.write, [1]

    def forgetful(self: Any, offset: int, data: bytes) -> None:
        if offset == MIB and left[0]:
            left[0] -= 1
            data = bytes(data[:-1]) + bytes([data[-1] ^ 1])
        write(self, offset, data)

    monkeypatch.setattr(nbd.Nbd, "write", forgetful)
    source = place.new_source(wish(connections=1))
    held_at(source, 4 * MIB, lambda: checks.wait(lambda: (BESIDE, 1, True) in checks.done))
    place.go(wish(connections=1), source)
    place.expect(place.image())
    assert checks.of(1)[0] == (BESIDE, True) and checks.of(1)[-1][1] is False


def test_what_is_written_again_is_checked_again(place: Place, checks: Checks, monkeypatch: pytest.MonkeyPatch) -> None:
    """The storage loses what a later pass writes to a chunk that was found good before."""
    source, write = place.new_source(wish(connections=1)), nbd.Nbd.write
    lost: List[int] = []

    def forgetful(self: Any, offset: int, data: bytes) -> None:
        if source.asked.count("written") and MIB <= offset < 2 * MIB and not lost:
            lost.append(offset)
            data = bytes([data[0] ^ 1]) + bytes(data[1:])
        write(self, offset, data)

    def busy() -> None:
        checks.wait(lambda: (BESIDE, 1, False) in checks.done)
        source.write("sda", MIB + 8192, b"later")

    monkeypatch.setattr(nbd.Nbd, "write", forgetful)
    held_at(source, 4 * MIB, busy)
    place.go(wish(connections=1), source)
    place.expect(place.image())
    told = [bad for dummy, bad in checks.of(1)]
    assert lost and told[:2] == [False, True] and told[-1] is False


def test_storage_that_cannot_be_read_beside_is_checked_behind(
    place: Place, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: List[str] = []

    def refused(path: str, image_format: str, socket: str) -> Any:
        asked.append(path)
        raise HostError("read", "this host", "Invalid argument")

    monkeypatch.setattr(image_server, "beside", refused)
    place.go(wish())
    place.expect(place.image())
    # Once for each pass.
    assert 1 <= len(asked) <= 2 and {who for who, dummy, dummy in checks.done} == {BEHIND}


def test_a_chunk_that_is_written_to_while_it_is_read_is_left_for_later(tmp_path: Path) -> None:
    image = p2v_image.Image(
        p2v_image.Paths(str(tmp_path), "old1", "sda", "raw"),
        "",
        "raw",
        Manifest({}, {3: (Piece(3 * MIB, 4096, "a" * 64),)}),
    )
    image.manifest.unverified.add(3)

    class Busy:
        def read(self, offset: int, length: int) -> bytes:
            image.manifest.take(3, [Piece(3 * MIB, 4096, "b" * 64)])
            return bytes(length)

    assert image.wrong(Busy(), [3]) == []  # type: ignore[arg-type]
    assert image.manifest.unverified == {3} and image.manifest.at(3)[0].sha256 == "b" * 64


class Disk:
    """An image as a keeper sees it."""

    def __init__(self, behind: int) -> None:
        self.manifest = type("Told", (), {"unverified": set(range(behind))})()
        self.checkpoints: List[bool] = []

    def checkpoint(self, client: Any, durable: bool) -> Any:
        self.checkpoints.append(durable)
        return set(self.manifest.unverified) if durable else set()


class Reader:
    def __init__(self) -> None:
        self.idle, self.given = True, []  # type: ignore[var-annotated]

    def follow(self, there: Dict[str, Any]) -> None:
        self.given.append({disk: len(chunks) for disk, chunks in there.items()})


@pytest.mark.parametrize(
    ("behind", "idle", "seconds", "durable", "given"),
    [
        (31, True, 4.0, False, []),
        (32, True, 0.9, False, []),
        (32, True, 1.0, True, [{"sda": 32}]),
        (32, False, 4.0, False, []),
        (32, False, 5.5, True, []),
        (1, True, 5.5, True, []),
    ],
)
def test_when_what_came_is_made_durable_and_read_back(
    behind: int, idle: bool, seconds: float, durable: bool, given: Any
) -> None:
    now, disk, reader = [100.0], Disk(behind), Reader()
    reader.idle = idle
    keeper = p2v_keeping.Keeper({"sda": disk}, {"sda": None}, reader, lambda: now[0])  # type: ignore[dict-item,arg-type]
    now[0] += seconds
    keeper.look()
    assert disk.checkpoints == [durable] and reader.given == given
