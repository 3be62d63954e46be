"""Commands, waiting, locks and the identity of processes."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from kvmlab.errors import LabError

STARTED = time.monotonic()


def say(text: str) -> None:
    """One line of progress, with the seconds since the command began."""
    print(f"{time.monotonic() - STARTED:6.1f}s  {text}", file=sys.stderr, flush=True)


def run(
    argv: Sequence[str | Path],
    *,
    check: bool = True,
    log: Path | None = None,
    stdin: str | None = None,
    env: dict[str, str] | None = None,
    timeout_s: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command and return what it printed; with `log`, its output goes to that file instead.

    Raises LabError with the end of the output when it fails and `check` is set.
    """
    words = [str(word) for word in argv]
    try:
        if log:
            with log.open("a") as sink:
                done = subprocess.run(
                    words,
                    input=stdin,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    text=True,
                    env=env,
                    timeout=timeout_s,
                    check=False,
                )
        else:
            done = subprocess.run(
                words, input=stdin, capture_output=True, text=True, env=env, timeout=timeout_s, check=False
            )
    except FileNotFoundError:
        raise LabError(f"{words[0]} is not installed", "run tests/lab/setup") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"no end after {timeout_s:.0f} s: {' '.join(words)}") from None
    if check and done.returncode != 0:
        said = log.read_text(errors="replace") if log else done.stdout + done.stderr
        tail = "\n  ".join(said.strip().splitlines()[-8:])
        where = f"the whole output is in {log}" if log else ""
        raise LabError(f"{' '.join(words)} ended with {done.returncode}:\n  {tail}", where)
    return done


def wait_until(condition: Callable[[], bool], deadline_s: float, what: str, remedy: str = "") -> None:
    """Ask `condition` again and again until it holds; LabError naming `what` after `deadline_s`."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise LabError(f"{what}: not within {deadline_s:.0f} s", remedy)
        time.sleep(0.1)


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold an exclusive lock; says so when somebody else has it first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting: somebody else {what}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class Process:
    """A process that stays the same one even when the kernel gives its number to another."""

    pid: int
    start_ticks: int

    @classmethod
    def of(cls, pid: int) -> Process:
        """The running process `pid`; LabError when there is none."""
        ticks = start_ticks(pid)
        if ticks is None:
            raise LabError(f"process {pid} has gone already")
        return cls(pid, ticks)

    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        return start_ticks(self.pid) == self.start_ticks

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process, and never to a successor of its number."""
        if self.alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def start_ticks(pid: int) -> int | None:
    """Start time of a live process in clock ticks since boot; None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])
