# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a live migration has taken long enough, and what then."""

from __future__ import annotations

from typing import Callable, Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import Act

_MORE_TIME = "Give it more time (timeout_s) or a longer stop (max_downtime_ms), or say what is to happen then (on_timeout); run again."


def rule(timeout_s: Optional[int], on_timeout: str) -> Callable[[float], Optional[Act]]:
    """elapsed seconds -> None while in time, then `on_timeout` (abort, pause or postcopy), each time it is asked."""

    def overdue(elapsed_s: float) -> Optional[Act]:
        if timeout_s is None or elapsed_s <= timeout_s:
            return None
        why = "timeout_s (%d) passed" % timeout_s
        return Act(on_timeout, why, at_ms=int(elapsed_s * 1000), remedy=_MORE_TIME)

    return overdue
