# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a live move will take: from what was measured before, and the schedule that will steer it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import (
    COPY,
    MIB,
    DiskMove,
    Found,
    Metrics,
    Sample,
    Wish,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.model.prediction import Prediction, Task
from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import (
    ABORT,
    EXTEND,
    POSTCOPY,
    XBZRLE,
    Chosen,
    Schedule,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import formulas
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.course import BUFFERED_MIB
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.precopy_model import CONVERGED, Guest, Outcome, simulate
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.rates import SETTLED

# Setting up and handing over, beside what is sent.
SETUP_S = 0.4
# State of devices, and the messages between the two QEMUs, in every stop.
DEVICES_MS = 20
# Of ordinary memory under zstd at level 1 (2.9 was measured on program code); a prediction rather expects less.
COMPRESSION_RATIO = 2.5


def task_of(wish: Wish, found: Found, moves: Tuple[DiskMove, ...]) -> Task:
    """What is known before the move."""
    domain, load = found.source.effective, found.load
    link, link_from = wish.link_mib_s, "link_mib_s"
    if wish.bandwidth_mib_s is not None and (link is None or wish.bandwidth_mib_s < link):
        link, link_from = float(wish.bandwidth_mib_s), "bandwidth_mib_s"
    return Task(
        memory_mib=float(load.content_mib or (domain.memory_mib if domain is not None else 0)),
        link_mib_s=link,
        link_from=link_from if link is not None else "not known",
        dirty_mib_s=load.dirty_mib_s,
        disk_mib=sum(move.allocated for move in moves if move.way == COPY) / MIB,
        is_content_known=load.content_mib is not None,
        working_set_mib=load.working_set_mib,
        written_mib_s=load.written_mib_s,
        compresses_by=load.compresses_by,
        written_compresses_by=load.written_compresses_by,
    )


def with_measured_link(task: Task, samples: Sequence[Sample]) -> Task:
    """The same, with the link's rate from the first round of the running move, where it was not known before."""
    if task.link_mib_s is not None:
        return task
    first = [sample for sample in samples if sample.phase == "memory" and sample.iteration <= 1]
    if len(first) < SETTLED:
        return task
    seconds = (first[-1].at_ms - first[0].at_ms) / 1000.0
    sent = first[-1].memory_processed_mib - first[0].memory_processed_mib
    return replace(task, link_mib_s=sent / seconds, link_from="first round") if sent > 0 else task


def predict(task: Task, schedule: Schedule, chosen: Chosen) -> Prediction:
    """Of the whole move: disks first (F9), then memory in rounds (F1 to F6), as the schedule steers them."""
    known = Prediction(
        memory_mib=round(task.memory_mib, 1),
        disk_mib=round(task.disk_mib, 1),
        link_mib_s=_rounded(task.link_mib_s),
        dirty_mib_s=_rounded(task.dirty_mib_s),
    )
    if task.link_mib_s is None:
        return replace(known, because=("the rate of the link is not known before it is measured; say link_mib_s",))
    link = task.link_mib_s * schedule.bandwidth_share_percent / 100.0
    rate = _rate(link, task, chosen) * 100.0 / schedule.bandwidth_share_percent
    guest = _as_sent(task, chosen)
    outcome = simulate(guest, rate, schedule, chosen.auto_converge, chosen.postcopy, task.dirty_mib_s is not None)
    confidence, because = _confidence(task, chosen, rate, outcome)
    disk_s = formulas.disk_s(task.disk_mib, link) or 0.0
    moves = outcome.ended_by not in (None, ABORT)
    return replace(
        known,
        total_ms=int((SETUP_S + disk_s + outcome.seconds) * 1000) if moves else None,
        downtime_ms=_downtime_ms(outcome, link, chosen) if moves else None,
        rounds=outcome.rounds,
        converges=outcome.ended_by == CONVERGED and not _is_extended(outcome),
        ends_by=EXTEND if outcome.ended_by == CONVERGED and _is_extended(outcome) else outcome.ended_by,
        confidence=confidence,
        because=because,
    )


def working_set_of(task: Task) -> float:
    """When it is not known, the worst."""
    return task.memory_mib if task.working_set_mib is None else min(task.working_set_mib, task.memory_mib)


def _downtime_ms(outcome: Outcome, link: float, chosen: Chosen) -> int:
    if outcome.ended_by == POSTCOPY:
        return DEVICES_MS
    return int((outcome.stop_s + BUFFERED_MIB * max(1, chosen.connections) / link) * 1000) + DEVICES_MS


def _rate(link: float, task: Task, chosen: Chosen) -> float:
    """Memory per second (F7). xbzrle helps only what is sent again, by an amount nobody knows before."""
    if not _is_packed(chosen):
        return link
    return formulas.compressed_rate(link, _ratio_of(task), compressing_mib_s(chosen.connections))


def _as_sent(task: Task, chosen: Chosen) -> Guest:
    """What the guest writes may compress less than the rest: for the link it is as if it wrote more."""
    written, working_set = task.written_mib_s or task.dirty_mib_s or 0.0, working_set_of(task)
    more = _ratio_of(task) / (written_packs_by(task, chosen) or _ratio_of(task))
    return Guest(task.memory_mib, written * more, working_set * more)


def written_packs_by(task: Task, chosen: Chosen) -> Optional[float]:
    """How many times smaller what the guest writes goes over the link. None: not known, or nothing is compressed."""
    return task.written_compresses_by if _is_packed(chosen) else None


def _ratio_of(task: Task) -> float:
    return task.compresses_by or COMPRESSION_RATIO


def _is_packed(chosen: Chosen) -> bool:
    return chosen.compression not in (None, XBZRLE)


def compressing_mib_s(connections: int) -> float:
    """What so many threads compress per second. The manual of zstd promises 200 MB/s for each at level 1; a guest needs some too."""
    return 150.0 * max(1, connections)


def _is_extended(outcome: Outcome) -> bool:
    return any(act.what == EXTEND for act in outcome.acts)


def _confidence(task: Task, chosen: Chosen, rate: float, outcome: Outcome) -> Tuple[str, Tuple[str, ...]]:
    doubts = []
    if task.dirty_mib_s is None:
        doubts.append("how fast the guest writes was not measured")
    elif 0.7 < task.dirty_mib_s / rate < 1.5:
        doubts.append("the guest writes nearly as fast as memory is sent, where little decides much")
    if not task.is_content_known:
        doubts.append("how much of the memory is empty is not known")
    if task.link_from == "bandwidth_mib_s":
        doubts.append("that the link carries bandwidth_mib_s is taken for granted")
    if chosen.compression == XBZRLE or (_is_packed(chosen) and task.compresses_by is None):
        doubts.append("how well the memory compresses is not known")
    if task.working_set_mib is None and (_is_extended(outcome) or outcome.ended_by != CONVERGED):
        doubts.append("the working set is taken to be all memory in use")
    return ("high", "medium", "low")[min(len(doubts), 2)], tuple(doubts)


def _rounded(number: Optional[float]) -> Optional[float]:
    return None if number is None else round(number, 1)


def words(prediction: Prediction) -> str:
    """For the step: what to expect."""
    if prediction.total_ms is None and prediction.ends_by is None:
        return "how long is not known before the link is measured"
    if prediction.total_ms is None:
        return "expected not to converge, and to be given up"
    kind = "" if prediction.converges else ", does not converge by itself"
    return "about %.1f s in %d rounds, stop of %d ms%s (confidence: %s)" % (
        prediction.total_ms / 1000.0,
        prediction.rounds or 0,
        prediction.downtime_ms or 0,
        kind,
        prediction.confidence,
    )


def compared(prediction: Prediction, metrics: Metrics) -> Dict[str, Any]:
    """The prediction beside what was measured; ratio: measured / predicted."""
    measured: Mapping[str, Optional[int]] = {
        "total_ms": metrics.total_ms,
        "downtime_ms": metrics.downtime_ms,
        "rounds": metrics.iterations,
    }
    ratios = {
        key: round(value / getattr(prediction, key), 2)
        for key, value in measured.items()
        if value is not None and getattr(prediction, key)
    }
    return dict(prediction.as_dict(), measured=dict(measured), ratio=ratios)
