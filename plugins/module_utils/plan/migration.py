# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What to do about "the domain lives on that host": one row, one answer."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import WARNING, Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge, PreflightError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import (
    AUTO,
    COPY,
    LIVE,
    MIB,
    OFFLINE,
    DiskMove,
    End,
    Found,
    Wish,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan, Step
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import disk_moves, encryption, postcopy, prediction
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.preflight import errors, preflight
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.way import Way, way_of

MISSING, OFF, ACTIVE = "missing", "off", "active"

# (source, destination) -> answer, when both hold the same UUID or one holds nothing. A domain of the same name with
# another UUID is no twin; the preflight refuses it.
ANSWERS: Dict[Tuple[str, str], str] = {
    (MISSING, MISSING): "nowhere",
    (MISSING, OFF): "there",
    (MISSING, ACTIVE): "there",
    (OFF, MISSING): OFFLINE,
    (OFF, OFF): OFFLINE,  # an offline move that was cut short between "define there" and "undefine here"
    (OFF, ACTIVE): "stale-source",
    (ACTIVE, MISSING): LIVE,
    (ACTIVE, OFF): LIVE,  # a stale definition there is replaced by the running one
    (ACTIVE, ACTIVE): "twice",
}


@dataclass(frozen=True)
class MovePlan:
    """plan: the steps. answer: the row's answer. moves, concerns: what was decided and noticed on the way. how: of a live move."""

    plan: Plan
    answer: str
    moves: Tuple[DiskMove, ...] = ()
    concerns: Tuple[Concern, ...] = ()
    how: Optional[Way] = None


def is_itself(wish: Wish, hostname: str) -> bool:
    """Whether the destination is the host where the task runs, by its own name; then there is nobody to connect to."""
    return wish.host in (hostname, hostname.split(".", maxsplit=1)[0])


def presence(end: End) -> str:
    if end.domain is None or end.status is None:
        return MISSING
    return ACTIVE if end.status.active else OFF


def plan_move(wish: Wish, found: Found) -> MovePlan:
    """Raises PreflightError with every concern at once, or CannotConverge when a person must look."""
    answer = ANSWERS[_rows(wish, found)]
    _refuse_impossible(answer, wish, found)
    before, after = _places(wish, found)
    if answer == "there":
        return MovePlan(Plan(before=after, after=after), answer)
    if answer == "stale-source":
        warning = "%s runs on %s, and %s still has a definition of it: remove that with virsh undefine" % (
            wish.name,
            found.dest.side,
            found.source.side,
        )
        return MovePlan(Plan(before=after, after=after, warnings=(warning,)), answer)
    moves, disk_concerns = disk_moves.decide(found, wish.storage)
    concerns = disk_concerns + preflight(found, answer, moves) + encryption.concerns(wish, found, answer)
    wish = encryption.decided(wish, found)
    how = way_of(wish, found, moves) if answer == LIVE else None
    concerns += postcopy.concerns(wish, found, answer, how.schedule) if how else ()
    if errors(concerns):
        raise PreflightError(
            "Moving %s from %s to %s" % (wish.name, found.source.side, found.dest.side), errors(concerns)
        )
    steps = _live_steps(wish, found, moves, how) if how else _offline_steps(wish, found, moves)
    warnings = tuple(concern.detail for concern in concerns if concern.level == WARNING)
    return MovePlan(Plan(tuple(steps), before, after, warnings), answer, moves, concerns, how)


def _rows(wish: Wish, found: Found) -> Tuple[str, str]:
    source, dest = presence(found.source), presence(found.dest)
    here, there = found.source.domain, found.dest.domain
    if is_itself(wish, found.source.side):
        return MISSING, dest
    if here is not None and there is not None and here.uuid != there.uuid:
        return source, MISSING
    return source, dest


def _refuse_impossible(answer: str, wish: Wish, found: Found) -> None:
    attempted = "Moving %s to %s is not possible" % (wish.name, found.dest.side)
    sides = (found.source.side, found.dest.side)
    if answer == "nowhere":
        raise CannotConverge(
            attempted,
            "neither %s nor %s has a domain of that name" % sides,
            "Run the task on the host that has it, or create it with kvm_domain",
        )
    if answer == "twice":
        raise CannotConverge(
            attempted,
            "%s RUNS ON BOTH %s AND %s, and both may be writing to its disks" % (wish.name, sides[0], sides[1]),
            "Stop one of them now, then check the disks",
        )
    if wish.mode not in (AUTO, answer) and answer in (LIVE, OFFLINE):
        remedy = "shut it down first (kvm_domain, state: shutdown)" if answer == LIVE else "start it first"
        raise CannotConverge(
            attempted,
            "mode is %s, but on %s the domain is %s" % (wish.mode, sides[0], presence(found.source)),
            "Say mode: auto, or %s" % remedy,
        )


