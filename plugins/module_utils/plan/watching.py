# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run that finds a move of the same guest under way, or cut short: what it does about it."""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import CannotConverge
from ansible_collections.kvmops.fleet.plugins.module_utils.model.image import ImageFacts, same_image
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import LIVE, Found, Sample, Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.move_record import MoveRecord, Standing
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan, Step
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.migration import ACTIVE, is_itself, presence
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.settlement import (
    MOVED,
    STAYED,
    STOPPED_HERE,
    STOPPED_THERE,
)

# GO: nothing of the kind. WATCH: a move is under way. FINISH: a run died, and its move has ended since.
GO, WATCH, FINISH = "go", "watch", "finish"

OUTGOING = "migration_out"
NOBODY, ALIVE, DEAD = "nobody", "alive", "dead"

# (the last run of kvm_migrate for this guest, whether libvirt sends the guest away) -> answer.
ANSWERS = {
    (NOBODY, False): GO,
    (NOBODY, True): WATCH,  # somebody moves it by other means
    (ALIVE, False): WATCH,  # it prepares, copies files, or takes its last steps
    (ALIVE, True): WATCH,
    (DEAD, False): FINISH,
    (DEAD, True): WATCH,
}

# QEMU sends all the time, however slow the link, unless something is wrong. libvirt gives up a dead connection after 30 s too.
STALL_S = 30


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
    if record is not None and record.host != wish.host and (goes or standing.alive):
        raise goes_elsewhere(wish, record, source)
    return GO if told == FINISH and not _has_moved(wish, standing, found) else told


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


def _has_moved(wish: Wish, standing: Standing, found: Found) -> bool:
    """Whether the live move of a dead run has succeeded: only then its last steps are due."""
    record, there = standing.record, found.dest.domain
    return (
        record is not None
        and (record.host, record.mode) == (wish.host, LIVE)
        and found.source.domain is None
        and there is not None
        and there.uuid == record.uuid
        and presence(found.dest) == ACTIVE
    )


def warnings(wish: Wish, standing: Standing) -> Tuple[str, ...]:
    """About a dead run that was on its way to another host: what it may have left there."""
    record = standing.record
    if record is None or standing.alive or record.host == wish.host or not record.made:
        return ()
    paths = ", ".join(str(volume["path"]) for volume in record.made)
    return (
        "a run that moved %s to %s died and may have left %s there; look, and remove that by hand"
        % (wish.name, record.host, paths),
    )


def plan_watch(wish: Wish, found: Found, standing: Standing) -> Plan:
    """One step: to watch; and what may be left to do afterwards, as far as it is known."""
    record, source, dest = standing.record, found.source.side, found.dest.side
    who = {
        NOBODY: "which was not begun by kvm_migrate",
        ALIVE: "by the run with process %d" % (record.pid if record else 0),
        DEAD: "whose run is dead",
    }[run_of(standing)]
    words = "watch the move of %s from %s to %s, %s, to its end" % (wish.name, source, dest, who)
    shape = {"name": wish.name, "state": found.source.status.state if found.source.status else None}
    steps = [Step("watch", words)] + (list(closing_steps(record)) if run_of(standing) == DEAD else [])
    return Plan(tuple(steps), dict(shape, host=source), dict(shape, host=dest))


def plan_finish(wish: Wish, found: Found, standing: Standing) -> Plan:
    """The guest has moved; what its run did not get to any more is done now."""
    record, source, dest = standing.record, found.source.side, found.dest.side
    words = "finish the move of %s from %s to %s, whose run died when it had nearly ended" % (wish.name, source, dest)
    shape = {"name": wish.name, "state": found.dest.status.state if found.dest.status else None}
    return Plan((Step("watch", words), *closing_steps(record)), dict(shape, host=source), dict(shape, host=dest))


def closing_steps(record: Optional[MoveRecord]) -> Tuple[Step, ...]:
    """What the run had planned for the time after the move."""
    steps = record.closing if record is not None and record.mode == LIVE else ()
    return tuple(Step(str(step["action"]), str(step["words"]), dict(step["args"])) for step in steps)


def record_for(wish: Wish, found: Found, plan: Plan, mode: str) -> MoveRecord:
    """What a later run has to know if this one dies."""
    domain = found.source.domain
    closing = [step for step in plan.steps if step.action in ("autostart", "remove-source-disk")]
    paths = [step.args["path"] for step in closing if step.action == "remove-source-disk"]
    images = [(path, found.source.images[path]) for path in paths if path in found.source.images]
    return MoveRecord(
        host=wish.host,
        uuid=domain.uuid if domain is not None else "",
        mode=mode,
        closing=tuple({"action": step.action, "words": step.words, "args": dict(step.args)} for step in closing),
        images={path: (facts.device or 0, facts.inode or 0) for path, facts in images},
    )


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


def may_remove(
    record: MoveRecord, path: str, uuid: Optional[str], here: ImageFacts, there: ImageFacts, users: Sequence[str]
) -> Optional[str]:
    """None when the source's disk may go after the guest has moved; else why it has to stay.

    It may when all of this is known: the run that copied it wrote it down as a disk to copy and to remove; the guest on
    the destination is that guest; its disk there is another file; the file here is the very one that was copied; no other
    domain uses it. uuid: of the running guest on the destination. users: names of other domains here that name the file.
    """
    if record.images.get(path) is None:
        return "the run that died had not noted it"
    if uuid != record.uuid:
        return "the guest on %s has another UUID" % record.host
    if not there.exists:
        return "there is no such file on %s" % record.host
    if same_image(here, there):
        return "%s sees the same file" % record.host
    if (here.device, here.inode) != tuple(record.images[path]):
        return "it is not the file any more that was copied"
    if users:
        return "%s uses it" % ", ".join(users)
    return None


def left_behind(outcome: str, record: Optional[MoveRecord], there: str, absent: str) -> Tuple[Mapping[str, Any], ...]:
    """The volumes of a dead run that are to go from the destination, now that the guest stays: none when it may have run there."""
    if record is None or outcome not in (STAYED, STOPPED_HERE) or there != absent:
        return ()
    return record.made


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
