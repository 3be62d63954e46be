# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The probe beside a P2V run: before it, during its passes and its pause, until the machine or its guest answers; one clock."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, Dict, Iterator, List, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import HERE
from ansible_collections.kvmops.fleet.plugins.module_utils.host.probing import Asking, asking
from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError, KvmError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import P2vWish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_course import NOBODY, OFF, THAWED, Course
from ansible_collections.kvmops.fleet.plugins.module_utils.model.probe import Record
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import p2v_impact
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_concerns import concern

LOOK_EVERY_S = 0.2


class Probed:
    """A run that is watched from outside, or not: then everything here is quick and says nothing. successor: see Course.

    Call begins() just before the copy, mark() at the moments of Course, told() when nothing is left to do. Only begins() and
    told() wait. waited_s: for how long they did.
    """

    def __init__(
        self, wish: P2vWish, successor: str, asker: Optional[Asking] = None, trouble: Optional[Concern] = None
    ) -> None:
        self._wish, self._successor, self._asker, self._trouble = wish, successor, asker, trouble
        self._began = time.monotonic()
        self._marks: Dict[str, float] = {}
        self.waited_s = 0.0

    def begins(self) -> None:
        """Returns when enough was seen of the machine as it is without a copy."""
        if self._asker is not None and self._wish.probe is not None:
            _wait_until(self._began + self._wish.probe.before_s)
        self.waited_s += time.monotonic() - self._began
        self._began = time.monotonic()

    def mark(self, moment: str) -> None:
        """The first time counts: what was thawed once is thawed again when something fails behind that."""
        self._marks.setdefault(moment, time.monotonic())

    def told(self) -> Tuple[Dict[str, Any], List[Concern], List[str]]:
        """(fields for the metrics, concerns, lines of the summary). Waits for the answers that are still to come."""
        probe = self._wish.probe
        if self._asker is None or probe is None:
            return dict(p2v_impact.NOTHING), [self._trouble] if self._trouble else [], []
        asked, course = time.monotonic(), self._course()
        self._await_answers(course)
        cut_short = self._asker.has_ended
        self._asker.finish()
        self.waited_s += time.monotonic() - asked
        seen = self._asker.seen
        record = p2v_impact.trimmed(
            Record(probe.interval_ms, 0.0, seen.shots(self._began), seen.why_lost), course, probe.after_s
        )
        figures = p2v_impact.figures(record, course, cut_short)
        name = self._wish.source or self._wish.name
        noticed = list(p2v_impact.concerns(probe, record, course, name, cut_short))
        return figures, noticed, p2v_impact.sentences(probe, figures, course)

    def _course(self) -> Course:
        since = {moment: (at - self._began) * 1000.0 for moment, at in self._marks.items()}
        return Course(successor=self._successor if OFF in since else NOBODY, **since)

    def _await_answers(self, course: Course) -> None:
        """Of whoever serves after the pause, and then for as long as is measured behind it."""
        if self._asker is None or self._wish.probe is None:
            return
        since, latest = self._marks.get(THAWED), self._marks.get(THAWED, 0.0)
        if since is None and course.successor != NOBODY and course.off is not None:
            since = self._marks[OFF]
            latest = time.monotonic() + self._wish.answer_timeout_s
        if since is None:
            return
        while self._asker.seen.last_answer_s <= since and time.monotonic() < latest and not self._asker.has_ended:
            threading.Event().wait(LOOK_EVERY_S)
        begins = since if course.thawed is not None else self._asker.seen.last_answer_s
        if not self._asker.has_ended:
            _wait_until(min(begins, time.monotonic()) + self._wish.probe.after_s)


def _wait_until(moment: float) -> None:
    threading.Event().wait(max(moment - time.monotonic(), 0))


@contextlib.contextmanager
def probing(wish: P2vWish, successor: str) -> Iterator[Probed]:
    """Ask for as long as the block lasts. A probe that cannot be started is told as a concern, and the run goes on without.

    A failure of the block is raised with what was seen until then.
    """
    with contextlib.ExitStack() as stack:
        asker, trouble = None, None
        if wish.probe is not None:
            try:
                asker = stack.enter_context(asking(HERE, wish.probe))
            except HostError as error:
                trouble = concern("p2v-probe-failed", str(error))
        probed = Probed(wish, successor, asker, trouble)
        try:
            yield probed
        except KvmError as error:
            if asker is not None:
                figures, concerns, lines = probed.told()
                error.told = {"metrics": figures, "concerns": [each.as_dict() for each in concerns], "summary": lines}
            raise
