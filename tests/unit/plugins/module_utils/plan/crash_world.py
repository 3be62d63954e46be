# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two hosts as far as a crash matters: who has the guest, which files lie where, which notes. Moves are made of single
moments, and the world may stop between any two."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import Any, Dict, Iterator, List, Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import GUARD
from ansible_collections.kvmops.fleet.plugins.module_utils.model.image import temporary_of
from ansible_collections.kvmops.fleet.plugins.module_utils.model.journal import (
    BEGUN,
    CLOSING,
    HANDING_OVER,
    KEPT,
    Journal,
    journal_of,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import LIVE, OFFLINE, Found, Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Step
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.migration import MovePlan, plan_move
from ansible_collections.kvmops.fleet.tests.unit.plugins.module_utils.plan.migration_ends import UUID, found_of

DISK = "/var/lib/libvirt/images/web1.qcow2"
NVRAM = "/var/lib/libvirt/qemu/nvram/web1_VARS.fd"
FULL_MIB = 100


@dataclass
class Host:
    """state: running, halted (paused by a migration), off, kept (off and marked), or None. files: path -> facts.

    aside: whether the definition was put aside, to be kept."""

    state: Optional[str] = None
    autostart: bool = False
    files: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    note: Optional[Dict[str, Any]] = None
    aside: bool = False

    def put(self, path: str, mib: float) -> None:
        World.inodes += 1
        self.files[path] = {"allocated_mib": mib, "inode": World.inodes}


@dataclass
class World:
    """kvm1 and kvm2. source.note: leaving; dest.note: arriving."""

    source: Host
    dest: Host
    inodes = 100

    def found(self) -> Found:
        told = {"images": self._files(self.source), "images_there": self._files(self.dest)}
        domain = {"disks": [{"target": "vda", "source": DISK}], "firmware": {"kind": "efi"}}
        ends = {"source": _words(self.source, "kvm2"), "dest": _words(self.dest, "kvm1")}
        found = found_of(dict(told, domain=domain, **ends))
        return replace(found, leaving=journal_of(self.source.note), arriving=journal_of(self.dest.note))

    @staticmethod
    def _files(host: Host) -> Dict[str, Any]:
        paths = {DISK, NVRAM, temporary_of(DISK), temporary_of(NVRAM)}
        return {path: host.files.get(path, {"exists": False, "size_mib": 0}) for path in paths}


def _words(host: Host, other: str) -> Dict[str, Any]:
    states = {"halted": "paused", "off": "shutoff", "kept": "shutoff"}
    words: Dict[str, Any] = {"state": states.get(host.state or "", host.state), "autostart": host.autostart}
    if host.state == "halted":
        words["reason"] = "migration"
    if host.state == "kept":
        guard = {"target": "vdz", "source": GUARD % ("web1", other), "format": "raw", "readonly": True}
        words["domain"] = {"metadata": {"moved_to": other}, "disks": [guard]}
    return words


def new_world(state: str) -> World:
    world = World(Host(state, autostart=True), Host())
    for path in (DISK, NVRAM):
        world.source.put(path, FULL_MIB)
    return world


def run(world: World, wish: Wish) -> Iterator[str]:
    """One run of kvm_migrate; after each moment it says what has just happened. Raises what the plan raises."""
    move = plan_move(wish, world.found())
    yield from _take(world, move)


def _take(world: World, move: MovePlan) -> Iterator[str]:
    rest = []
    for step in move.plan.steps:
        if step.action in _CLEANING:
            _CLEANING[step.action](world, step)
            yield step.action
        elif move.journal is None:
            yield from _closing(world, step)
        else:
            rest.append(step)
    if move.journal is None:
        return
    note = replace(move.journal, run="x")
    world.source.note = note.as_dict()
    yield "note begun"
    if any(step.action == "keep-definition" for step in note.closing):
        world.source.aside = True
        yield "definition put aside"
    if note.mode == OFFLINE:
        world.dest.note = note.as_dict()
        yield "note begun there"
    yield from (_live if note.mode == LIVE else _offline)(world, note, rest)
    world.dest.note = None
    yield "note forgotten there"
    world.source.note = None
    yield "note forgotten"


def _live(world: World, note: Journal, steps: List[Step]) -> Iterator[str]:
    for step in steps:
        if step.action == "create-volume":
            assert step.args["path"] not in world.dest.files, "overwritten"
            world.dest.put(step.args["path"], 0.2)
            yield "create-volume"
        elif step.action == "migrate":
            made = {path: world.dest.files[path]["inode"] for path in note.created}
            note = replace(note, made=made)
            world.dest.note = note.as_dict()
            yield "note made there"
            world.source.note = replace(note, phase=HANDING_OVER).as_dict()
            yield "note handing over"
            world.dest.state = "halted"
            yield "prepared there"
            for path in note.created:
                world.dest.files[path]["allocated_mib"] = FULL_MIB
            world.dest.put(NVRAM, 1)
            yield "copied"
            world.source.state = "halted"
            yield "paused here"
            world.dest.state = "running"
            yield "running there"
            _let_go(world)
            yield "gone here"
            world.source.note = replace(note, phase=CLOSING).as_dict()
            yield "note closing"
        else:
            yield from _closing(world, step)


def _offline(world: World, note: Journal, steps: List[Step]) -> Iterator[str]:
    for step in steps:
        path = step.args.get("path", "")
        if step.action in ("copy-disk", "copy-nvram"):
            temporary = temporary_of(path)
            world.dest.put(temporary, FULL_MIB / 2)
            yield "half of it came"
            world.dest.files[temporary]["allocated_mib"] = FULL_MIB
            yield "all of it came"
            assert path not in world.dest.files, "overwritten"
            note = replace(note, made=dict(note.made, **{path: world.dest.files[temporary]["inode"]}))
            world.source.note = note.as_dict()
            yield "note made"
            world.dest.files[path] = world.dest.files.pop(temporary)
            yield "published"
        elif step.action == "verify-disk":
            assert world.dest.files[path]["allocated_mib"] == FULL_MIB, "a part taken for the whole"
            yield "verified"
        elif step.action == "define":
            world.dest.state = "off"
            yield "define"
        elif step.action == "undefine":
            world.source.note = replace(note, phase=HANDING_OVER).as_dict()
            yield "note handing over"
            _let_go(world)
            yield "undefine"
            world.source.note = replace(note, phase=CLOSING).as_dict()
            yield "note closing"
        else:
            yield from _closing(world, step)


def _closing(world: World, step: Step) -> Iterator[str]:
    if step.action == "autostart":
        world.dest.autostart = True
    elif step.action == "remove-source-disk":
        world.source.files.pop(step.args["path"], None)
    elif step.action == "keep-definition":
        assert world.source.aside or world.source.state == "off", "there is none"
        world.source.state, world.source.autostart, world.source.aside = "kept", False, False
    yield step.action


def _stop_source(world: World, step: Step) -> None:
    world.source.state = "off"


def _withdraw(world: World, step: Step) -> None:
    world.dest.state = None
    world.dest.files.pop(NVRAM, None)


def _undefine_source(world: World, step: Step) -> None:
    world.source.state = None
    world.source.files.pop(NVRAM, None)


def _forget(world: World, step: Step) -> None:
    if "arriving" in step.args["roles"]:
        world.dest.note = None
    if "leaving" in step.args["roles"]:
        world.source.note = None
        world.source.aside = False


_CLEANING: Dict[str, Any] = {
    "stop-source": _stop_source,
    "stop-dest": lambda world, step: setattr(world.dest, "state", None),
    "resume-source": lambda world, step: setattr(world.source, "state", "running"),
    "withdraw-dest": _withdraw,
    "undefine-source": _undefine_source,
    "remove-leftover": lambda world, step: world.dest.files.pop(step.args["path"]),
    "forget": _forget,
}


def settle_libvirt(world: World) -> List[World]:
    """A module that dies leaves libvirt alone with its job: it comes to its end, or gives up."""
    if world.dest.state != "halted":
        if world.source.state == "halted":
            done = copy.deepcopy(world)
            _let_go(done)
            return [done]
        return [world]
    moved, gave_up = copy.deepcopy(world), copy.deepcopy(world)
    moved.dest.state = "running"
    _let_go(moved)
    for path in moved.dest.files:
        moved.dest.files[path]["allocated_mib"] = FULL_MIB
    gave_up.source.state, gave_up.dest.state = "running", None
    return [moved, gave_up]


def _let_go(world: World) -> None:
    world.source.state = None
    world.source.files.pop(NVRAM, None)


def power_cut(world: World, side: str) -> World:
    """The host stops and starts again: its guests are off, and incoming ones are gone. The other side lets go of the job."""
    cut = copy.deepcopy(world)
    host = getattr(cut, side)
    if host.state in ("running", "halted"):
        host.state = "off" if side == "source" or host.state == "running" else None
    return cut


__all__ = ["BEGUN", "KEPT", "UUID", "World", "new_world", "power_cut", "run", "settle_libvirt"]
