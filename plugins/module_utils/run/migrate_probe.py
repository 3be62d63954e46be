# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The probe beside a live move: before it, during it, after it, on one clock."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from ansible_collections.kvmops.fleet.plugins.module_utils.host.agent_ping import Pinging, pinging
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import HERE
from ansible_collections.kvmops.fleet.plugins.module_utils.host.probing import Asking, asking
from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.probe import AGENT, SOURCE, Record
from ansible_collections.kvmops.fleet.plugins.module_utils.plan import impact
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.concerns import concern
from ansible_collections.kvmops.fleet.plugins.module_utils.run.migrate_ends import Ends

Asker = Union[Asking, Pinging]


class Probed:
    """A move that is watched from outside, or not: then everything here is quick and says nothing.

    Call begins() just before the move and ends() when the call that moved it has returned.
    """

    def __init__(self, wish: Wish, asker: Optional[Asker], trouble: Optional[Concern] = None) -> None:
        self._wish, self._asker, self._trouble = wish, asker, trouble
        self._began = self._ended = time.monotonic()

    def begins(self) -> None:
        """Returns when enough was seen of the guest as it is without a move."""
        if self._asker is not None and self._wish.probe is not None:
            _wait_until(self._began + self._wish.probe.before_s)
        self._began = time.monotonic()

    def ends(self) -> None:
        self._ended = time.monotonic()

    def told(
        self, samples: Sequence[Mapping[str, Any]], downtime_ms: Optional[int]
    ) -> Tuple[Dict[str, Any], List[Dict[str, Any]], List[Dict[str, str]]]:
        """(fields for the metrics, the samples with what the probe saw beside them, concerns). Waits for the window after the move.

        downtime_ms: see impact.concerns.
        """
        record = self._record()
        if record is None or self._wish.probe is None:
            return impact.figures(None), [dict(sample) for sample in samples], _as_dicts([self._trouble])
        noticed = impact.concerns(self._wish.probe, record, self._wish.name, downtime_ms)
        return impact.figures(record), impact.beside(samples, record), _as_dicts(noticed)

    def _record(self) -> Optional[Record]:
        if self._asker is None or self._wish.probe is None:
            return None
        _wait_until(self._ended + self._wish.probe.after_s)
        self._asker.finish()
        seen = self._asker.seen
        end_ms = (self._ended - self._began) * 1000.0
        return Record(self._wish.probe.interval_ms, end_ms, seen.shots(self._began), seen.why_lost)


def _as_dicts(concerns: Sequence[Optional[Concern]]) -> List[Dict[str, str]]:
    return [concern.as_dict() for concern in concerns if concern is not None]


def _wait_until(moment: float) -> None:
    threading.Event().wait(max(moment - time.monotonic(), 0))


@contextlib.contextmanager
def probing(wish: Wish, ends: Ends) -> Iterator[Probed]:
    """Ask for as long as the block lasts. A probe that cannot be started is told as a concern, and the move goes on without."""
    if wish.probe is None:
        yield Probed(wish, None)
        return
    with contextlib.ExitStack() as stack:
        trouble: Optional[Concern] = None
        asker: Optional[Asker] = None
        try:
            asker = stack.enter_context(_asker(wish, ends))
        except HostError as error:
            trouble = concern("probe-failed", str(error))
        yield Probed(wish, asker, trouble)


def _asker(wish: Wish, ends: Ends) -> Any:
    probe = wish.probe
    if probe is not None and probe.type == AGENT:
        return pinging((ends.source, ends.dest), wish.name, probe)
    place = HERE if probe is None or probe.sender == SOURCE else ends.files_of_dest
    return asking(place, probe)  # type: ignore[arg-type]
