"""Disks that fail or crawl when told to, as real ones do, while the files on them stay ordinary files.

The outer kernel need not have a device mapper: nbdkit serves the image through filters that look for switches in a folder,
nbdfuse shows what nbdkit serves as a file, and a loop device over that file is the disk. Its reads and writes go past the
page cache (--direct-io), or a broken disk would still answer from there.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from kvmlab.errors import LabError
from kvmlab.run import run, wait_until

READS, WRITES, SLOW = "reads", "writes", "slow"
HOWS = (READS, WRITES, SLOW)
MOUNTS_S = 10
# Without a journal: one that cannot be written makes the whole file system read-only, and mending would take a repair.
FORMAT_OPTIONS = ("-O", "^has_journal", "-e", "continue")


def folder_of(image: Path) -> Path:
    """Where the switches of a disk are, and the log of its server."""
    return image.with_suffix(".breakable")


def serve(image: Path) -> Path:
    """Show the image as a file that can be broken; its path. The server ends when that is unmounted."""
    folder = folder_of(image)
    seen = folder / "seen"
    seen.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("ab") as log:
        try:
            server = subprocess.Popen(
                ["nbdfuse", str(seen / "disk"), "--command", *_server(image, folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise LabError("nbdfuse is not installed", "run tests/lab/setup") from None
    wait_until(
        lambda: os.path.ismount(seen) or server.poll() is not None, MOUNTS_S, f"showing {image}", f"see {log.name}"
    )
    if server.poll() is not None:
        said = Path(log.name).read_text(errors="replace").strip().splitlines()[-3:]
        raise LabError(f"nbdfuse ended with {server.returncode}: {' '.join(said)}", "does this machine have /dev/fuse?")
    return seen / "disk"


def _server(image: Path, folder: Path) -> list[str]:
    words = ["nbdkit", "-s", "--exit-with-parent", "--filter=error", "--filter=rate", "file", f"file={image}"]
    for request, how in (("pread", READS), ("pwrite", WRITES), ("zero", WRITES), ("trim", WRITES)):
        words += [f"error-{request}-rate=100%", f"error-{request}-file={_switch(folder, how)}"]
    return [*words, f"rate-file={_switch(folder, SLOW)}"]


def _switch(folder: Path, how: str) -> Path:
    return folder / how


def set_fault(image: Path, how: str, kib_s: int = 0) -> None:
    """From now on: reads fail, writes fail, all is slow; with an empty `how` all is well again."""
    folder = folder_of(image)
    for other in (READS, WRITES):
        _switch(folder, other).unlink(missing_ok=True)
    # nbdkit keeps the last rate when the file goes; 0 is none. In bits per second.
    unfinished = folder / "rate.new"
    unfinished.write_text(f"{kib_s * 1024 * 8 if how == SLOW else 0}\n")
    unfinished.rename(_switch(folder, SLOW))
    if how in (READS, WRITES):
        _switch(folder, how).touch()


def loop_over(path: Path, *, direct: bool) -> str:
    """A loop device over the file; its name."""
    return run(["losetup", "--find", "--show", *(["--direct-io=on"] if direct else []), path]).stdout.strip()
