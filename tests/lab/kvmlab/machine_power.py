"""A machine loses its power."""

from __future__ import annotations

import signal
from functools import partial

from kvmlab import cgroups, network
from kvmlab.run import Process, wait_until
from kvmlab.state import LabRecord


def cut_power(lab: LabRecord, name: str) -> None:
    """SIGKILL of a machine's QEMU, if it runs; its ports go, its disk stays."""
    record = lab.machine(name)
    if record.qemu and record.qemu.alive():
        record.qemu.signal(signal.SIGKILL)
        wait_until(partial(_ended, record.qemu), 20, f"ending QEMU of {name}")
    record.qemu = None
    for nic in range(record.machine.nics):
        network.unplug(lab.name, record.machine.port(nic))
    cgroups.remove(lab.name, name)


def _ended(process: Process) -> bool:
    return not process.alive()
