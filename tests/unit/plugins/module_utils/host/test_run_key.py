# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The key of a run in authorized_keys, and the program that it opens."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import p2v_join, run_key

KEY = "ssh-ed25519 AAAAC3Nz"


@pytest.fixture(name="keys")
def fixture_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(run_key, "FOLDER", str(tmp_path / "run"))
    return tmp_path / ".ssh" / "authorized_keys"


def test_the_key_opens_one_command_while_the_run_lives(keys: Path) -> None:
    keys.parent.mkdir()
    keys.write_text("ssh-rsa BBBB somebody")
    keys.chmod(0o640)
    with run_key.authorised(KEY, ["/usr/bin/python3", '/a "b"/join', "/s"], str(keys)):
        lines = keys.read_text().splitlines()
        assert lines[0] == "ssh-rsa BBBB somebody"
        assert lines[1].startswith('restrict,command="/usr/bin/python3 \'/a \\"b\\"/join\' /s" ssh-ed25519 AAAAC3Nz ')
    assert keys.read_text() == "ssh-rsa BBBB somebody\n"
    assert keys.stat().st_mode & 0o777 == 0o640


def test_the_file_is_made_with_the_rights_that_sshd_wants_and_a_failure_takes_the_key_away(keys: Path) -> None:
    with pytest.raises(KeyError), run_key.authorised(KEY, ["/x"], str(keys)):
        assert keys.stat().st_mode & 0o777 == 0o600 and keys.parent.stat().st_mode & 0o777 == 0o700
        raise KeyError
    assert keys.read_text() == ""


def test_the_key_of_a_dead_run_is_cleared_and_that_of_a_living_one_is_not(keys: Path) -> None:
    program = (
        "import sys, os; sys.path[:0] = %r; from ansible_collections.kvmops.fleet.plugins.module_utils.host import run_key\n"
        "run_key.FOLDER = %r\nwith run_key.authorised('ssh-ed25519 DEAD', ['/x'], %r): os._exit(0)"
        % (sys.path, run_key.FOLDER, str(keys))
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert "DEAD" in keys.read_text()
    with run_key.authorised("ssh-ed25519 ONE", ["/x"], str(keys)):
        assert "DEAD" not in keys.read_text()
        with run_key.authorised("ssh-ed25519 TWO", ["/x"], str(keys)):
            assert "ONE" in keys.read_text() and "TWO" in keys.read_text()
        assert "ONE" in keys.read_text() and "TWO" not in keys.read_text()


def test_a_link_stays_a_link(keys: Path, tmp_path: Path) -> None:
    keys.parent.mkdir()
    elsewhere = tmp_path / "kept"
    elsewhere.write_text("ssh-rsa BBBB\n")
    keys.symlink_to(elsewhere)
    with run_key.authorised(KEY, ["/x"], str(keys)):
        assert KEY in elsewhere.read_text()
    assert keys.is_symlink() and elsewhere.read_text() == "ssh-rsa BBBB\n"


def test_the_forced_command_carries_both_ways_and_ends_with_either_side(tmp_path: Path) -> None:
    path = str(tmp_path / "agent")
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(1)
    words = [sys.executable, "-I", str(p2v_join.__file__), path]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    stream, dummy = server.accept()
    sent = os.urandom(3 * 1024 * 1024)
    stream.settimeout(20)
    assert process.stdin and process.stdout
    process.stdin.write(b"from there")
    process.stdin.flush()
    assert stream.recv(100) == b"from there"
    stream.sendall(sent[:65536])
    assert process.stdout.read(65536) == sent[:65536]
    process.stdin.close()
    assert stream.recv(100) == b"", "the end of the one side is told to the other"
    stream.close()
    assert process.stdout.read() == b"" and process.wait(20) == 0
    server.close()
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "No run waits" in done.stderr
