# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a console says that a guest has booted, and when that it never will."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.host.boot_watch import (
    forget,
    has_booted,
    last_lines,
    said_on,
    wait,
)

SYSTEMD = b"[\x1b[0;32m  OK  \x1b[0m] Reached target \x1b[0;1;39mgetty.target\x1b[0m - Login Prompts.\r\n"
LOGIN = b"\r\nDebian GNU/Linux 12 old1 ttyS0\r\n\r\nold1 login: "


@pytest.mark.parametrize(
    ("console", "booted", "over"),
    [
        (b"", False, ""),
        (b"GNU GRUB version 2.06\r\n", False, ""),
        (SYSTEMD, False, ""),
        (SYSTEMD + LOGIN, True, ""),
        (LOGIN + b"\r\n", True, ""),
        (b"Welcome\r\nlogin: ", True, ""),
        # Somebody tells of a login: that is none.
        (b"login: failed for root\r\n", False, ""),
        (b"Kernel panic - not syncing: VFS: Unable to mount root fs\r\n", False, "Kernel panic - not syncing: VFS"),
        (b"ALERT! /dev/sda1 does not exist.  Dropping to a shell!\r\n(initramfs) ", False, "(initramfs)"),
        (b"You are in emergency mode. After logging in, type", False, "You are in emergency mode"),
        (b"error: no such device: 1234.\r\ngrub rescue> ", False, "grub rescue>"),
    ],
)
def test_what_a_console_means(tmp_path: Path, console: bytes, booted: bool, over: str) -> None:
    file = tmp_path / "console"
    file.write_bytes(console)
    login, why = has_booted(said_on(str(file)))
    assert login == booted and why.startswith(over) and bool(why) == bool(over)


def test_the_last_lines_are_plain_and_short(tmp_path: Path) -> None:
    file = tmp_path / "console"
    file.write_bytes(b"x" * 400_000 + b"\n" + SYSTEMD * 20 + LOGIN)
    assert last_lines(str(file)).endswith("Login Prompts. | Debian GNU/Linux 12 old1 ttyS0 | old1 login:")
    assert last_lines(str(file)).count("|") == 11 and "\x1b" not in last_lines(str(file))
    forget(str(file))
    forget(str(file))
    assert said_on(str(file)) == ""


class Guest:
    """What of a virDomain is asked."""

    def __init__(self, active: bool) -> None:
        self.active = active

    def isActive(self) -> bool:
        return self.active


def test_a_wait_is_bounded_and_pulsed(tmp_path: Path) -> None:
    file, beats = tmp_path / "console", []
    file.write_bytes(b"GRUB\n")
    assert wait("console", Guest(True), str(file), 0.6, lambda: beats.append(1)) == (
        None,
        "no login on its console within 0 s",
    )
    assert len(beats) >= 2
    assert wait("console", Guest(False), str(file), 60, lambda: None) == (None, "it went off")
    file.write_bytes(LOGIN)
    seconds, why = wait("console", Guest(True), str(file), 60, lambda: None)
    assert seconds is not None and why == ""
