"""Arguments and their meaning."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from kvmlab import network, preflight, status, updown, userfaultfd, volumes
from kvmlab.cli_faults import add_fault
from kvmlab.cli_machine import add_machine, execute_in
from kvmlab.errors import LabError
from kvmlab.inside import inside
from kvmlab.paths import DEFAULT_NAME, LAB_DIR, LabPaths
from kvmlab.run import locked
from kvmlab.shape import check_name, plan_shape
from kvmlab.state import require

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def main(argv: list[str]) -> int:
    """Run one command; the exit code is 0, that of the command in `exec`, or 1 with a message."""
    arguments = parser().parse_args(argv)
    # Ended from outside, a command must still take down what it was about to bring up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        arguments.name = check_name(arguments.name)
        if arguments.act is not _setup:
            preflight.require_root()
        return int(arguments.act(arguments) or 0)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """All commands."""
    top = argparse.ArgumentParser(prog="lab", description="Real libvirt hosts on one machine. See docs/lab.md.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    add_up(commands)
    add(commands, "down", "take the lab down, leaving nothing behind", _down)
    add(commands, "status", "what is up, in every lab", _status)
    execute = add(commands, "exec", "run a command in a host; its exit code is passed on", _exec)
    execute.add_argument("host")
    execute.add_argument("command", nargs="+", metavar="-- COMMAND", help="put -- before it")
    shell = add(commands, "shell", "a root shell in a host", _shell)
    shell.add_argument("host")
    namespace = add(commands, "ns", "run a command at the controller's end of the lab's network", _ns)
    namespace.add_argument("command", nargs="+", metavar="-- COMMAND", help="put -- before it")
    outsider = add(commands, "outsider", "run a command on a machine of the lab's network that is no host", _outsider)
    outsider.add_argument(
        "--address", action="append", metavar="IP/PREFIX", help=f"its addresses (default: {network.NETWORK}.250/24)"
    )
    outsider.add_argument("command", nargs="+", metavar="-- COMMAND", help="put -- before it")
    console = add(commands, "console", "what a host printed while it booted and ran", _console)
    console.add_argument("host")
    volume = add(commands, "volume", "give a host a small filesystem of its own", _volume)
    volume.add_argument("host")
    volume.add_argument("mountpoint")
    volume.add_argument("--mib", type=int, default=200, help="its size (default: %(default)s)")
    volume.add_argument(
        "--breakable", action="store_true", help="on a disk that fails when told to, see fault break-disk"
    )
    pages = add(commands, "userfaultfd", "let QEMU fetch pages by itself, as post-copy needs", _userfaultfd)
    pages.add_argument("what", choices=["allow", "forbid"])
    add_machine(commands)
    add_fault(commands)
    add(commands, "setup", "install the packages the lab needs on this machine", _setup)
    return top


def add(
    commands: Commands, name: str, text: str, act: Callable[[argparse.Namespace], int | None]
) -> argparse.ArgumentParser:
    """A command that acts on the lab called --name."""
    command = commands.add_parser(name, help=text, description=text)
    command.add_argument("--name", default=DEFAULT_NAME, help="which lab (default: %(default)s)")
    command.set_defaults(act=act)
    return command


def add_up(commands: Commands) -> None:
    """The command that starts a lab."""
    command = add(commands, "up", "start a lab; nothing happens when it is up already", _up)
    command.add_argument(
        "--hosts", type=int, default=3, metavar="N", help="how many, 0 for none (default: %(default)s)"
    )
    command.add_argument(
        "--os", default="bookworm,bookworm,trixie", help="their releases, repeated as needed (default: %(default)s)"
    )
    command.add_argument("--bare", action="store_true", help="only systemd, sshd and Python: not rolled out yet")
    command.add_argument("--link", default="", metavar="RATE", help="limit every host's link, for example 200mbit")
    command.add_argument("--shared-storage", default="", choices=["", "nfs"], help="add the storage host nas")


def _locked(name: str) -> AbstractContextManager[None]:
    return locked(LabPaths(name).lock, f"is changing lab {name}")


def _up(arguments: argparse.Namespace) -> None:
    releases = arguments.os
    if releases == "bookworm,bookworm,trixie":
        releases = ",".join(releases.split(",")[: arguments.hosts])
    shape = plan_shape(arguments.hosts, releases, arguments.shared_storage, arguments.link)
    with _locked(arguments.name):
        updown.up(arguments.name, shape, bare=arguments.bare)


def _down(arguments: argparse.Namespace) -> None:
    with _locked(arguments.name):
        updown.down(arguments.name)


def _status(_arguments: argparse.Namespace) -> None:
    print(status.report())


def _exec(arguments: argparse.Namespace) -> int:
    lab = require(arguments.name)
    if arguments.host in lab.machines:
        return execute_in(lab, arguments.host, arguments.command)
    return subprocess.run(inside(lab, arguments.host, arguments.command), check=False).returncode


def _shell(arguments: argparse.Namespace) -> int:
    lab = require(arguments.name)
    if arguments.host in lab.machines:
        return execute_in(lab, arguments.host, [])
    return subprocess.run(inside(lab, arguments.host, ["bash", "-l"]), check=False).returncode


def _ns(arguments: argparse.Namespace) -> int:
    require(arguments.name)
    words = ["ip", "netns", "exec", network.lab_netns(arguments.name), *arguments.command]
    # In place of this process: whoever ends `lab ns` means the command.
    os.execvp(words[0], words)


def _outsider(arguments: argparse.Namespace) -> int:
    require(arguments.name)
    addresses = arguments.address or [f"{network.NETWORK}.250/{network.PREFIX}"]
    # One at a time: it has one namespace and one port on the switch.
    with (
        locked(LabPaths(arguments.name).lock, f"is changing lab {arguments.name}"),
        network.outsider(arguments.name, addresses) as words,
    ):
        return subprocess.run([*words, *arguments.command], check=False).returncode


def _console(arguments: argparse.Namespace) -> None:
    lab = require(arguments.name)
    machine = arguments.host in lab.machines
    path = (
        lab.paths.machine(arguments.host).console if machine else lab.paths.host(lab.host(arguments.host).name).console
    )
    print(path.read_text(errors="replace"), end="")
    print(f"({path})", file=sys.stderr)


def _volume(arguments: argparse.Namespace) -> None:
    with _locked(arguments.name):
        volumes.add(
            require(arguments.name), arguments.host, arguments.mountpoint, arguments.mib, can_break=arguments.breakable
        )


def _userfaultfd(arguments: argparse.Namespace) -> None:
    act = {"allow": userfaultfd.allow, "forbid": userfaultfd.forbid}[arguments.what]
    with _locked(arguments.name):
        act(require(arguments.name))


def _setup(_arguments: argparse.Namespace) -> int:
    return subprocess.run([LAB_DIR / "setup"], check=False).returncode
