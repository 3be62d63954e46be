# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes: the only place that starts them, on this host or over ssh on another. Argument lists only."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass
from typing import Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError

# BatchMode: never ask; StrictHostKeyChecking: a key that is not pinned is an error, never learnt here.
# The keepalive ends a dead connection after 3 x 5 s.
SSH: Tuple[str, ...] = (
    "ssh",
    "-T",
    "-oBatchMode=yes",
    "-oStrictHostKeyChecking=yes",
    "-oConnectTimeout=10",
    "-oServerAliveInterval=5",
    "-oServerAliveCountMax=3",
)


@dataclass(frozen=True)
class Result:
    """rc: exit status. out, err: text."""

    rc: int
    out: str
    err: str


@dataclass(frozen=True)
class Place:
    """Where commands run. ssh: None for this host, else the ssh destination (`user@host`). port: None = ssh's own."""

    name: str
    ssh: Optional[str] = None
    port: Optional[int] = None

    def command(self, argv: Sequence[str]) -> Sequence[str]:
        """`argv` as it must be started here. ssh hands one string to a shell, so every word is quoted."""
        if self.ssh is None:
            return list(argv)
        port = ["-p", str(self.port)] if self.port else []
        return [*SSH, *port, self.ssh, "--", " ".join(shlex.quote(word) for word in argv)]


HERE = Place("this host")


def run(
    argv: Sequence[str], place: Place = HERE, stdin: Optional[bytes] = None, timeout_s: Optional[float] = None
) -> Result:
    """Run to the end. Raises HostError only when it cannot be started or takes longer than timeout_s."""
    attempted = "run %s" % " ".join(argv[:2])
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": "/root"}
    try:
        done = subprocess.run(
            place.command(argv),
            input=stdin if stdin is not None else b"",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise HostError(attempted, place.name, "no end after %s s" % timeout_s, "Look at the host, then run again.")
    except OSError as error:
        raise HostError(attempted, place.name, str(error), "Install %s there." % argv[0])
    return Result(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


def output_of(
    argv: Sequence[str],
    place: Place = HERE,
    stdin: Optional[bytes] = None,
    timeout_s: Optional[float] = None,
    attempted: str = "",
    remedy: str = "",
) -> str:
    """Run to the end and give standard output. Raises HostError with the command's own words when it fails."""
    done = run(argv, place, stdin, timeout_s)
    if done.rc != 0:
        raise HostError(attempted or "run %s" % " ".join(argv), place.name, done.err or "exit %d" % done.rc, remedy)
    return done.out
