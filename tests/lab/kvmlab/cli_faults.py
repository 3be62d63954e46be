"""Arguments of `lab fault`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from kvmlab import breakable, faults, firewall
from kvmlab.paths import DEFAULT_NAME, LabPaths
from kvmlab.run import locked
from kvmlab.state import LabRecord, require

if TYPE_CHECKING:
    Kinds = argparse._SubParsersAction[argparse.ArgumentParser]

Act = Callable[[LabRecord, argparse.Namespace], None]


def add_fault(commands: Kinds) -> None:
    """The command `fault` with all its kinds."""
    command = commands.add_parser("fault", help="break something on purpose, or heal it")
    kinds = command.add_subparsers(required=True, metavar="FAULT")
    daemon = _kind(
        kinds,
        "kill-daemon",
        "SIGKILL libvirt's daemons of a host",
        lambda lab, a: faults.kill_daemon(lab, a.host, a.stay_down),
    )
    daemon.add_argument("--stay-down", action="store_true", help="and let systemd not start them again")
    _kind(kinds, "start-daemon", "undo kill-daemon --stay-down", lambda lab, a: faults.start_daemon(lab, a.host))
    qemu = _kind(
        kinds, "kill-qemu", "SIGKILL the QEMU of a domain", lambda lab, a: faults.kill_qemu(lab, a.host, a.domain)
    )
    qemu.add_argument("domain")
    freeze = _kind(
        kinds,
        "freeze",
        "SIGSTOP the QEMU of a domain, or a process by name",
        lambda lab, a: faults.freeze(lab, a.host, a.what),
    )
    freeze.add_argument("what", metavar="DOMAIN|PROCESS")
    thaw = _kind(kinds, "thaw", "undo freeze", lambda lab, a: faults.thaw(lab, a.host, a.what))
    thaw.add_argument("what", metavar="DOMAIN|PROCESS")
    _kind(kinds, "power-off", "pull the plug of a host", lambda lab, a: faults.power_off(lab, a.host))
    _kind(kinds, "power-on", "boot a host again", lambda lab, a: faults.power_on(lab, a.host))
    _add_network(kinds)
    _add_space(kinds)
    _kind(kinds, "heal", "undo every fault there is", lambda lab, _a: faults.heal(lab), host=False)


def _add_network(kinds: Kinds) -> None:
    cut = _kind(
        kinds,
        "cut",
        "drop everything between two hosts",
        lambda lab, a: faults.cut(lab, a.one, a.other, a.ports, a.one_way),
        host=False,
    )
    cut.add_argument("one", metavar="A")
    cut.add_argument("other", metavar="B", help=f"a host, or {firewall.CONTROLLER!r}")
    cut.add_argument("--ports", choices=list(firewall.PORTS), default="all", help="default: %(default)s")
    cut.add_argument("--one-way", action="store_true", help="only from A to B")
    drop = _kind(
        kinds, "drop", "lose packets of a host at random", lambda lab, a: faults.drop(lab, a.host, a.percent, a.one_way)
    )
    drop.add_argument("percent", type=float)
    drop.add_argument("--one-way", action="store_true", help="only what the host sends")
    _kind(kinds, "mute", "drop the ARP, RARP and ICMPv6 that a host sends", lambda lab, a: faults.mute(lab, a.host))
    _kind(kinds, "unmute", "undo mute", lambda lab, a: faults.unmute(lab, a.host))
    rate = _kind(kinds, "rate", "change the rate of a host's link", lambda lab, a: faults.rate(lab, a.host, a.rate))
    rate.add_argument("rate", metavar="RATE", help="for example 50mbit, or none")


def _add_space(kinds: Kinds) -> None:
    fill = _kind(
        kinds,
        "fill",
        "fill a small filesystem (see lab volume)",
        lambda lab, a: faults.fill(lab, a.host, a.path, a.leave_mib),
    )
    fill.add_argument("path")
    fill.add_argument("--leave-mib", type=int, default=0, metavar="N", help="room to leave (default: %(default)s)")
    unfill = _kind(kinds, "unfill", "undo fill", lambda lab, a: faults.unfill(lab, a.host, a.path))
    unfill.add_argument("path")
    disk = _kind(
        kinds,
        "break-disk",
        "let the disk of a volume fail or crawl (see lab volume --breakable)",
        lambda lab, a: faults.break_disk(lab, a.host, a.path, a.how, a.kib_s),
    )
    disk.add_argument("path")
    disk.add_argument("how", choices=breakable.HOWS, help="reads or writes fail, or both are slow")
    disk.add_argument("--kib-s", type=int, default=256, metavar="N", help="how slow (default: %(default)s KiB/s)")
    mend = _kind(kinds, "mend-disk", "undo break-disk", lambda lab, a: faults.mend_disk(lab, a.host, a.path))
    mend.add_argument("path")


def _kind(kinds: Kinds, name: str, text: str, act: Act, *, host: bool = True) -> argparse.ArgumentParser:
    parser = kinds.add_parser(name, help=text, description=text)
    parser.add_argument("--name", default=DEFAULT_NAME, help="which lab (default: %(default)s)")
    if host:
        parser.add_argument("host")

    def run(arguments: argparse.Namespace) -> None:
        with locked(LabPaths(arguments.name).lock, f"is changing lab {arguments.name}"):
            act(require(arguments.name), arguments)

    parser.set_defaults(act=run)
    return parser
