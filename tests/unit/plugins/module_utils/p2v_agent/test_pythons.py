# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent under every Python that pyenv has here, and under its own readers: the oldest servers have 2.7."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.kvmops.fleet.plugins.plugin_utils import p2v_bundle

from . import disks

VERSIONS = Path(os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))) / "versions"
WANTED = ("2.7", "3.4", "3.6", "3.9", "3.13")


def pythons() -> dict[str, str]:
    """Version -> program: those of WANTED that are here, else the one that runs this. vermin sees to the others."""
    found = {version: sorted(VERSIONS.glob(version + ".*/bin/python")) for version in WANTED}
    return {version: str(paths[-1]) for version, paths in found.items() if paths} or {"running": sys.executable}


@pytest.mark.parametrize("version", pythons())
def test_a_disk_is_described_tracked_frozen_and_read(
    disk: disks.Disk, agent: Callable[..., Any], tmp_path: Path, version: str
) -> None:
    old = pythons()[version]
    node = disk.partition(1, 1, 64)
    disks.run("mkfs.ext4", "-q", node)
    point = disk.mount(node, tmp_path / "here")
    running = agent(disk, python=old, connections=2)
    told = running.control.ask("describe")
    assert [found["name"] for found in told["disks"]] == [disk.name]
    assert [found["point"] for found in told["mounts"] if found["device"] == node[5:]] == [str(point)]
    running.control.ask("track", disks=[disk.name])
    running.control.ask("sync")
    wanted = running.control.ask("map", disk=disk.name)["used"]
    for coding in running.control.hello["codings"]:
        assert list(running.data[1].read(disk.name, wanted, [0, coding]))
    for dummy, length, dummy, dummy, coded in running.data[0].chunks(
        "digest", disk=disk.name, ranges=wanted, unit=16384
    ):
        assert len(coded) == 32 * -(-length // 16384)
    (point / "file").write_bytes(bytes(50000))
    assert running.control.ask("freeze", mounts=[str(point)], limit_s=5)["frozen"] == [str(point)]
    written = running.control.ask("written")
    assert written["lost"] == 0
    assert sum(length for dummy, length in written["disks"][disk.name]) >= 50000
    running.control.ask("thaw")
    running.control.ask("bye")
    assert running.end().strip() == '{"agent": "ended"}'


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_command_finds_a_python(shell: str) -> None:
    words = [
        "env",
        "-i",
        "PATH=/usr/bin:/bin",
        shell,
        "-c",
        p2v_bundle.command().replace(shlex.quote(p2v_bundle.START), "'print(5)'"),
    ]
    assert subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout == b"5\n"


def test_the_command_says_when_there_is_no_python(tmp_path: Path) -> None:
    words = ["env", "-i", "PATH=%s" % tmp_path, "/bin/sh", "-c", p2v_bundle.command().replace("/usr/libexec", "/none")]
    done = subprocess.run(words, check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 127
    assert b"no Python on this machine" in done.stderr


def test_every_file_of_the_agent_is_sent() -> None:
    assert sorted(p2v_bundle.MODULES) == sorted(path.stem for path in p2v_bundle.SOURCES.glob("*.py"))


@pytest.mark.parametrize("before", ["", "exec >&-; sleep 0.5; "])
def test_a_receiver_that_is_not_there_is_told(before: str) -> None:
    """Also when the stream ends some time before the command does."""
    dial = ["sh", "-c", before + "echo no route to the receiver >&2; exit 255"]
    settings = {"run": "x1", "dial": dial, "disks": ["loop0"], "receiver": ["127.0.0.1", 22]}
    done = subprocess.run(
        ["python3", "-c", p2v_bundle.START],
        check=False,
        input=p2v_bundle.bundle(settings),
        stdout=subprocess.PIPE,
        timeout=60,
    )
    last = json.loads(done.stdout.splitlines()[-1])
    assert last == {"agent": last["agent"], "said": last["said"], "from": "127.0.0.1"}
    assert "no route to the receiver" in last["said"]


def test_a_receiver_that_leaves_without_a_word_is_told(tmp_path: Path) -> None:
    settings = {"run": "x1", "dial": ["true"], "disks": ["loop0"]}
    done = subprocess.run(
        ["python3", "-c", p2v_bundle.START], check=False, input=p2v_bundle.bundle(settings), stdout=subprocess.PIPE
    )
    assert json.loads(done.stdout.splitlines()[-1])["agent"] in ("ended", "failed")
    assert "said" in json.loads(done.stdout.splitlines()[-1])
