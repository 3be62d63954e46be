"""Commands inside hosts."""

from __future__ import annotations

from kvmlab.state import LabRecord


def inside(lab: LabRecord, host: str, command: list[str]) -> list[str]:
    """The command line that runs a command inside a host, without needing ssh or network there."""
    init = lab.running(host)
    environment = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=linux"]
    spaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
    return ["nsenter", "--target", str(init.pid), *spaces, "--", *environment, *command]
