"""Machines: whole computers in QEMU, with a kernel and a disk of their own."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from kvmlab import (
    cgroups,
    identity,
    images,
    inventory,
    lifecycle,
    machine_disk,
    machine_image,
    machine_power,
    machine_qemu,
    network,
)
from kvmlab.cache import prune
from kvmlab.errors import LabError
from kvmlab.machine_shape import Machine, check_machine, free_address
from kvmlab.paths import LAB_DIR, STATE
from kvmlab.run import Process, run, say, wait_until
from kvmlab.shape import RELEASES
from kvmlab.state import LabRecord, MachineRecord, all_names

BOOT_S = 300
HALT_S = 90


def start(lab: LabRecord, names: Sequence[str], wanted: Machine) -> None:
    """Boot machines like `wanted`, and create those that are not there yet."""
    for name in names:
        _check_new(lab, replace(wanted, name=name, address=""))
    new = [name for name in dict.fromkeys(names) if name not in lab.machines]
    if new:
        _create(lab, new, wanted)
    boot(lab, names)


def _check_new(lab: LabRecord, wanted: Machine) -> None:
    check_machine(wanted)
    if any(host.name == wanted.name for host in lab.shape.all_hosts):
        raise LabError(f"{wanted.name} is a host of lab {lab.name!r}", "choose another name")
    there = lab.machines.get(wanted.name)
    if there and replace(there.machine, address="") != wanted:
        raise LabError(
            f"machine {wanted.name} is there already, and another one: {describe(there.machine)}",
            f"tests/lab/lab machine remove {wanted.name}{lab.flag} first, or start it with the same options",
        )


def describe(machine: Machine) -> str:
    """A machine in one line."""
    image = machine.image
    words = [image.release, f"{image.disk_gib} GiB {image.table} {image.layout} {image.firmware}", image.network]
    words += [f"{machine.disks} disks"] if machine.disks > 1 else []
    words += [f"{machine.cpus} cpu", f"{machine.memory_mib} MiB", f"{machine.nics} nic"]
    return ", ".join([*words, *([f"with {' '.join(image.packages)}"] if image.packages else [])])


def _create(lab: LabRecord, names: Sequence[str], wanted: Machine) -> None:
    release = wanted.release
    built = images.build({release})
    base = machine_image.build(wanted.image)
    shares = {"apt": str(built.repositories[release]), "guest": str(built.guest)}
    for name in names:
        address = free_address(record.machine.address for record in lab.machines.values())
        machine = replace(wanted, name=name, address=address)
        # Written down before it is made, so that `down` finds it and no other machine gets its address.
        record = lab.machines[name] = MachineRecord(machine, str(base), shares)
        lab.save()
        try:
            record.known_hosts = machine_disk.create(lab.name, machine, base)
        except BaseException:
            remove(lab, name)
            raise
        lab.save()
    _prune()


def boot(lab: LabRecord, names: Sequence[str]) -> None:
    """Boot machines side by side; returns when ssh answers on each."""
    records = [lab.machine(name) for name in dict.fromkeys(names)]
    # One that runs without being listed: whoever started it was stopped while it booted.
    awaited = [record for record in records if not record.running or not record.listed]
    for record in records:
        if record not in awaited:
            say(f"{record.machine.name} is running already; nothing to do")
        elif not record.running:
            lab.faults = [fault for fault in lab.faults if (fault.kind, fault.host) != ("power", record.machine.name)]
            _launch(lab, record)
            lab.save()
    _pin(lab)
    with ThreadPoolExecutor(max_workers=max(1, len(awaited))) as pool:
        for future in [pool.submit(await_ssh, lab, record.machine.name) for record in awaited]:
            future.result()
    for record in awaited:
        record.listed = True
    lab.save()
    inventory.write(lab)
    for record in awaited:
        say(f"{record.machine.name} is up: {record.machine.address}; inventory {lab.paths.inventory(lab.owner)}")


def _pin(lab: LabRecord) -> None:
    """The host keys of hosts and machines, as ssh is to expect them."""
    lines = [record.known_hosts for record in lab.machines.values()]
    for host in lab.shape.all_hosts:
        with suppress(FileNotFoundError):
            lines.append(identity.known_hosts_line(lab.paths.host(host.name).root, host))
    lab.paths.known_hosts.write_text("".join(lines))


def _launch(lab: LabRecord, record: MachineRecord) -> None:
    machine, paths = record.machine, lab.paths.machine(record.machine.name)
    for nic in range(machine.nics):
        network.plug_in(lab.name, machine.port(nic))
    words = ["ip", "netns", "exec", network.lab_netns(lab.name), *machine_qemu.command(machine, paths, record.shares)]
    groups = [str(path) for path in cgroups.create(lab.name, machine.name)]
    for path in (paths.serial, paths.monitor):
        path.unlink(missing_ok=True)
    with paths.output.open("wb") as sink:
        qemu = subprocess.Popen(
            [sys.executable, "-m", "kvmlab.launch", *groups, "--", *words],
            cwd=LAB_DIR,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    # Every step from here to QEMU is an exec: the process stays the same one.
    record.qemu = Process.of(qemu.pid)


def await_ssh(lab: LabRecord, name: str, deadline_s: int = BOOT_S) -> None:
    """Wait until the machine lets root in."""
    record, paths = lab.machine(name), lab.paths.machine(name)
    look = f"see {paths.console}"

    def there() -> bool:
        if not record.running:
            said = paths.output.read_text(errors="replace").strip()
            raise LabError(f"{name} ended while it booted: {said or 'QEMU said nothing'}", look)
        return network.port_open(lab.name, record.machine.address, 22) and ssh_works(lab, name)

    wait_until(there, deadline_s, f"ssh on {name}", look)


def ssh_command(lab: LabRecord, name: str, command: Sequence[str], *, terminal: bool = False) -> list[str]:
    """The command line that runs a command in a machine as root."""
    record = lab.machine(name)
    if not record.running:
        raise LabError(f"machine {name} is powered off", f"tests/lab/lab machine start {name}{lab.flag}")
    options = [f"UserKnownHostsFile={lab.paths.known_hosts}", "GlobalKnownHostsFile=/dev/null"]
    options += [
        "StrictHostKeyChecking=yes",
        "IdentitiesOnly=yes",
        "BatchMode=yes",
        "ConnectTimeout=20",
        "LogLevel=ERROR",
    ]
    options += ["ServerAliveInterval=15", "ControlPath=none"]
    words = ["ip", "netns", "exec", network.lab_netns(lab.name), "ssh", "-i", str(lab.paths.key)]
    words += [word for option in options for word in ("-o", option)]
    words += ["-t"] if terminal else []
    return [*words, f"root@{record.machine.address}", *([shell_words(command)] if command else [])]


def shell_words(command: Sequence[str]) -> str:
    """A command as one line for the shell at the other end."""
    return " ".join("'" + word.replace("'", "'\\''") + "'" for word in command)


def ssh_works(lab: LabRecord, name: str) -> bool:
    """Whether root gets in."""
    return run(ssh_command(lab, name, ["true"]), check=False, stdin="").returncode == 0


def boot_id(lab: LabRecord, name: str) -> str:
    """What the machine's kernel calls this boot of it; empty when it cannot be asked."""
    asked = run(ssh_command(lab, name, ["cat", "/proc/sys/kernel/random/boot_id"]), check=False, stdin="")
    return asked.stdout.strip() if asked.returncode == 0 else ""


