# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guest agent: there, and started. It is installed of package files by the system's own tool; nothing is downloaded."""

from __future__ import annotations

import posixpath
import re
from typing import Iterator, List, NamedTuple, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.fixup import (
    INSTALL,
    REMOVE,
    RUN,
    WRITE,
    Change,
    FixupWish,
    ImageFacts,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.fixup_concerns import concern
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.fixup_services import SYSTEMD, UNITS

PROGRAMS = ("/usr/sbin/qemu-ga", "/usr/bin/qemu-ga")
UNIT = "qemu-guest-agent.service"
# Red Hat's name in version 6, then Debian's.
SCRIPTS = ("/etc/init.d/qemu-ga", "/etc/init.d/qemu-guest-agent")
DPKG, RPM = ("/usr/bin/dpkg",), ("/usr/bin/rpm", "/bin/rpm")
SELINUX, RELABEL = "/etc/selinux/config", "/.autorelabel"
# A runlevel in which no service is started: it would hold on to the image. What the system has newer stays.
_DPKG_OPTIONS = ("--install", "--force-confold", "--refuse-downgrade", "--skip-same-version")
_QUIETLY = ("/usr/bin/env", "RUNLEVEL=1", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")


class Agent(NamedTuple):
    """there: whether the system has one, afterwards."""

    changes: List[Change]
    concerns: List[Concern]
    there: bool


def agent_changes(wish: FixupWish, facts: ImageFacts) -> Agent:
    there = bool(facts.paths.intersection(PROGRAMS))
    if not wish.guest_agent:
        return Agent([], [], there)
    if there:
        return Agent(list(_started(facts)), [], True)
    if not wish.guest_agent_packages:
        return Agent([], [concern("p2v-fixup-no-agent", "neither %s nor %s is there" % PROGRAMS)], False)
    argv = _tool(wish.guest_agent_packages, facts)
    if argv is None:
        detail = "%s, for a %s" % (_names(wish.guest_agent_packages), facts.distribution or "system without a name")
        return Agent([], [concern("p2v-fixup-agent-packages", detail)], False)
    return Agent(list(_installed(wish.guest_agent_packages, argv, facts)), [], True)


def _names(packages: Tuple[str, ...]) -> str:
    return ", ".join(posixpath.basename(path) for path in packages)


def _tool(packages: Tuple[str, ...], facts: ImageFacts) -> Optional[Tuple[str, ...]]:
    tools = DPKG if packages[0].endswith(".deb") else RPM
    tool = next((path for path in tools if path in facts.paths), None)
    if tool is None:
        return None
    return (*_QUIETLY, tool, *_DPKG_OPTIONS) if tools == DPKG else (tool, "--upgrade", "--replacepkgs")


def _installed(packages: Tuple[str, ...], argv: Tuple[str, ...], facts: ImageFacts) -> Iterator[Change]:
    yield Change(INSTALL, "the guest agent is installed: %s" % _names(packages), argv=argv, files=packages)
    if re.search(r"^SELINUX=(enforcing|permissive)", facts.files.get(SELINUX, ""), re.M):
        # No kernel with its policy runs here: what the packages brought has no labels.
        yield Change(WRITE, "SELinux labels all files at the first boot, which takes minutes", RELABEL, "")
    if argv[0] in RPM:
        # Debian's starts by itself when the channel is there.
        words = "the guest agent starts at boot"
        start = ("/bin/systemctl", "enable", UNIT) if _has_systemd(facts) else ("/sbin/chkconfig", "qemu-ga", "on")
        yield Change(RUN, words, argv=start)


def _started(facts: ImageFacts) -> Iterator[Change]:
    """A unit that nothing wants is started by udev, which needs no more than the channel."""
    if not _has_systemd(facts):
        yield from _script(facts)
        return
    if UNIT in facts.masked:
        yield Change(REMOVE, "%s: removed; it kept the guest agent off" % (UNITS + UNIT), UNITS + UNIT)
    text = "".join(text for path, text in facts.files.items() if posixpath.basename(path) == UNIT)
    if re.search(r"^(Wanted|Required)By=\S", text, re.M) and UNIT not in facts.enabled:
        yield Change(RUN, "%s starts at boot" % UNIT, argv=("/bin/systemctl", "enable", UNIT))


def _script(facts: ImageFacts) -> Iterator[Change]:
    name = next((posixpath.basename(path) for path in SCRIPTS if path in facts.paths), None)
    if name is None or name in facts.enabled:
        return
    words = "%s starts at boot" % name
    if "/sbin/chkconfig" in facts.paths:
        yield Change(RUN, words, argv=("/sbin/chkconfig", name, "on"))
    elif "/usr/sbin/update-rc.d" in facts.paths:
        yield Change(RUN, words, argv=("/usr/sbin/update-rc.d", name, "enable"))


def _has_systemd(facts: ImageFacts) -> bool:
    return bool(facts.paths.intersection(SYSTEMD))
