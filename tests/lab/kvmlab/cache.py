"""Things that are built once: kept under a key that names everything they were made from."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from kvmlab.errors import LabError
from kvmlab.paths import CACHE, LOCKS
from kvmlab.run import locked, say

NEEDED_GIB = 6


def key_of(parts: Iterable[str]) -> str:
    """A short key that changes when any part does."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def build_once(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The directory CACHE/kind-key; `make` fills a temporary one that is renamed when complete.

    Older ones of the same kind are left to `prune`, as a running lab may stand on them.
    """
    target = CACHE / f"{kind}-{key}"
    if target.is_dir():
        return target
    with locked(LOCKS / f"build-{kind}.lock", f"is building {kind}"):
        if target.is_dir():
            return target
        require_space()
        for leftover in CACHE.glob(f"{kind}-*.tmp"):
            shutil.rmtree(leftover)
        unfinished = CACHE / f"{kind}-{key}.tmp"
        unfinished.mkdir(parents=True)
        say(f"building {kind}")
        make(unfinished)
        unfinished.rename(target)
        say(f"built {kind}")
    return target


def build_log(kind: str) -> Path:
    """Where the output of a build goes; emptied."""
    path = CACHE / "logs" / f"{kind}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


def require_space() -> None:
    """LabError unless there is room for root filesystems and packages."""
    CACHE.mkdir(parents=True, exist_ok=True)
    stat = os.statvfs(CACHE)
    free_gib = stat.f_bavail * stat.f_frsize / 2**30
    if free_gib < NEEDED_GIB:
        raise LabError(
            f"{CACHE} has {free_gib:.1f} GiB free, the lab needs {NEEDED_GIB}",
            "make room, or set KVMLAB_CACHE and KVMLAB_STATE to a larger filesystem",
        )


def prune(kind: str, keep: Iterable[Path], newest: int = 2) -> None:
    """Remove directories of that kind except those in `keep` and the newest ones."""
    kept = set(keep)
    found = sorted(CACHE.glob(f"{kind}-*[0-9a-f]"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in [path for path in found[newest:] if path not in kept]:
        shutil.rmtree(path, ignore_errors=True)


def read_list(path: Path, release: str = "") -> list[str]:
    """The names in a package list; `name [release]` counts for that release only."""
    names = []
    for line in path.read_text().splitlines():
        name, _, only = line.partition("#")[0].strip().partition(" ")
        if name and only.strip("[] ") in ("", release):
            names.append(name)
    return names
