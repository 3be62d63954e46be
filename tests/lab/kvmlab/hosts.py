"""Hosts: systemd-nspawn containers that boot a Debian of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from kvmlab import cgroups, network, volumes
from kvmlab.errors import LabError
from kvmlab.identity import write_identity
from kvmlab.paths import LAB_DIR, HostPaths
from kvmlab.run import Process, run, wait_until
from kvmlab.shape import Host
from kvmlab.state import HostRecord, LabRecord

BOOT_S = 180
HALT_S = 20
# /proc/sys/net and /sys of the host's own network namespace; everything else in /sys and /proc/sys stays read-only,
# as it belongs to the outer kernel.
NSPAWN_ENV = {"SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"}
HANDLES = "open_by_handle_at name_to_handle_at"


def mount_root(paths: HostPaths, lowers: list[str]) -> None:
    """Mount the host's root filesystem: its own layer over the given ones, topmost first."""
    for path in (paths.upper, paths.work, paths.root):
        path.mkdir(parents=True, exist_ok=True)
    # Volatile leaves a mark that forbids the next mount, for the case that the machine went down in between.
    run(["rm", "-rf", paths.work / "work" / "incompat"])
    options = f"lowerdir={':'.join(lowers)},upperdir={paths.upper},workdir={paths.work},volatile"
    run(["mount", "-t", "overlay", f"kvmlab-{paths.base.name}", "-o", options, paths.root])


def unmount_root(paths: HostPaths) -> None:
    """Unmount the host's root filesystem if it is mounted."""
    while os.path.ismount(paths.root):
        run(["umount", "--recursive", paths.root])


def power_on(lab: LabRecord, host: Host) -> None:
    """Boot a host whose root filesystem is mounted; returns when ssh answers."""
    record = lab.hosts[host.name]
    paths = lab.paths.host(host.name)
    network.connect(lab.name, host, record.link)
    for volume in record.volumes:
        volumes.attach(paths, volume)
    nspawn = _start(lab, host, paths)
    record.nspawn = Process.of(nspawn.pid)
    look = f"see {paths.console}"
    wait_until(
        lambda: nspawn.poll() is not None or _child_of(nspawn.pid) is not None, 20, f"starting {host.name}", look
    )
    init = _child_of(nspawn.pid)
    if init is None:
        raise LabError(f"{host.name} ended at once:\n  {_tail(paths.console)}", look)
    record.init = Process.of(init)
    wait_until(
        lambda: not record.running or network.port_open(lab.name, host.address, 22),
        BOOT_S,
        f"ssh on {host.name}",
        look,
    )
    if not record.running:
        raise LabError(f"{host.name} ended while it booted:\n  {_tail(paths.console)}", look)


def _start(lab: LabRecord, host: Host, paths: HostPaths) -> subprocess.Popen[bytes]:
    words = [
        *("systemd-nspawn", "--boot", "--register=no", "--keep-unit", "--console=pipe", "--capability=all"),
        *(f"--directory={paths.root}", f"--machine={lab.name}-{host.name}", f"--hostname={host.name}"),
        f"--network-namespace-path={network.NETNS_DIR / network.host_netns(lab.name, host.name)}",
        *("--bind=/dev/net/tun", "--link-journal=no", "--resolv-conf=off", "--timezone=off"),
        *("--rlimit=RLIMIT_NOFILE=524288", "--rlimit=RLIMIT_MEMLOCK=infinity", f"--system-call-filter={HANDLES}"),
        *(
            f"--bind-ro={source}:{target}"
            for target, source in lab.binds[host.name].items()
            if target.startswith("/srv/lab")
        ),
        *(
            f"--bind={source}:{target}"
            for target, source in lab.binds[host.name].items()
            if not target.startswith("/srv/lab")
        ),
    ]
    groups = [str(path) for path in cgroups.create(lab.name, host.name)]
    with paths.console.open("ab") as console:
        return subprocess.Popen(
            [sys.executable, "-m", "kvmlab.launch", *groups, "--", *words],
            cwd=LAB_DIR,
            env={**os.environ, **NSPAWN_ENV},
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
        )


def power_off(lab: LabRecord, host: str, *, hard: bool = False) -> bool:
    """Stop a host, hard or through its own shutdown; True when it had to be killed."""
    record = lab.hosts.get(host, HostRecord())
    killed = False
    if record.nspawn and record.nspawn.alive():
        if not hard:
            # nspawn passes it on to systemd as the request to power off.
            record.nspawn.signal(signal.SIGTERM)
            killed = not _ended(record.nspawn, HALT_S)
        _kill(record.init)
        _kill(record.nspawn)
    else:
        _kill(record.init)
    record.nspawn = record.init = None
    for volume in record.volumes:
        volumes.detach(lab.paths.host(host), volume)
    network.disconnect(lab.name, host)
    cgroups.remove(lab.name, host)
    return killed


def _kill(process: Process | None) -> None:
    """Kill a process; with a host's init everything in the host goes."""
    if process and process.alive():
        process.signal(signal.SIGKILL)
        wait_until(lambda: not process.alive(), 20, f"ending process {process.pid}")


def _ended(process: Process, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while process.alive() and time.monotonic() < end:
        _reap()
        time.sleep(0.1)
    return not process.alive()


def _reap() -> None:
    """Take note of ended children, in case this very command started them."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _child_of(pid: int) -> int | None:
    """The host's init below nspawn: the one child that is the first of its process namespace."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            status = Path(f"/proc/{child}/status").read_text()
            ids = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
            if len(ids) > 2 and ids[-1] == "1":
                return int(child)
    return None


def _tail(path: Path) -> str:
    return "\n  ".join(path.read_text(errors="replace").strip().splitlines()[-6:])


def prepare(lab: LabRecord, host: Host) -> None:
    """Mount the root filesystem of a host and give it its identity."""
    paths = lab.paths.host(host.name)
    mount_root(paths, lab.lowers[host.name])
    write_identity(paths.root, host, lab.paths)
