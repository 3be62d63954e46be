# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can go wrong, as a small tree. Only `run/sentence.py` turns these into a module failure."""

from __future__ import annotations

from typing import Any, Mapping, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import Concern


class KvmError(Exception):
    """Root of all errors of the collection. `str()` is what the user reads.

    told: what was measured until then, by keys of the module's result.
    """

    told: Mapping[str, Any] = {}


class RequestError(KvmError):
    """The task asks for something that cannot be meant. Nothing was read or changed.

    `problems` holds every problem found, each naming option, value and remedy.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems: Tuple[str, ...] = tuple(problems)
        super().__init__("The request was refused before anything was changed: " + "; ".join(self.problems))


class PreflightError(KvmError):
    """Both ends were read and the operation would not be safe. Nothing was changed."""

    def __init__(self, attempted: str, concerns: Sequence[Concern]) -> None:
        self.concerns: Tuple[Concern, ...] = tuple(concerns)
        lines = "; ".join("[%s] %s -> %s" % (c.id, c.detail, c.remedy) for c in self.concerns)
        super().__init__("%s was refused before anything was changed: %s" % (attempted, lines))


class CannotConverge(KvmError):
    """The state found needs a person: no step of ours may be taken safely. concerns: where it is one of a preflight's."""

    def __init__(self, attempted: str, found: str, remedy: str, concerns: Sequence[Concern] = ()) -> None:
        self.concerns: Tuple[Concern, ...] = tuple(concerns)
        super().__init__("%s: %s. %s" % (attempted, found, remedy))


class HostError(KvmError):
    """A host said no while a step was taken.

    attempted: what was being done, as a verb phrase ("create volume web1.qcow2 in pool default").
    side: the host or URI it was done on.  said: the system's own words.  remedy: what to do next.
    """

    def __init__(self, attempted: str, side: str, said: str, remedy: str = "") -> None:
        self.attempted, self.side, self.said, self.remedy = attempted, side, said, remedy
        text = "Could not %s on %s: %s" % (attempted, side, said.strip() or "no reason given")
        super().__init__(text + (". " + remedy if remedy else ""))


class DomainGone(HostError):
    """A domain that was found a moment ago is not known any more: it was moved, or ended and was not persistent."""
