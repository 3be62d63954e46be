# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands that are begun before they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import List

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host import commands
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import HERE, output_of, soon
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError


def counting(folder: Path) -> List[str]:
    """A command that notes that it was started, then says what it was told."""
    return ["sh", "-c", "echo begun >> %s/starts; cat" % folder]


def starts(folder: Path) -> int:
    return len((folder / "starts").read_text(encoding="utf-8").split())


def test_the_first_run_takes_over_what_was_begun(tmp_path: Path) -> None:
    argv = counting(tmp_path)
    with soon(argv, HERE):
        assert output_of(argv, stdin=b"one") == "one" and starts(tmp_path) == 1
        assert output_of(argv, stdin=b"two") == "two" and starts(tmp_path) == 2
    assert commands._BEGUN == {}


def test_what_nobody_asked_for_ends(tmp_path: Path) -> None:
    argv = counting(tmp_path)
    with soon(argv, HERE):
        process = next(iter(commands._BEGUN.values()))
    assert process.returncode is not None and commands._BEGUN == {}


def test_what_cannot_start_is_told_when_it_is_asked() -> None:
    with soon(["/no/such/command"], HERE), pytest.raises(HostError, match="No such file"):
        output_of(["/no/such/command"])


def test_what_takes_too_long_is_ended() -> None:
    with soon(["sleep", "60"], HERE), pytest.raises(HostError, match=r"no end after 0\.1 s"):
        commands.run(["sleep", "60"], timeout_s=0.1)