def reboot(lab: LabRecord, names: Sequence[str]) -> None:
    """Reboot machines from within; returns when ssh answers on each again."""
    before = {name: boot_id(lab, name) for name in names}
    deaf = [name for name, found in before.items() if not found]
    if deaf:
        raise LabError(f"ssh does not answer on {' '.join(deaf)}", "tests/lab/lab machine console shows why")
    lifecycle.close_connections(lab.paths)
    for name in names:
        # The connection may end before the answer comes.
        run(ssh_command(lab, name, ["systemctl", "reboot"]), check=False, stdin="")
    for name in names:
        wait_until(partial(_changed, lab, name, before[name]), BOOT_S, f"reboot of {name}")
        say(f"{name} has rebooted")


def _changed(lab: LabRecord, name: str, before: str) -> bool:
    return boot_id(lab, name) not in ("", before)


def stop(lab: LabRecord, names: Sequence[str]) -> None:
    """Press the power button of machines; kill those that do not go. Their disks stay."""
    lifecycle.close_connections(lab.paths)
    running = [name for name in dict.fromkeys(names) if lab.machine(name).running]
    for name in running:
        _press_button(lab, name)
    end = time.monotonic() + HALT_S
    for name in dict.fromkeys(names):
        record = lab.machine(name)
        while record.running and time.monotonic() < end:
            time.sleep(0.2)
        if record.running:
            say(f"{name} did not power off within {HALT_S} s and was killed")
        machine_power.cut_power(lab, name)
        record.listed = False
        say(f"{name} is off" if name in running else f"{name} was off already")
    lab.save()
    inventory.write(lab)


def _press_button(lab: LabRecord, name: str) -> None:
    """Ask the machine to power off, as its button would."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as control:
        control.settimeout(10)
        control.connect(str(lab.paths.machine(name).monitor))
        with control.makefile("rw") as stream:
            stream.readline()
            for order in ("qmp_capabilities", "system_powerdown"):
                stream.write(json.dumps({"execute": order}) + "\n")
                stream.flush()
                stream.readline()


def remove(lab: LabRecord, name: str) -> None:
    """End a machine and forget it, with its disk."""
    machine_power.cut_power(lab, name)
    del lab.machines[name]
    lab.faults = [fault for fault in lab.faults if fault.host != name]
    lab.save()
    base = lab.paths.machine(name).base
    lifecycle.detach(base)
    if base.exists():
        shutil.rmtree(base)
    inventory.write(lab)


def _prune() -> None:
    """Drop old images that no machine stands on."""
    labs = [lab for lab in map(lifecycle.load_broken, all_names(STATE)) if lab]
    used = {Path(record.base) for lab in labs for record in lab.machines.values()}
    for release in RELEASES:
        prune(f"disk-{release}", used, newest=6)
        prune(f"tree-{release}", (), newest=6)
