"""Things that go wrong on purpose. Each says what it did and how to undo it."""

from __future__ import annotations

import signal

from kvmlab import breakable, firewall, hosts, lifecycle, machine_power, machines, network, processes, volumes
from kvmlab.errors import LabError
from kvmlab.inside import inside
from kvmlab.run import Process, run, say
from kvmlab.shape import check_rate
from kvmlab.state import Fault, LabRecord


def _add(lab: LabRecord, fault: Fault, undo: str) -> None:
    lab.faults = [other for other in lab.faults if other != fault] + [fault]
    lab.save()
    say(fault.text)
    say(f"undo: tests/lab/lab fault {undo}{lab.flag}")


def _drop(lab: LabRecord, kind: str, host: str, detail: str | None = None) -> list[Fault]:
    """Forget faults of a kind on a host; returns them."""
    gone = [f for f in lab.faults if f.kind == kind and f.host == host and detail in (None, f.detail)]
    lab.faults = [fault for fault in lab.faults if fault not in gone]
    lab.save()
    return gone


def cut(lab: LabRecord, one: str, other: str, ports: str, one_way: bool) -> None:
    """Let nothing through between two hosts, or between a host and the controller."""
    for name in (one, other):
        if name != firewall.CONTROLLER:
            lab.on_switch(name)
    if one == other:
        raise LabError(f"cut {one} {other}: two different ends are needed")
    fault = Fault("cut", one, f"{ports} {'one' if one_way else 'both'} {other}")
    arrow = "->" if one_way else "<->"
    what = "everything" if ports == "all" else f"{ports} ports {' '.join(firewall.PORTS[ports])}"
    fault = Fault(fault.kind, fault.host, fault.detail, f"cut {one} {arrow} {other}: {what} dropped at the switch")
    firewall.apply(lab.name, [*lab.faults, fault])
    _add(lab, fault, "heal")


def drop(lab: LabRecord, host: str, percent: float, one_way: bool) -> None:
    """Lose packets of a host at random."""
    lab.on_switch(host)
    if not 0 < percent <= 100:
        raise LabError(f"drop {percent}: a percentage above 0 and at most 100")
    _drop(lab, "drop", host)
    which = "sends to" if one_way else "exchanges with"
    text = f"{percent:g} % of the packets that {host} {which} other hosts are dropped at the switch"
    fault = Fault("drop", host, f"{percent:g} {'one' if one_way else 'both'}", text)
    firewall.apply(lab.name, [*lab.faults, fault])
    _add(lab, fault, "heal")


def rate(lab: LabRecord, host: str, value: str) -> None:
    """Change the rate of a host's link; `none` takes the limit away."""
    name = lab.host(host).name
    wanted = "" if value == "none" else check_rate(value)
    before = lab.hosts[name].link
    network.set_rate(lab.name, name, wanted)
    lab.hosts[name].link = wanted
    usual = _drop(lab, "rate", name)
    usual_rate = usual[0].detail if usual else before
    if wanted == usual_rate:
        lab.save()
        say(f"link of {host}: {wanted or 'unlimited'}, as it was in the beginning")
        return
    text = f"link of {host}: {wanted or 'unlimited'} both ways (was {before or 'unlimited'})"
    _add(lab, Fault("rate", name, usual_rate, text), f"rate {host} {usual_rate or 'none'}")


def kill_qemu(lab: LabRecord, host: str, domain: str) -> None:
    """SIGKILL the QEMU of a domain."""
    for process in processes.qemu_of(lab, host, domain):
        process.signal(signal.SIGKILL)
        say(f"killed QEMU of {domain} on {host} (process {process.pid} of the outer machine)")
    say(f"undo: start the domain again: tests/lab/lab exec{lab.flag} {host} -- virsh start {domain}")


def kill_daemon(lab: LabRecord, host: str, stay_down: bool) -> None:
    """SIGKILL libvirt's daemons; systemd starts them again unless they are to stay down."""
    units = " ".join(
        f"{name}.service {name}.socket {name}-ro.socket {name}-admin.socket" for name in processes.DAEMONS
    ).split()
    found = processes.daemons(lab, host)
    if not found and not stay_down:
        raise LabError(
            f"no libvirt daemon runs on {host}", f"tests/lab/lab exec{lab.flag} {host} -- virsh list starts one"
        )
    if stay_down:
        run(inside(lab, host, ["systemctl", "mask", "--runtime", *units]), check=False)
    for each in found:
        each.process.signal(signal.SIGKILL)
        say(f"killed {each.name} on {host} (process {each.process.pid} of the outer machine)")
    if stay_down:
        run(inside(lab, host, ["systemctl", "stop", *units]), check=False)
        _add(lab, Fault("daemon", host, "", f"libvirt's daemons on {host} stay down"), f"start-daemon {host}")
    else:
        say("undo: nothing to do, systemd starts it again")


def start_daemon(lab: LabRecord, host: str) -> None:
    """Undo `kill-daemon --stay-down`."""
    _drop(lab, "daemon", host)
    run(inside(lab, host, ["find", "/run/systemd/system", "-lname", "/dev/null", "-name", "*virt*", "-delete"]))
    run(inside(lab, host, ["systemctl", "daemon-reload"]))
    run(inside(lab, host, ["systemctl", "start", "sockets.target", "multi-user.target"]))
    say(f"libvirt's daemons on {host} may run again")


