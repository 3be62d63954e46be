"""A lab comes up and goes down."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from kvmlab import images, lifecycle, nas, network, preflight, ready
from kvmlab.cache import prune
from kvmlab.errors import LabError
from kvmlab.inside import inside
from kvmlab.paths import REPOSITORY, STATE, LabPaths
from kvmlab.run import run, say, wait_until
from kvmlab.shape import RELEASES, Host, Shape
from kvmlab.state import LabRecord, all_names, describe, load

SERVICE_S = 180


def up(name: str, shape: Shape, *, bare: bool) -> None:
    """Start a lab; nothing to do when it is up already, LabError when one of another shape is."""
    preflight.check()
    lab = load(name)
    # Without hosts there is nothing to make ready.
    bare = bare or not shape.hosts
    if lab and _is_up(lab):
        _already_up(lab, shape, bare)
        return
    if lab or LabPaths(name).state.exists():
        say(f"lab {name}: clearing away what an earlier one left")
        lifecycle.clear(name, lab)
    built = images.build({host.release for host in shape.all_hosts})
    lab = describe(name, shape, built, bare=bare)
    if not bare:
        snapshot = ready.find(shape, built) or ready.build(shape, built)
        for host in shape.hosts:
            lab.lowers[host.name].insert(0, str(snapshot / host.name))
    if shape.nas:
        lab.lowers[shape.nas.name].insert(0, str(nas.layer(built)))
    lifecycle.start_or_clear(lab)
    if shape.nas:
        _await_nfs(lab, shape.nas)
    if not bare:
        _await_libvirt(lab)
    _prune()
    kind = "bare" if bare else "ready"
    names = " ".join(host.name for host in shape.all_hosts) or "no hosts, only the switch"
    say(f"lab {name} is up, {kind}: {names}; inventory {lab.paths.inventory()}")


def _is_up(lab: LabRecord) -> bool:
    """Whether anything of it runs, or would but for a fault; without hosts the switch is what there is."""
    if not lab.hosts:
        return (network.NETNS_DIR / network.lab_netns(lab.name)).exists()
    records = [*lab.hosts.values(), *lab.machines.values()]
    return any(record.running for record in records) or any(fault.kind == "power" for fault in lab.faults)


def _await_libvirt(lab: LabRecord) -> None:
    def answers(host: Host) -> bool:
        return (
            run(inside(lab, host.name, ["virsh", "--connect", "qemu:///system", "version"]), check=False).returncode
            == 0
        )

    for host in lab.shape.hosts:
        wait_until(
            partial(answers, host),
            SERVICE_S,
            f"libvirt on {host.name}",
            f"tests/lab/lab exec{lab.flag} {host.name} -- journalctl -b -u libvirtd",
        )


def _await_nfs(lab: LabRecord, host: Host) -> None:
    wait_until(
        lambda: all(network.port_open(lab.name, host.address, port) for port in (111, 2049)),
        SERVICE_S,
        f"NFS on {host.name}",
        f"tests/lab/lab exec{lab.flag} {host.name} -- journalctl -b -u nfs-ganesha",
    )


def _prune() -> None:
    """Drop old caches that no lab stands on."""
    labs = [lab for lab in map(lifecycle.load_broken, all_names(STATE)) if lab]
    used = {Path(lower) for lab in labs for lowers in lab.lowers.values() for lower in lowers}
    used |= {path.parent for path in used}
    used |= {Path(source) for lab in labs for binds in lab.binds.values() for source in binds.values()}
    used |= {Path(source) for lab in labs for record in lab.machines.values() for source in record.shares.values()}
    for kind in ("guest", "ready", "nas", *(f"{what}-{release}" for what in ("root", "repo") for release in RELEASES)):
        # A run of all tests has hosts of several shapes; each wants to find its own again.
        prune(kind, used, newest=4 if kind == "ready" else 2)


def _already_up(lab: LabRecord, shape: Shape, bare: bool) -> None:
    there = " ".join(f"{host.name}({host.release})" for host in lab.shape.all_hosts)
    kind = "bare" if lab.bare else "ready"
    other = f"tests/lab/lab down{lab.flag} first, or choose another --name"
    if lab.owner != str(REPOSITORY):
        raise LabError(f"a lab {lab.name!r} is up already, started from {lab.owner}", f"{lab.owner}/{other}")
    if lab.shape != shape or lab.shape.link != shape.link or lab.bare != bare:
        raise LabError(
            f"lab {lab.name!r} is up already, with {kind} hosts {there} link {lab.shape.link or 'unlimited'}", other
        )
    off = [name for name, record in lab.hosts.items() if not record.running]
    if off:
        commands = "; ".join(f"tests/lab/lab fault power-on {name}{lab.flag}" for name in off)
        raise LabError(f"lab {lab.name!r} is up, but powered off: {' '.join(off)}", commands)
    say(f"lab {lab.name} is up already ({kind}: {there or 'no hosts'}); nothing to do")


def down(name: str) -> None:
    """Take a lab down; says so when there is none."""
    lab = lifecycle.load_broken(name)
    if lab is None and not lifecycle.remains(name):
        say(f"lab {name}: nothing to take down")
        return
    lifecycle.clear(name, lab)
    say(f"lab {name} is down")
