"""Processes inside a host, seen from the outer machine."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kvmlab.errors import LabError
from kvmlab.run import Process, start_ticks
from kvmlab.state import LabRecord

DAEMONS = (
    "libvirtd",
    "virtqemud",
    "virtstoraged",
    "virtnetworkd",
    "virtproxyd",
    "virtnodedevd",
    "virtsecretd",
    "virtinterfaced",
)
DOMAIN = re.compile(rb"^guest=([^,]+)")


@dataclass(frozen=True)
class Found:
    """A process of a host: its name, the domain it runs if it is QEMU, and its identity outside."""

    name: str
    domain: str
    process: Process


def of_host(lab: LabRecord, host: str) -> Iterator[Found]:
    """All processes of a powered-on host."""
    space = os.readlink(f"/proc/{lab.running(host).pid}/ns/pid")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if os.readlink(entry / "ns/pid") != space:
                continue
            words = (entry / "cmdline").read_bytes().split(b"\0")
            ticks = start_ticks(int(entry.name))
            if ticks is not None:
                name = Path(os.fsdecode(words[0])).name or (entry / "comm").read_text().strip()
                yield Found(name, domain_of(words), Process(int(entry.name), ticks))


def domain_of(words: list[bytes]) -> str:
    """The domain a QEMU command line of libvirt's runs; empty for any other command line."""
    for option, value in itertools.pairwise(words):
        match = DOMAIN.match(value)
        if option == b"-name" and match:
            return match[1].decode()
    return ""


def qemu_of(lab: LabRecord, host: str, domain: str) -> list[Process]:
    """The QEMU processes of a domain on a host; LabError that lists the domains that do run there."""
    found = list(of_host(lab, host))
    mine = [each.process for each in found if each.domain == domain]
    if not mine:
        running = sorted({each.domain for each in found if each.domain})
        raise LabError(f"no QEMU runs domain {domain!r} on {host}", f"there are: {' '.join(running) or 'none'}")
    return mine


def named(lab: LabRecord, host: str, what: str) -> list[Process]:
    """The QEMU of the domain `what`, or else the processes called `what`."""
    found = list(of_host(lab, host))
    mine = [each.process for each in found if each.domain == what] or [
        each.process for each in found if each.name == what
    ]
    if not mine:
        names = sorted({each.domain or each.name for each in found})
        raise LabError(f"{host} runs neither a domain nor a process called {what!r}", f"it runs: {' '.join(names)}")
    return mine


def daemons(lab: LabRecord, host: str) -> list[Found]:
    """libvirt's daemons on a host, monolithic or modular."""
    return [each for each in of_host(lab, host) if each.name in DAEMONS]
