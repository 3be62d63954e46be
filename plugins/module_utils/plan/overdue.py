# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a live migration has taken long enough, and what then."""

from __future__ import annotations

from typing import Callable, Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.model.schedule import Act


def rule(timeout_s: Optional[int], on_timeout: str) -> Callable[[float], Optional[Act]]:
    """elapsed seconds -> None while in time, then `on_timeout` (abort, pause or postcopy), each time it is asked."""

    def overdue(elapsed_s: float) -> Optional[Act]:
        if timeout_s is None or elapsed_s <= timeout_s:
            return None
        return Act(on_timeout, "timeout_s (%d) passed" % timeout_s, at_ms=int(elapsed_s * 1000))

    return overdue
