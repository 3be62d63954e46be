# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes: the only place that starts them, on this host or over ssh on another. Argument lists only."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, Optional, Sequence, Tuple
from urllib.parse import urlsplit

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


def place_of(uri: str, name: str) -> Place:
    """Where the files of the host behind a libvirt URI are reached: ssh as the URI says, as root when it does not."""
    parts = urlsplit(uri)
    user = parts.username if "+ssh" in parts.scheme and parts.username else "root"
    port = parts.port if "+ssh" in parts.scheme else None
    return Place(name, "%s@%s" % (user, parts.hostname), port)


HERE = Place("this host")
ENVIRONMENT: Dict[str, str] = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": "/root"}


# Begun and not yet asked for: one of a kind at most.
_BEGUN: Dict[Tuple[Place, Tuple[str, ...]], Any] = {}


@contextlib.contextmanager
def soon(argv: Sequence[str], place: Place) -> Iterator[None]:
    """Start a command that reads its standard input before anything else, as it will be run within the block.

    The first `run` of it inside the block takes it over, and so need not wait for ssh. Not taken over, it ends with the
    block. That it cannot start is told by that `run`.
    """
    key = (place, tuple(argv))
    with contextlib.suppress(OSError):
        _BEGUN[key] = _piped(argv, place)
    try:
        yield
    finally:
        unused = _BEGUN.pop(key, None)
        if unused is not None:
            unused.kill()
            unused.communicate()


def _piped(argv: Sequence[str], place: Place) -> Any:
    return subprocess.Popen(
        place.command(argv),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )


def run(
    argv: Sequence[str], place: Place = HERE, stdin: Optional[bytes] = None, timeout_s: Optional[float] = None
) -> Result:
    """Run to the end. Raises HostError only when it cannot be started or takes longer than timeout_s."""
    attempted = "run %s" % " ".join(argv[:2])
    try:
        process = _BEGUN.pop((place, tuple(argv)), None) or _piped(argv, place)
    except OSError as error:
        raise HostError(attempted, place.name, str(error), "Install %s there." % argv[0])
    with process:
        try:
            out, err = process.communicate(stdin if stdin is not None else b"", timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise HostError(attempted, place.name, "no end after %s s" % timeout_s, "Look at the host, then run again.")
        except BaseException:
            process.kill()
            raise
    return Result(process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


def run_pulsed(argv: Sequence[str], timeout_s: float, pulse: Callable[[], Any], every_s: float = 0.5) -> Result:
    """Run to the end on this host, calling pulse() meanwhile. One that takes longer is ended, and is an error like any other.

    What it starts in the background keeps running. Raises HostError when it cannot be started, and what pulse raises.
    """
    latest = time.monotonic() + timeout_s
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(list(argv), stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=ENVIRONMENT)
        except OSError as error:
            raise HostError("run %s" % argv[0], HERE.name, str(error), "Install %s there." % argv[0])
        try:
            while process.poll() is None and time.monotonic() < latest:
                pulse()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(every_s)
        finally:
            overdue = process.poll() is None
            if overdue:
                process.kill()
            process.wait()
        texts = [_read_back(each) for each in (out, err)]
    if overdue:
        texts[1] = "no end after %s s" % timeout_s
    return Result(process.returncode, texts[0], texts[1])


def _read_back(stream: Any) -> str:
    stream.seek(0)
    return bytes(stream.read()).decode("utf-8", "replace")


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


def pipe_to(
    argv: Sequence[str], place: Place, feed: Callable[[Callable[[bytes], Any]], int], attempted: str
) -> Tuple[int, str]:
    """Start the command and let feed(write) write its standard input. Gives what feed returned, and the output.

    Raises HostError when the command cannot start, ends early, or fails. Its answer must be small.
    """
    try:
        process = _piped(argv, place)
    except OSError as error:
        raise HostError(attempted, place.name, str(error))
    fed = 0
    try:
        with process:
            # A broken pipe is no news of its own: the other end says below why it stopped reading.
            with contextlib.suppress(BrokenPipeError):
                fed = feed(process.stdin.write)  # type: ignore[union-attr]
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()  # type: ignore[union-attr]
            out, err = process.stdout.read(), process.stderr.read()  # type: ignore[union-attr]
    except BaseException:
        process.kill()
        raise
    if process.returncode != 0:
        raise HostError(attempted, place.name, err.decode("utf-8", "replace") or "exit %d" % process.returncode)
    return fed, out.decode("utf-8", "replace")


@contextlib.contextmanager
def talking(argv: Sequence[str], place: Place, attempted: str, ends_within_s: float = 5.0) -> Iterator[Any]:
    """Start the command with pipes to its input and output. At the end of the block its input ends, and then it has to.

    Gives the Popen; standard error comes with the output. Raises HostError when it cannot start.
    """
    try:
        process = subprocess.Popen(
            place.command(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT,
        )
    except OSError as error:
        raise HostError(attempted, place.name, str(error), "Install %s there." % argv[0])
    try:
        yield process
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        try:
            process.wait(ends_within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def serving(argv: Sequence[str], attempted: str, ends_within_s: float = 60.0) -> Iterator[Any]:
    """Start a server on this host; at the end of the block it is asked to end (SIGTERM), and waited for.

    Gives the Popen; standard error can be read from it once it has ended. The server ends with this process, however that
    ends. Raises HostError when it cannot start.
    """
    try:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "--", *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
        )
    except OSError as error:
        raise HostError(attempted, HERE.name, str(error), "Install %s there." % argv[0])
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(ends_within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stderr.close()  # type: ignore[union-attr]
