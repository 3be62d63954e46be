"""Arguments of `lab machine`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from kvmlab import machines, preflight
from kvmlab.errors import LabError
from kvmlab.machine_shape import FIRMWARES, LAYOUTS, NETWORKS, TABLES, Image, Machine, read_packages
from kvmlab.paths import DEFAULT_NAME, LabPaths
from kvmlab.run import locked
from kvmlab.shape import RELEASES
from kvmlab.state import LabRecord, require
from kvmlab.status import table

if TYPE_CHECKING:
    Kinds = argparse._SubParsersAction[argparse.ArgumentParser]

Act = Callable[[LabRecord, argparse.Namespace], int | None]


def add_machine(commands: Kinds) -> None:
    """The command `machine` with all it can do."""
    command = commands.add_parser("machine", help="whole computers: a kernel, a disk and a boot loader of their own")
    kinds = command.add_subparsers(required=True, metavar="ACTION")
    _add_start(kinds)
    _several(kinds, "stop", "press the power button; the disk stays", lambda lab, a: machines.stop(lab, a.machine))
    _several(kinds, "reboot", "reboot from within", lambda lab, a: machines.reboot(lab, a.machine))
    _several(kinds, "remove", "end machines and forget them, with their disks", _remove)
    _kind(kinds, "list", "the machines of the lab", _list, alters=False)
    execute = _kind(kinds, "exec", "run a command as root, by ssh; its exit code is passed on", _exec, alters=False)
    execute.add_argument("machine")
    execute.add_argument("command", nargs="+", metavar="-- COMMAND", help="put -- before it")
    console = _kind(kinds, "console", "what a machine printed on its serial line", _console, alters=False)
    console.add_argument("machine")
    console.add_argument("--attach", action="store_true", help="and go on, both ways, until interrupted")


def _add_start(kinds: Kinds) -> None:
    start = _several(kinds, "start", "boot machines, creating those that are not there yet", _start)
    start.add_argument("--os", default="bookworm", choices=RELEASES, help="default: %(default)s")
    start.add_argument("--memory-mib", type=int, default=1024, metavar="N", help="default: %(default)s")
    start.add_argument("--cpus", type=int, default=2, metavar="N", help="default: %(default)s")
    start.add_argument("--disk-gib", type=int, default=8, metavar="N", help="sparse (default: %(default)s)")
    start.add_argument("--layout", default="lvm", choices=LAYOUTS, help="of the first disk (default: %(default)s)")
    start.add_argument(
        "--disks", type=int, default=1, metavar="N", help="2 GiB each, but the first (default: %(default)s)"
    )
    start.add_argument("--nics", type=int, default=1, metavar="N", help="cards on the switch (default: %(default)s)")
    start.add_argument("--network", default="networkd", choices=NETWORKS, help="who configures the first card")
    start.add_argument("--table", default="gpt", choices=TABLES, help="partition table (default: %(default)s)")
    start.add_argument("--firmware", default="bios", choices=FIRMWARES, help="default: %(default)s")
    start.add_argument(
        "--packages",
        default="",
        metavar="LIST",
        help="what else is installed when the disk is built: names, files, or names of lists in tests/lab/machine-lists",
    )


def _start(lab: LabRecord, arguments: argparse.Namespace) -> None:
    preflight.check()
    packages = read_packages(arguments.packages, arguments.os)
    image = Image(
        arguments.os,
        packages,
        arguments.network,
        arguments.table,
        arguments.firmware,
        arguments.disk_gib,
        arguments.layout,
    )
    wanted = Machine("", "", image, arguments.memory_mib, arguments.cpus, arguments.nics, arguments.disks)
    machines.start(lab, arguments.machine, wanted)


def _remove(lab: LabRecord, arguments: argparse.Namespace) -> None:
    for name in arguments.machine:
        machines.remove(lab, lab.machine(name).machine.name)


def _list(lab: LabRecord, _arguments: argparse.Namespace) -> None:
    rows = [("MACHINE", "ADDRESS", "STATE", "WHAT")]
    for record in lab.machines.values():
        state = "running" if record.running else "off"
        rows.append((record.machine.name, record.machine.address, state, machines.describe(record.machine)))
    print("\n".join(table(rows)))


def _exec(lab: LabRecord, arguments: argparse.Namespace) -> int:
    return execute_in(lab, arguments.machine, arguments.command)


def execute_in(lab: LabRecord, name: str, command: list[str]) -> int:
    """Run a command in a machine, or a shell when there is none; its exit code."""
    words = machines.ssh_command(lab, name, command, terminal=not command)
    return subprocess.run(words, check=False).returncode


def _console(lab: LabRecord, arguments: argparse.Namespace) -> None:
    name = lab.machine(arguments.machine).machine.name
    paths = lab.paths.machine(name)
    print(paths.console.read_text(errors="replace"), end="", flush=True)
    if not arguments.attach:
        print(f"({paths.console})", file=sys.stderr)
        return
    if not lab.machine(name).running:
        raise LabError(f"machine {name} is powered off", f"tests/lab/lab machine start {name}{lab.flag}")
    os.execvp("nc", ["nc", "-U", str(paths.serial)])


def _several(kinds: Kinds, name: str, text: str, act: Act) -> argparse.ArgumentParser:
    parser = _kind(kinds, name, text, act)
    parser.add_argument("machine", nargs="+", metavar="MACHINE")
    return parser


def _kind(kinds: Kinds, name: str, text: str, act: Act, *, alters: bool = True) -> argparse.ArgumentParser:
    parser = kinds.add_parser(name, help=text, description=text)
    parser.add_argument("--name", default=DEFAULT_NAME, help="which lab (default: %(default)s)")

    def run(arguments: argparse.Namespace) -> int:
        if not alters:
            return int(act(require(arguments.name), arguments) or 0)
        with locked(LabPaths(arguments.name).lock, f"is changing lab {arguments.name}"):
            return int(act(require(arguments.name), arguments) or 0)

    parser.set_defaults(act=run)
    return parser
