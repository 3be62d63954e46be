# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What to do about "the domain lives on that host": one row, one answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import WARNING, Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Domain, moved_to
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge, PreflightError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.image import temporary_of
from ansible_collections.kvmops.fleet.plugins.module_utils.model.journal import Journal
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import (
    AUTO,
    COPY,
    LIVE,
    MIB,
    OFFLINE,
    DiskMove,
    Found,
    Wish,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan, Step
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import concerns as catalogue
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import (
    disk_moves,
    encryption,
    left_behind,
    prediction,
    redirect,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.closing import (
    CLOSING_ACTIONS,
    closing_steps,
    volume_args,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.preflight import errors, preflight
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.presence import (
    ACTIVE,
    MISSING,
    OFF,
    presence,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.recovery import Recovery, recover
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.way import Way, way_of

CARRIES = ("copy-nvram", "copy-state")

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
    """plan: the steps. answer: the row's answer, or "finish" for the rest of a move that was cut short. moves, concerns:
    what was decided and noticed on the way. journal: what is to be noted before the first step of a move. how: of a live move.
    """

    plan: Plan
    answer: str
    moves: Tuple[DiskMove, ...] = ()
    concerns: Tuple[Concern, ...] = ()
    journal: Optional[Journal] = None
    how: Optional[Way] = None


def is_itself(wish: Wish, hostname: str) -> bool:
    """Whether the destination is the host where the task runs, by its own name; then there is nobody to connect to."""
    return wish.host in (hostname, hostname.split(".", maxsplit=1)[0])


def plan_move(wish: Wish, found: Found) -> MovePlan:
    """Raises PreflightError with every concern at once, or CannotConverge when a person must look."""
    recovery = Recovery((), found) if is_itself(wish, found.source.side) else recover(wish, found)
    found = recovery.found
    answer = "finish" if recovery.finish else ANSWERS[_rows(wish, found)]
    _refuse_impossible(answer, wish, found)
    before, after = _places(wish, found)
    if answer in ("there", "finish"):
        return MovePlan(Plan(recovery.steps, after, after, recovery.warnings), answer)
    if answer == "stale-source":
        warning = "%s runs on %s, and %s still has a definition of it: remove that with virsh undefine" % (
            wish.name,
            found.dest.side,
            found.source.side,
        )
        return MovePlan(Plan(before=after, after=after, warnings=(*recovery.warnings, warning)), answer)
    moves, disk_concerns = disk_moves.decide(found, wish)
    concerns = disk_concerns + encryption.concerns(wish, found, answer)
    wish = encryption.decided(wish, found)
    how = way_of(wish, found, moves) if answer == LIVE else None
    concerns += preflight(wish, found, answer, moves, how.schedule if how else None)
    concerns += left_behind.concerns(wish, found, answer, moves)
    if errors(concerns):
        raise PreflightError(
            "Moving %s from %s to %s" % (wish.name, found.source.side, found.dest.side), errors(concerns)
        )
    steps = _live_steps(wish, found, moves, how) if how else _offline_steps(wish, found, moves)
    warnings = recovery.warnings + tuple(concern.detail for concern in concerns if concern.level == WARNING)
    plan = Plan((*recovery.steps, *steps), before, after, warnings)
    return MovePlan(plan, answer, moves, concerns, _journal(wish, found, answer, steps), how)


def _journal(wish: Wish, found: Found, mode: str, steps: List[Step]) -> Journal:
    """What this move is about to make and to do. What an earlier one made, and this one uses, is still known as ours."""
    domain = found.source.effective
    new = [step.args["path"] for step in steps if step.action in ("create-volume", "copy-disk", *CARRIES)]
    journal = Journal(
        run="",
        name=wish.name,
        uuid=domain.uuid if domain else "",
        mode=mode,
        source=found.source.side,
        dest=found.dest.side,
        source_uuid=found.source.facts.host_uuid,
        dest_uuid=found.dest.facts.host_uuid,
        created=tuple(new),
        temporary=tuple(temporary_of(path) for path in new) if mode == OFFLINE else _variables(found),
        dest_defined=presence(found.dest) != MISSING,
        closing=tuple(step for step in steps if step.action in CLOSING_ACTIONS),
    )
    earlier = found.leaving
    if mode == OFFLINE and earlier is not None and earlier.dest_uuid == journal.dest_uuid:
        created = (*journal.created, *[path for path in earlier.created if path not in journal.created])
        return replace(journal, created=created, made=earlier.made, sent=earlier.sent)
    return journal


def _variables(found: Found) -> Tuple[str, ...]:
    """libvirt makes the UEFI variables there when it prepares a live move, and leaves them when that fails."""
    nvram = found.source.effective.nvram if found.source.effective else None
    return (nvram,) if nvram and not found.dest.images.get(nvram, disk_moves.NOTHING).exists else ()


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
        raise _nowhere(attempted, found)
    if answer == "twice":
        detail = "%s RUNS ON BOTH %s AND %s, and both may be writing to its disks" % (wish.name, sides[0], sides[1])
        alarm = catalogue.concern("runs-twice", detail)
        raise CannotConverge(attempted, alarm.detail, alarm.remedy.rstrip("."), [alarm])
    if wish.mode not in (AUTO, answer) and answer in (LIVE, OFFLINE):
        remedy = "shut it down first (kvm_domain, state: shutdown)" if answer == LIVE else "start it first"
        raise CannotConverge(
            attempted,
            "mode is %s, but on %s the domain is %s" % (wish.mode, sides[0], presence(found.source)),
            "Say mode: auto, or %s" % remedy,
        )


def _nowhere(attempted: str, found: Found) -> CannotConverge:
    words = "neither %s nor %s has a domain of that name" % (found.source.side, found.dest.side)
    remedy = "Run the task on the host that has it, or create it with kvm_domain"
    for end in (found.source, found.dest):
        host = moved_to(end.domain) if end.domain else None
        if host:
            words = "it has moved to %s; %s only keeps a definition of it" % (host, end.side)
            remedy = "Run the task on %s. If that host is lost for good, see docs/recovery.md of the collection" % host
    return CannotConverge(attempted, words, remedy)


def _places(wish: Wish, found: Found) -> Tuple[Mapping[str, Any], Mapping[str, Any]]:
    status = found.dest.status if presence(found.source) == MISSING else found.source.status
    state = status.state if status else None
    shape = {"name": wish.name, "state": state}
    return dict(shape, host=found.source.side), dict(shape, host=found.dest.side)


def _live_steps(wish: Wish, found: Found, moves: Tuple[DiskMove, ...], how: Way) -> List[Step]:
    domain, dest = found.source.effective, found.dest.side
    copies = [move for move in moves if move.way == COPY]
    steps = [
        Step(
            "create-volume",
            "create %s (%s, %d MiB) on %s for disk %s"
            % (move.arrives_at, move.format, move.size // MIB, dest, move.target),
            volume_args(found.dest, move, move.arrives_at),
        )
        for move in copies
    ]
    steps.append(
        Step(
            "migrate",
            "%s: %s%s"
            % (
                _live_words(domain, found, wish, copies),
                prediction.words(how.prediction),
                redirect.words(redirect.redirect_of(wish, found, moves)),
            ),
            {
                "copy": tuple(move.target for move in copies),
                "allocated": sum(move.allocated for move in copies),
                "connections": how.chosen.connections,
                "redirect": redirect.redirect_of(wish, found, moves),
            },
        )
    )
    return steps + closing_steps(wish, found, copies)


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
            "compare %s with %s on %s by hash" % (move.path, _named_there(move), dest)
            if move.exists
            else _copy_words(move, dest),
            volume_args(found.dest, move, move.arrives_at),
        )
        for move in copies
    ]
    steps += left_behind.steps(found)
    renamed = redirect.redirect_of(wish, found, moves)
    words = "define %s on %s" % (wish.name, dest) + redirect.words(renamed)
    steps.append(Step("define", words, {"redirect": renamed}))
    if found.snapshots:
        words = "carry the snapshots %s to %s" % (", ".join(found.snapshots), dest)
        steps.append(Step("carry-snapshots", words, {"names": found.snapshots}))
    steps.append(Step("undefine", "undefine %s on %s" % (wish.name, found.source.side)))
    return steps + closing_steps(wish, found, copies)


def _named_there(move: DiskMove) -> str:
    return "the one" if move.dest_path is None else move.dest_path


def _copy_words(move: DiskMove, dest: str) -> str:
    there = "" if move.dest_path is None else " as %s" % move.dest_path
    return "copy %s (%d MiB allocated) to %s%s and verify it by hash" % (move.path, move.allocated // MIB, dest, there)
