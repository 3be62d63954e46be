# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether somebody is at an address: ICMP echo requests from this host, by the prober."""

from __future__ import annotations

import contextlib
import threading
from typing import Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import HERE
from ansible_collections.kvmops.fleet.plugins.module_utils.host.probing import Asking, asking
from ansible_collections.kvmops.fleet.plugins.module_utils.model.probe import ICMP, Probe

_INTERVAL_MS, _TIMEOUT_MS = 200, 1000


def answering(addresses: Sequence[str], listen_s: float) -> Tuple[str, ...]:
    """Those at which somebody answers within that time. One to which no way leads is one at which nobody does.

    Raises HostError when this host cannot ask.
    """
    with contextlib.ExitStack() as stack:
        asked = [
            (address, stack.enter_context(asking(HERE, Probe(ICMP, address, None, interval_ms=_INTERVAL_MS, timeout_ms=_TIMEOUT_MS))))
            for address in addresses
        ]  # fmt: skip
        if asked:
            threading.Event().wait(listen_s)
        return tuple(address for address, one in asked if _has_answer(one))


def _has_answer(one: Asking) -> bool:
    one.finish()
    return any(shot.took_ms is not None for shot in one.seen.shots(0.0))
