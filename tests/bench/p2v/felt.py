# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the writer on the source felt of a run: its pace and its fsyncs, with and without."""

from __future__ import annotations

import math
from typing import Any, Dict, List, Mapping, Optional, Sequence

# The writer has only begun, and its file is new.
SETTLE_S = 1.0
PIECE_MIB = 1 / 64
Writes = Sequence[Sequence[float]]


def impact(raw: Mapping[str, Any]) -> Dict[str, Any]:
    """{without, with}: {mib_s, p50_ms, p99_ms, max_ms, writes}, of the writer alone before the run, and during it."""
    writes, began, ended = raw["writes"], raw["began"], raw["ended"]
    return {"without": _felt(writes, writes[0][0] + SETTLE_S, began), "with": _felt(writes, began, ended)}


def _felt(writes: Writes, start: float, end: float) -> Dict[str, Optional[float]]:
    """Of the writes that ended between two moments; one that stood still at the end counts where it ended."""
    took = sorted(seconds * 1000 for began, seconds in writes if start <= began + seconds < end)
    return {
        "mib_s": round(len(took) * PIECE_MIB / (end - start), 3),
        "p50_ms": percentile(took, 0.50),
        "p99_ms": percentile(took, 0.99),
        "max_ms": percentile(took, 1.0),
        "writes": len(took),
    }


def percentile(ordered: List[float], share: float) -> Optional[float]:
    """Nearest rank, of sorted values."""
    if not ordered:
        return None
    return round(ordered[max(math.ceil(share * len(ordered)) - 1, 0)], 2)
