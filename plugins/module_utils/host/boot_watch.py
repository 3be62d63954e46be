# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Watches a guest boot, from outside: its serial console as a file, or its agent."""

from __future__ import annotations

import contextlib
import os
import re
import time
from typing import Any, Callable, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import libvirt_api
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import agent_command

_PING = '{"execute": "guest-ping"}'
_LOOK_S = 0.5
_LARGEST_BYTES = 256 * 1024
_LAST_LINES = 12
# What agetty and others ask for.
_LOGIN = re.compile(r"(?:^|[\r\n ])[\w.-]* ?login: *$")
# After which no login comes. In the words of GRUB, the kernel, initramfs-tools, dracut and systemd.
_ENDS = tuple(
    re.compile(pattern)
    for pattern in (
        r"Kernel panic - not syncing.*",
        r"grub rescue>",
        r"\(initramfs\) *$",
        r"You are in emergency mode.*",
        r"Entering emergency mode.*",
        r"dracut Warning: Could not boot.*",
        r"No bootable device.*",
        r"BdsDxe: No bootable option.*",
    )
)
_SIGNS = {"console": "login on its console", "agent": "answer of its agent", "port": "connection to its port"}
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[()][0-9A-B]|[\x00-\x08\x0b\x0c\x0e-\x1f]")


def said_on(path: str) -> str:
    """The last of what a console printed, without what moves a cursor."""
    try:
        with open(path, "rb") as file:
            file.seek(max(file.seek(0, 2) - _LARGEST_BYTES, 0))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return _CONTROLS.sub("", text).replace("\r", "")


def last_lines(path: str) -> str:
    lines = [line.strip() for line in said_on(path).splitlines() if line.strip()]
    return " | ".join(lines[-_LAST_LINES:])


def forget(path: str) -> None:
    """A console's file is worth nothing once its end has been told."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def has_booted(console: str) -> Tuple[bool, str]:
    """(whether a login is asked for, why none will come)."""
    text = console.rstrip("\n")
    for pattern in _ENDS:
        found = pattern.search(text)
        if found:
            return False, found.group(0).strip()
    return bool(_LOGIN.search(text)), ""


def wait(
    sign: str,
    dom: Any,
    console: str,
    timeout_s: float,
    pulse: Callable[[], Any],
    answers: Callable[[], bool] = lambda: False,
) -> Tuple[Optional[float], str]:
    """(seconds until the sign, "") or (None, why). pulse is called all the while.

    sign: console, agent, or port, for which answers() is asked.
    """
    began = time.monotonic()
    while True:
        pulse()
        seconds = time.monotonic() - began
        login, over = has_booted(said_on(console)) if console else (False, "")
        if over:
            return None, over
        if login if sign == "console" else _answers(dom) if sign == "agent" else answers():
            return seconds, ""
        if not _is_active(dom):
            return None, "it went off"
        if seconds >= timeout_s:
            return None, "no %s within %d s" % (_SIGNS[sign], timeout_s)
        # Nothing tells of a line in a file but the file.
        time.sleep(_LOOK_S)


def _answers(dom: Any) -> bool:
    try:
        agent_command(dom, _PING, 2)
    except libvirt_api.libvirt.libvirtError:
        return False
    return True


def _is_active(dom: Any) -> bool:
    try:
        return bool(dom.isActive())
    except libvirt_api.libvirt.libvirtError:
        return False
