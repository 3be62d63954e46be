"""Control groups for hosts, on machines with one hierarchy or several."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from functools import partial
from pathlib import Path

from kvmlab.run import wait_until

BASE = Path("/sys/fs/cgroup")


def hierarchies(base: Path = BASE) -> list[Path]:
    """Where systemd tracks processes: the unified hierarchy, or its own one beside the old controllers."""
    if (base / "cgroup.procs").exists():
        return [base]
    return [path for path in (base / "systemd", base / "unified") if (path / "cgroup.procs").exists()]


def group_name(lab: str, host: str) -> str:
    """Name of a host's group; a lab's name has no dot, so no lab's name begins another's groups."""
    return f"kvmlab-{lab}.{host}"


def create(lab: str, host: str) -> list[Path]:
    """The groups of one host, ready to be entered."""
    groups = [path / group_name(lab, host) for path in hierarchies()]
    for group in groups:
        group.mkdir(exist_ok=True)
    return groups


def hosts_of(lab: str) -> list[str]:
    """Hosts of a lab that have groups, whether anything remembers them or not."""
    prefix = group_name(lab, "")
    return sorted({group.name.removeprefix(prefix) for path in hierarchies() for group in path.glob(f"{prefix}*")})


def remove(lab: str, host: str) -> None:
    """End what is still in the groups of a host and remove them."""
    for hierarchy in hierarchies():
        group = hierarchy / group_name(lab, host)
        wait_until(partial(_removed, group), 20, f"removing {group}, which still holds processes")


def _removed(group: Path) -> bool:
    if not group.exists():
        return True
    # The files in a control group go with its directory.
    for path in [*sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True), group]:
        with suppress(OSError):
            for pid in (path / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
        with suppress(OSError):
            path.rmdir()
    return not group.exists()
