"""A table of every lab on this machine."""

from __future__ import annotations

from kvmlab.inside import inside
from kvmlab.lifecycle import load_broken
from kvmlab.paths import STATE
from kvmlab.run import run
from kvmlab.shape import Host
from kvmlab.state import LabRecord, MachineRecord, all_names

COLUMNS = ("HOST", "RELEASE", "KIND", "ADDRESS", "STATE", "DOMAINS")


def report() -> str:
    """All labs and their hosts, as text."""
    names = all_names(STATE)
    if not names:
        return "no lab is up"
    parts = []
    for name in names:
        lab = load_broken(name)
        if lab is None:
            parts.append(f"lab {name}: half of one; tests/lab/lab down --name {name} removes it")
            continue
        rows = [COLUMNS, *(_row(lab, host) for host in lab.shape.all_hosts)]
        rows += [_machine_row(record) for record in lab.machines.values()]
        title = f"lab {name}  link {lab.shape.link or 'unlimited'}  from {lab.owner}"
        parts.append("\n".join([title, *table(rows), *(f"fault: {fault.text}" for fault in lab.faults)]))
    return "\n\n".join(parts)


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows as lines with aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(lab: LabRecord, host: Host) -> tuple[str, ...]:
    running = lab.hosts[host.name].running
    kind = "storage" if host == lab.shape.nas else "bare" if lab.bare else "ready"
    domains = _domains(lab, host) if running else "-"
    return (host.name, host.release, kind, host.address, "running" if running else "off", domains)


def _machine_row(record: MachineRecord) -> tuple[str, ...]:
    machine = record.machine
    state = "running" if record.running else "off"
    return (machine.name, machine.release, "machine", machine.address, state, "-")


def _domains(lab: LabRecord, host: Host) -> str:
    if not (lab.paths.host(host.name).root / "usr/bin/virsh").exists():
        return "-"
    asked = run(inside(lab, host.name, ["timeout", "5", "virsh", "list", "--name"]), check=False)
    return " ".join(asked.stdout.split()) or ("none" if asked.returncode == 0 else "(libvirt does not answer)")