def _places(wish: Wish, found: Found) -> Tuple[Mapping[str, Any], Mapping[str, Any]]:
    status = (found.source.status or found.dest.status) if found.source.domain else found.dest.status
    state = status.state if status else None
    shape = {"name": wish.name, "state": state}
    return dict(shape, host=found.source.side), dict(shape, host=found.dest.side)


def _live_steps(wish: Wish, found: Found, moves: Tuple[DiskMove, ...], how: Way) -> List[Step]:
    domain, dest = found.source.effective, found.dest.side
    copies = [move for move in moves if move.way == COPY]
    steps = [
        Step(
            "create-volume",
            "create %s (%s, %d MiB) on %s for disk %s" % (move.path, move.format, move.size // MIB, dest, move.target),
            _volume_args(found.dest, move),
        )
        for move in copies
    ]
    steps.append(
        Step(
            "migrate",
            "%s: %s" % (_live_words(domain, found, wish, copies), prediction.words(how.prediction)),
            {
                "copy": tuple(move.target for move in copies),
                "allocated": sum(move.allocated for move in copies),
                "connections": how.chosen.connections,
            },
        )
    )
    return steps + _closing_steps(wish, found, copies)


def _live_words(domain: Optional[Domain], found: Found, wish: Wish, copies: List[DiskMove]) -> str:
    storage = "copying %s" % ", ".join(move.target for move in copies) if copies else "no storage to copy"
    memory = domain.memory_mib if domain else 0
    return "move %s live from %s to %s (%d MiB of memory, %s%s)" % (
        wish.name,
        found.source.side,
        found.dest.side,
        memory,
        storage,
        ", encrypted" if wish.tls else "",
    )


def _offline_steps(wish: Wish, found: Found, moves: Tuple[DiskMove, ...]) -> List[Step]:
    dest = found.dest.side
    copies = [move for move in moves if move.way == COPY]
    steps = [
        Step(
            "verify-disk" if move.exists else "copy-disk",
            "%s %s %s by hash" % ("compare", move.path, "with the one on %s" % dest)
            if move.exists
            else "copy %s (%d MiB allocated) to %s and verify it by hash" % (move.path, move.allocated // MIB, dest),
            _volume_args(found.dest, move),
        )
        for move in copies
    ]
    domain = found.source.domain
    nvram = domain.nvram if domain else None
    if nvram and found.source.images.get(nvram, disk_moves.NOTHING).exists:
        steps.append(_nvram_step(nvram, found))
    steps.append(Step("define", "define %s on %s" % (wish.name, dest)))
    steps.append(Step("undefine", "undefine %s on %s" % (wish.name, found.source.side)))
    return steps + _closing_steps(wish, found, copies)


def _nvram_step(nvram: str, found: Found) -> Step:
    """Variables that are there already (a move that was cut short) are compared, never overwritten."""
    dest = found.dest.side
    if found.dest.images.get(nvram, disk_moves.NOTHING).exists:
        return Step("verify-disk", "compare the UEFI variables %s with those on %s" % (nvram, dest), {"path": nvram})
    return Step("copy-nvram", "copy the UEFI variables %s to %s" % (nvram, dest), {"path": nvram})


def _closing_steps(wish: Wish, found: Found, copies: List[DiskMove]) -> List[Step]:
    steps = []
    if found.source.status and found.source.status.autostart and found.source.status.persistent:
        steps.append(Step("autostart", "let %s start with %s" % (wish.name, found.dest.side)))
    for move in copies if not wish.keep_source_disks else ():
        # What this run did not copy itself it does not remove: the file there could be this very one.
        if move.exists or found.source.disk_users.get(move.path):
            continue
        words = "remove %s from %s, whose content now lives on %s" % (move.path, found.source.side, found.dest.side)
        steps.append(Step("remove-source-disk", words, _volume_args(found.source, move)))
    return steps


def _volume_args(end: End, move: DiskMove) -> Dict[str, Any]:
    return {
        "path": move.path,
        "pool": end.pool_of(move.path),
        "volume": posixpath.basename(move.path),
        "size": move.size,
        "format": move.format,
    }