def freeze(lab: LabRecord, host: str, what: str) -> None:
    """SIGSTOP the QEMU of a domain, or processes by name."""
    found = processes.named(lab, host, what)
    for process in found:
        process.signal(signal.SIGSTOP)
    numbers = ",".join(f"{process.pid}:{process.start_ticks}" for process in found)
    text = f"{what} on {host} is frozen ({len(found)} process{'es' if len(found) > 1 else ''})"
    _add(lab, Fault("freeze", host, f"{what} {numbers}", text), f"thaw {host} {what}")


def thaw(lab: LabRecord, host: str, what: str) -> None:
    """Undo `freeze`."""
    frozen = [
        fault for fault in lab.faults if (fault.kind, fault.host, fault.detail.split()[0:1]) == ("freeze", host, [what])
    ]
    if not frozen:
        raise LabError(f"nothing called {what!r} is frozen on {host}", "tests/lab/lab status lists the faults")
    for fault in frozen:
        for number in fault.detail.split()[1].split(","):
            pid, _, ticks = number.partition(":")
            Process(int(pid), int(ticks)).signal(signal.SIGCONT)
        _drop(lab, "freeze", host, fault.detail)
    say(f"{what} on {host} goes on")


def fill(lab: LabRecord, host: str, path: str, leave_mib: int) -> None:
    """Fill the filesystem of a path inside a host."""
    left = volumes.fill(lab, host, path, leave_mib)
    _add(lab, Fault("fill", host, path, f"{path} on {host} is full: {left} MiB left"), f"unfill {host} {path}")


def unfill(lab: LabRecord, host: str, path: str) -> None:
    """Undo `fill`."""
    volumes.unfill(lab, host, path)
    _drop(lab, "fill", host, path)
    say(f"{path} on {host} has its room back")


def break_disk(lab: LabRecord, host: str, path: str, how: str, kib_s: int) -> None:
    """Let the disk of a breakable volume fail or crawl."""
    if how == breakable.SLOW and kib_s < 1:
        raise LabError(f"--kib-s {kib_s}: at least 1")
    volumes.break_disk(lab, host, path, how, kib_s)
    _drop(lab, "disk", host, path)
    what = f"reads and writes take place at {kib_s} KiB/s" if how == breakable.SLOW else f"all {how} fail"
    _add(lab, Fault("disk", host, path, f"disk of {path} on {host}: {what}"), f"mend-disk {host} {path}")


def mend_disk(lab: LabRecord, host: str, path: str) -> None:
    """Undo `break_disk`."""
    volumes.break_disk(lab, host, path, "")
    _drop(lab, "disk", host, path)
    say(f"the disk of {path} on {host} works again")


def mute(lab: LabRecord, host: str) -> None:
    """Let nobody learn from this host where an address is: no ARP, RARP and ICMPv6 (which has IPv6's) of it passes the switch."""
    lab.on_switch(host)
    fault = Fault("mute", host, "", f"ARP, RARP and ICMPv6 that {host} sends are dropped at the switch")
    firewall.apply(lab.name, [*lab.faults, fault])
    _add(lab, fault, f"unmute {host}")


def unmute(lab: LabRecord, host: str) -> None:
    """Undo `mute`."""
    _drop(lab, "mute", host)
    firewall.apply(lab.name, lab.faults)
    say(f"ARP, RARP and ICMPv6 of {host} pass again")


def power_off(lab: LabRecord, host: str) -> None:
    """Pull the plug of a host: no process of it gets to say a word."""
    if host in lab.machines:
        if not lab.machine(host).running:
            raise LabError(f"machine {host} is powered off", f"tests/lab/lab machine start {host}{lab.flag}")
        machine_power.cut_power(lab, host)
    else:
        lab.running(host)
        hosts.power_off(lab, host, hard=True)
    # The connections Ansible keeps open lead to a host that no longer answers; they would hang until a time-out.
    lifecycle.close_connections(lab.paths)
    lab.faults = [fault for fault in lab.faults if fault.host != host or fault.kind not in ("freeze", "daemon")]
    _add(lab, Fault("power", host, "", f"{host} lost its power"), f"power-on {host}")


def power_on(lab: LabRecord, host: str) -> None:
    """Boot a host that was powered off."""
    if host in lab.machines:
        _drop(lab, "power", host)
        machines.boot(lab, [host])
        return
    if lab.hosts[lab.host(host).name].running:
        say(f"{host} is running already; nothing to do")
        return
    _drop(lab, "power", host)
    hosts.power_on(lab, lab.host(host))
    lab.save()
    say(f"{host} is up again")


def heal(lab: LabRecord) -> None:
    """Undo every fault there is."""
    if not lab.faults:
        say("nothing to heal")
    for fault in list(lab.faults):
        if fault.kind == "power":
            power_on(lab, fault.host)
    for fault in list(lab.faults):
        if fault.kind == "freeze":
            thaw(lab, fault.host, fault.detail.split()[0])
        elif fault.kind == "fill":
            unfill(lab, fault.host, fault.detail)
        elif fault.kind == "disk":
            mend_disk(lab, fault.host, fault.detail)
        elif fault.kind == "daemon":
            start_daemon(lab, fault.host)
        elif fault.kind == "rate":
            rate(lab, fault.host, fault.detail or "none")
        elif fault.kind in ("cut", "drop", "mute"):
            _drop(lab, fault.kind, fault.host, fault.detail)
            say(f"healed: {fault.text}")
    firewall.apply(lab.name, lab.faults)
