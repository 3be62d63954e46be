# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Shutting a guest down: which way gets how long."""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import Wanted
from ansible_collections.kvmops.fleet.plugins.module_utils.model.patience import Patience

_BOUNDS = ("agent_timeout_s", "acpi_timeout_s")


def shutdown_problems(given: Optional[Mapping[str, Any]]) -> Iterator[str]:
    for option in _BOUNDS:
        seconds = (given or {}).get(option)
        if seconds is not None and seconds < 0:
            yield "shutdown.%s is %d; give at least 0, which leaves that way out" % (option, seconds)
    if given is not None and all(given.get(option) == 0 for option in _BOUNDS):
        yield "shutdown leaves both ways out; give one of them time, or ask for state destroyed"


def patience(wanted: Wanted) -> Patience:
    """An agent that does not answer leaves as much time to the power button, unless the task says other bounds."""
    total = float(wanted.wait_timeout_s)
    agent = wanted.agent_timeout_s if wanted.agent_timeout_s is not None else total / 2
    acpi = wanted.acpi_timeout_s if wanted.acpi_timeout_s is not None else total
    return Patience(total, min(agent, total), min(acpi, total))
