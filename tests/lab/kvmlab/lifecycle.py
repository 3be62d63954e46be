"""Starting what was described, and removing whatever is found of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path

from kvmlab import cgroups, hosts, identity, inventory, machine_power, nas, network, userfaultfd
from kvmlab.errors import LabError
from kvmlab.paths import REPOSITORY, LabPaths
from kvmlab.run import run, say
from kvmlab.shape import Host
from kvmlab.state import LabRecord, load

LOGS = Path("/var/log/kvmops-lab")


def start(lab: LabRecord) -> None:
    """Switch, keys, hosts, inventory."""
    lab.save()
    identity.create_key(lab.paths)
    network.create_switch(lab.paths)
    lab.paths.control.mkdir(parents=True, exist_ok=True, mode=0o700)
    if lab.shape.nas:
        nas.provide_disk(lab, lab.paths.host(lab.shape.nas.name))
    for host in lab.shape.all_hosts:
        hosts.prepare(lab, host)
    pins = [identity.known_hosts_line(lab.paths.host(host.name).root, host) for host in lab.shape.all_hosts]
    lab.paths.known_hosts.write_text("".join(pins))
    _each(lab.shape.all_hosts, lambda host: hosts.power_on(lab, host), lab)
    inventory.write(lab)


def _each(wanted: tuple[Host, ...], act: Callable[[Host], None], lab: LabRecord) -> None:
    """Do something to all hosts at once; every result is recorded before the first error is raised."""
    with ThreadPoolExecutor(max_workers=max(1, len(wanted))) as pool:
        futures = {pool.submit(act, host): host for host in wanted}
        errors = []
        for future in as_completed(futures):
            error = future.exception()
            errors += [error] if error else []
            lab.save()
    if errors:
        raise errors[0]


def start_or_clear(lab: LabRecord) -> None:
    """Start a lab; when that fails nothing of it is left but the consoles."""
    try:
        start(lab)
    except BaseException:
        say(f"lab {lab.name} did not come up; taking it down")
        clear(lab.name, lab, keep_consoles=True)
        raise


def halt(lab: LabRecord) -> None:
    """Shut the hosts of a lab down and unmount them; what they wrote stays."""
    close_connections(lab.paths)
    # Nothing of a machine outlives its lab: there is nothing to shut down for.
    for name in lab.machines:
        machine_power.cut_power(lab, name)
    killed: list[str] = []
    # Storage last: a guest whose disk has gone holds up the shutdown of its host.
    for wave in (lab.shape.hosts, lab.shape.all_hosts[len(lab.shape.hosts) :]):
        _each(wave, lambda host: killed.extend([host.name] * hosts.power_off(lab, host.name)), lab)
    for host in killed:
        say(f"{host} did not power off within {hosts.HALT_S} s and was killed")
    network.remove_switch(lab.name)
    detach(lab.paths.state)


def load_broken(name: str) -> LabRecord | None:
    """The record if it can be read; whoever takes a lab down must not stop at half of one."""
    try:
        return load(name)
    except LabError as error:
        say(f"{error.problem}; going by what is found")
        return None


def clear(name: str, lab: LabRecord | None, *, keep_consoles: bool = False) -> None:
    """Remove everything of a lab, whatever state it is in."""
    paths = LabPaths(name)
    if lab:
        halt(lab)
    close_connections(paths)
    # What a command started that was killed before it could write it down.
    for host in cgroups.hosts_of(name):
        cgroups.remove(name, host)
    network.remove_switch(name)
    userfaultfd.let_go(name)
    detach(paths.state)
    if keep_consoles:
        _keep_consoles(paths)
    for directory in (paths.state, paths.control):
        if directory.exists():
            shutil.rmtree(directory)
    _remove_inventory(paths.inventory(lab.owner if lab else REPOSITORY))


def detach(directory: Path) -> None:
    """Unmount everything below a directory of the lab, innermost first, and release its loop devices."""
    # First: a device that is still mounted goes with the last mount, and the file below it can then be unmounted too.
    for line in run(["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"]).stdout.splitlines():
        device, _, image = line.partition(" ")
        if image.strip().startswith(f"{directory}/"):
            run(["losetup", "--detach", device])
    for mount, kind in reversed(mounts_below(directory, Path("/proc/self/mountinfo").read_text())):
        # Force ends the server of a FUSE filesystem at once, also when somebody still has a copy of the mount.
        if run(["umount", *(["--force"] if kind == "fuse" else []), mount], check=False).returncode:
            # Somebody looks at it from the outside; it goes when they leave.
            run(["umount", "--lazy", mount])


def mounts_below(directory: Path, mountinfo: str) -> list[tuple[str, str]]:
    """(mount point, type of filesystem) of all mounts in a directory, in the order in which they were mounted."""
    found = []
    for line in mountinfo.splitlines():
        place, _, source = line.partition(" - ")
        path = place.split()[4]
        if Path(path).is_relative_to(directory):
            found.append((path, source.split()[0]))
    return found


def _keep_consoles(paths: LabPaths) -> None:
    kept = LOGS / paths.name
    for console in [*paths.state.glob("hosts/*/console.log"), *paths.state.glob("machines/*/console.log")]:
        kept.mkdir(parents=True, exist_ok=True)
        shutil.copy(console, kept / f"{console.parent.name}.log")
        say(f"its console: {kept / console.parent.name}.log")


def _remove_inventory(path: Path) -> None:
    path.unlink(missing_ok=True)
    with suppress(OSError):
        os.removedirs(path.parent)


def close_connections(paths: LabPaths) -> None:
    """End the ssh connections that Ansible keeps open: they would lead to hosts that are gone."""
    if not paths.control.is_dir():
        return
    for socket in paths.control.iterdir():
        run(["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "any"], check=False)


def remains(name: str) -> list[str]:
    """What is left of a lab of that name."""
    paths = LabPaths(name)
    found = [str(path) for path in (paths.state, paths.control) if path.exists()] + cgroups.hosts_of(name)
    found += [str(userfaultfd.SETTING)] if userfaultfd.is_asked_by(name) else []
    found += [str(path) for path in network.NETNS_DIR.glob(f"{network.lab_netns(name)}*") if _belongs(path.name, name)]
    return found


def _belongs(netns: str, name: str) -> bool:
    return netns == network.lab_netns(name) or netns.startswith(f"{network.lab_netns(name)}.")
