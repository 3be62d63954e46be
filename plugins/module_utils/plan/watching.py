# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run that finds a move of the same guest under way: what it does about it."""

from __future__ import annotations

from typing import List, Mapping, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge
from ansible_collections.kvmops.fleet.plugins.module_utils.model.image import ImageFacts, same_image
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import LIVE, OFFLINE, Found, Sample, Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.move_record import MoveRecord, Standing
from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import ABORT, POSTCOPY, Act
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan, Step
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import postcopy
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.migration import is_itself
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.settlement import (
    MOVED,
    STOPPED_THERE,
)

# GO: nothing of the kind; what a dead run left is the business of plan/recovery.py. WATCH: a move is under way.
GO, WATCH = "go", "watch"

OUTGOING = "migration_out"
NOBODY, ALIVE, DEAD = "nobody", "alive", "dead"

# (the last run of kvm_migrate for this guest, whether libvirt sends the guest away) -> answer.
ANSWERS = {
    (NOBODY, False): GO,
    (NOBODY, True): WATCH,  # somebody moves it by other means
    (ALIVE, False): WATCH,  # it prepares, copies files, or takes its last steps
    (ALIVE, True): WATCH,
    (DEAD, False): GO,
    (DEAD, True): WATCH,
}

# QEMU sends all the time, however slow the link, unless something is wrong. libvirt gives up a dead connection after 30 s too.
STALL_S = 30


# What a plan holds of measurements; a running guest changes them between two looks.
MEASURED = ("allocated", "connections")


def same_course(one: Plan, other: Plan) -> bool:
    """Whether two plans do the same to the same things. Words are not compared: they tell measurements too."""
    return [_course(step) for step in one.steps] == [_course(step) for step in other.steps]


def _course(step: Step) -> Tuple[str, Mapping[str, object]]:
    return step.action, {key: value for key, value in step.args.items() if key not in MEASURED}


def run_of(standing: Standing) -> str:
    if standing.record is None:
        return NOBODY
    return ALIVE if standing.alive else DEAD


def answer(wish: Wish, standing: Standing, found: Found) -> str:
    """Raises CannotConverge when the move under way goes to another host than the wished one."""
    status, record, source = found.source.status, standing.record, found.source.side
    goes = status is not None and status.job == OUTGOING
    told = ANSWERS[(run_of(standing), goes)]
    if is_itself(wish, source):
        return GO
    if postcopy.has_broken(found) and not standing.alive:
        return GO  # libvirt keeps the job of a post-copy that broke, and nobody sends anything
    if record is not None and record.host != wish.host and (goes or standing.alive):
        raise goes_elsewhere(wish, record, source)
    return told


def goes_elsewhere(wish: Wish, record: MoveRecord, source: str) -> CannotConverge:
    return CannotConverge(
        "Moving %s to %s is not possible now" % (wish.name, wish.host),
        "another run (process %d on %s) is moving it to %s" % (record.pid, source, record.host),
        "Wait for the end of that move, then run again",
    )


def has_arrived(outcome: str, found: Found) -> bool:
    """Whether the guest is where it was to go: a guest that was off before the move is off after it."""
    status = found.source.status
    was_off = status is not None and not status.active
    return outcome == MOVED or (outcome == STOPPED_THERE and was_off)


def plan_watch(wish: Wish, found: Found, standing: Standing) -> Plan:
    """To watch; and what may be left to do afterwards, as far as it is known."""
    record, source, dest = standing.record, found.source.side, found.dest.side
    who = {
        NOBODY: "which was not begun by kvm_migrate",
        ALIVE: "by the run with process %d" % (record.pid if record else 0),
        DEAD: "whose run is dead",
    }[run_of(standing)]
    words = "watch the move of %s from %s to %s, %s, to its end" % (wish.name, source, dest, who)
    shape = {"name": wish.name, "state": found.source.status.state if found.source.status else None}
    steps = [Step("watch", words)] + (list(closing_steps(found)) if run_of(standing) == DEAD else [])
    return Plan(tuple(steps), dict(shape, host=source), dict(shape, host=dest))


def closing_steps(found: Found) -> Tuple[Step, ...]:
    """What the run had noted for the time after the move."""
    return found.leaving.closing if found.leaving is not None and found.leaving.mode == LIVE else ()


def mode_of(found: Found) -> str:
    """Of a move that another run began."""
    return OFFLINE if found.source.status is not None and not found.source.status.active else LIVE


def stalled(samples: Sequence[Sample], window_s: float = STALL_S) -> bool:
    """Whether nothing more was sent for that long, up to the latest sample."""
    if not samples:
        return False
    grown_at, most = samples[0].at_ms, -1.0
    for sample in samples:
        sent = sample.memory_processed_mib + sample.disk_processed_mib
        if sent != most:
            grown_at, most = sample.at_ms, sent
    return samples[-1].at_ms - grown_at >= window_s * 1000


def act_of(samples: Sequence[Sample], stopped: Optional[str], late: Optional[Act]) -> Optional[Act]:
    """What to do about a dead run's job. late: what is to be done about its age (plan/overdue.py). stopped: what was done
    already; after that, only a job that stands still is ended."""
    if stopped in (ABORT, POSTCOPY) or not samples:
        return None
    if stopped is None and late is not None:
        return late
    return Act(ABORT, "it sent nothing for %d s" % STALL_S, at_ms=samples[-1].at_ms) if stalled(samples) else None


def stayed_disks(found: Found, after: Mapping[str, ImageFacts], after_there: Mapping[str, ImageFacts]) -> List[str]:
    """Image files still on the source though the guest has moved without them: its disks there are other files."""
    domain = found.source.effective
    paths = [disk.source for disk in (domain.images if domain else ()) if disk.kind == "file" and disk.source]
    nothing = ImageFacts(path="", exists=False)
    return [
        path
        for path in paths
        if after.get(path, nothing).exists and not same_image(after[path], after_there.get(path, nothing))
    ]
