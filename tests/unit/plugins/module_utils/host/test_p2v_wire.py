# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What comes from the agent is checked before anything is done with it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import struct
import zlib
from typing import Any, Iterator, List, Tuple

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import p2v_wire, zstd
from ansible_collections.kvmops.fleet.plugins.module_utils.host.p2v_wire import Channel
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError

MIB = 1024 * 1024


def frame(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">cI", kind, len(payload)) + payload


def told(**said: Any) -> bytes:
    return frame(b"j", json.dumps(said).encode())


def piece(offset: int, data: bytes, coding: int, coded: bytes, digest: bytes = b"", length: int = -1) -> bytes:
    digest = digest or hashlib.sha256(data).digest()
    return frame(b"c", struct.pack(">HQIB32s", 0, offset, len(data) if length < 0 else length, coding, digest) + coded)


@pytest.fixture(name="ends")
def fixture_ends() -> Iterator[Tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    channel = Channel(ours, "old1")
    yield channel, theirs
    channel.close()
    theirs.close()


def fetched(ends: Tuple[Channel, socket.socket], *frames: bytes) -> List[p2v_wire.Piece]:
    channel, theirs = ends
    theirs.sendall(b"".join(frames))
    theirs.shutdown(socket.SHUT_WR)
    return list(channel.fetch("read", "sda", [(0, MIB)]))


TEXT = b"some text of a disk " * 1000
# By the program zstd, level 1; the other one, level 19, holds 4 MiB of zeros.
PACKED = base64.b64decode("KLUv/QRI5QAAoHNvbWUgdGV4dCBvZiBhIGRpc2sgAQASnNsnE9oseew=")
BOMB = base64.b64decode(
    "KLUv/QRoTAAACAABAPz/ORACAgAQAAIAEAACABAAAgAQAAIAEAACABAAAgAQAAIAEAACABAAAgAQAAIAEAACABAAAgAQAAIAEA"
    "ACABAAAgAQAAIAEAACABAAAgAQAAIAEAACABAAAgAQAAIAEAACABAAAgAQAAIAEAACABAAAgAQAAIAEAACABAAAwAQACidvHw="
)


@pytest.mark.parametrize(
    ("coding", "data", "coded"),
    [(0, TEXT, TEXT), (1, TEXT, zlib.compress(TEXT)), (2, bytes(4096), b""), (3, TEXT, PACKED)],
)
def test_every_coding_is_undone(ends: Any, coding: int, data: bytes, coded: bytes) -> None:
    (found,) = fetched(ends, piece(512, data, coding, coded), told(id=1, ok={"sent": 1}))
    assert (found.offset, found.data) == (512, data)
    assert coding in p2v_wire.CODINGS


@pytest.mark.parametrize(
    "wrong",
    [
        piece(0, TEXT, 0, TEXT[:-1] + b"x"),
        piece(0, TEXT, 0, TEXT[:-1]),
        piece(0, TEXT, 1, zlib.compress(TEXT + b"more"), digest=hashlib.sha256(TEXT).digest()),
        piece(0, TEXT, 1, b"no stream"),
        piece(0, TEXT, 2, b""),
        piece(0, TEXT, 3, PACKED[:-3]),
        piece(0, TEXT, 3, b"no frame"),
        piece(0, TEXT[:-5], 3, PACKED),
        piece(0, TEXT, 9, TEXT),
    ],
)
def test_a_piece_that_is_not_what_was_read_is_refused(ends: Any, wrong: bytes) -> None:
    with pytest.raises(HostError, match="SHA-256 differs"):
        fetched(ends, wrong)


HASHES = [hashlib.sha256(TEXT[at : at + 4096]).digest() for at in range(0, len(TEXT), 4096)]


def digested(ends: Any, coded: bytes, unit: int) -> List[p2v_wire.Piece]:
    channel, theirs = ends
    theirs.sendall(piece(512, TEXT, 4, coded) + told(id=1, ok={"sent": 1}))
    return list(channel.fetch("digest", "sda", [(512, len(TEXT))], unit))


def test_a_digest_has_the_hashes_of_its_parts_when_they_were_asked_for(ends: Any) -> None:
    (found,) = digested(ends, b"".join(HASHES), 4096)
    assert found.data is None and list(found.parts) == HASHES and len(TEXT) % 4096
    assert json.loads(ends[1].recv(1000)[5:])["unit"] == 4096


@pytest.mark.parametrize(
    ("coded", "unit"), [(b"".join(HASHES[1:]), 4096), (b"".join(HASHES), 0), (b"", 4096), (b"".join(HASHES)[1:], 4096)]
)
def test_other_hashes_than_were_asked_for_end_the_run(ends: Any, coded: bytes, unit: int) -> None:
    with pytest.raises(HostError, match="other hashes"):
        digested(ends, coded, unit)


@pytest.mark.parametrize(("offset", "length"), [(0, MIB + 1), (MIB - 10, 11), (4096, MIB)])
def test_a_piece_never_crosses_its_chunk(ends: Any, offset: int, length: int) -> None:
    with pytest.raises(HostError, match="longer than a chunk"):
        fetched(ends, piece(offset, b"", 2, b"", length=length))


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([b"x" + bytes(4)], "no frame"),
        ([struct.pack(">cI", b"c", 2**31)], "no frame"),
        ([told(id=7, ok={})], "another question"),
        ([told(id=1, error={"what": "reading", "said": "Input/output error"})], "reading.*Input/output error"),
        (
            [piece(0, b"", 5, b'{"errno": 5, "message": "Input/output error"}', length=512)],
            "512 bytes of sda at byte 0 .*Input",
        ),
        ([], "connection ended"),
        ([piece(0, TEXT, 0, TEXT)[:-5]], "connection ended"),
    ],
)
def test_what_breaks_the_protocol_ends_the_run_with_the_reason(ends: Any, frames: List[bytes], words: str) -> None:
    with pytest.raises(HostError, match=words):
        fetched(ends, *frames)


@pytest.mark.parametrize(
    ("hello", "words"),
    [
        ({"protocol": 2, "run": "r", "channel": "data"}, "another protocol"),
        ({"protocol": 1, "run": "s", "channel": "data"}, "another run"),
        ({"protocol": 1, "run": "r", "channel": "else"}, "another protocol"),
    ],
)
def test_a_stranger_is_not_let_in(ends: Any, hello: Any, words: str) -> None:
    channel, theirs = ends
    theirs.sendall(told(**hello))
    with pytest.raises(HostError, match=words):
        channel.greet("r")


def test_silence_is_an_end(ends: Any) -> None:
    channel, dummy = ends
    with pytest.raises(HostError, match="silence"):
        channel.ask("describe", within_s=0.05)


def test_a_frame_that_is_a_bomb_stays_small() -> None:
    assert zstd.decompressed(BOMB, 4 * MIB) == bytes(4 * MIB)
    assert zstd.decompressed(BOMB, MIB) is None
    assert zstd.decompressed(PACKED, len(TEXT)) == TEXT
    assert zstd.decompressed(os.urandom(100), MIB) is None
