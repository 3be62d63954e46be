"""Control groups for hosts, on machines with one hierarchy or several."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from kvmlab.run import wait_until

BASE = Path("/sys/fs/cgroup")


def hierarchies(base: Path = BASE) -> list[Path]:
    """Where systemd tracks processes: the unified hierarchy, or its own one beside the old controllers."""
    if (base / "cgroup.procs").exists():
        return [base]
    return [path for path in (base / "systemd", base / "unified") if (path / "cgroup.procs").exists()]


def create(lab: str, host: str) -> list[Path]:
    """The groups of one host, ready to be entered."""
    groups = [path / f"kvmlab-{lab}-{host}" for path in hierarchies()]
    for group in groups:
        group.mkdir(exist_ok=True)
    return groups


def remove(lab: str, host: str) -> None:
    """Remove the groups of a host whose processes have ended."""
    for hierarchy in hierarchies():
        group = hierarchy / f"kvmlab-{lab}-{host}"
        if group.exists():
            wait_until(lambda group=group: _removed(group), 10, f"removing {group}, which still holds processes")


def _removed(group: Path) -> bool:
    # The files in a control group go with its directory.
    for path in sorted((p for p in group.rglob("*") if p.is_dir()), reverse=True):
        with suppress(OSError):
            path.rmdir()
    with suppress(OSError):
        group.rmdir()
    return not group.exists()
