# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who competes. Each is data: the words for virsh, or the options of kvm_migrate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Tuple

PLAIN = ("--live", "--p2p", "--persistent", "--undefinesource")
ENCODED = (
    "--parallel",
    "--parallel-connections",
    "2",
    "--compressed",
    "--comp-methods",
    "zstd",
    "--comp-zstd-level",
    "1",
)


@dataclass(frozen=True)
class Contender:
    """virsh: the words after `virsh migrate`; {pass_s} is the time of one pass over the guest's memory, in whole seconds.
    downtime_ms: set before the start. rule: how the downtime is changed on the way (driver.py).
    passes: after that many times the time of one pass it is given up. ours: options of kvm_migrate.
    """

    title: str
    virsh: Optional[Tuple[str, ...]] = None
    downtime_ms: int = 300
    rule: Optional[str] = None
    passes: float = 12
    ours: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""

    @property
    def first_round_is_plain(self) -> bool:
        """Whether the first round surely sends the memory as it is. xbzrle begins with the second one."""
        if self.virsh is not None:
            return "zstd" not in self.virsh
        return self.ours.get("schedule", {}).get("compression") in ("none", "xbzrle")


def _ours(title: str, why: str, **options: Any) -> Contender:
    return Contender(title=title, ours=dict({"tls": False}, **options), why=why)


CONTENDERS: Dict[str, Contender] = {
    "default": Contender(
        "`virsh migrate`, defaults",
        virsh=PLAIN,
        passes=5,
        why="QEMU's own limits: a stop of 300 ms, nothing else done. Given up after five times the time of one pass.",
    ),
    "tuned": Contender(
        "`virsh migrate`, tuned by hand",
        virsh=PLAIN + ENCODED + ("--timeout", "{pass_s}", "--timeout-suspend"),
        downtime_ms=500,
        why="What a careful administrator types who has worked out how long one pass takes: compression, which needs two "
        "connections, a stop of 500 ms, and the guest suspended when the move has not ended 1.3 passes after its start.",
    ),
    "doubling": Contender(
        "doubling, as Proxmox VE does",
        virsh=PLAIN + ("--auto-converge", "--compressed", "--comp-methods", "xbzrle"),
        downtime_ms=100,
        rule="doubling",
        why="Auto-converge and xbzrle always on; a stop of 100 ms, doubled whenever what remains has grown more than five "
        "times between two looks, which are 1 s apart and 0.1 s near the end.",
    ),
    "autoconverge": Contender(
        "auto-converge always on",
        virsh=PLAIN + ("--auto-converge",),
        why="QEMU slows the guest down, 20 % and then 10 % more at a time, until 300 ms suffice.",
    ),
    "balanced": _ours("kvm_migrate, `balanced`", "The default policy.", policy="balanced"),
    "must_finish": _ours("kvm_migrate, `must_finish`", "", policy="must_finish"),
    "minimal_downtime": _ours("kvm_migrate, `minimal_downtime`", "", policy="minimal_downtime"),
    "one_connection": _ours(
        "the same, not compressed",
        "One connection holds less in its sockets than the two that compression needs.",
        policy="minimal_downtime",
        schedule={"compression": "none"},
    ),
    "paced": _ours(
        "the same, and 90 % of the link",
        "What is sent slower than the link carries it does not pile up in sockets.",
        policy="minimal_downtime",
        schedule={"compression": "none", "bandwidth_share_percent": 90},
    ),
    "packed": _ours(
        "`minimal_downtime`, compressed, 90 % of the link",
        "The two connections of compression, which do not pile up either.",
        policy="minimal_downtime",
        schedule={"compression": "zstd", "bandwidth_share_percent": 90},
    ),
    "least_impact": _ours("kvm_migrate, `least_impact`", "", policy="least_impact"),
    "unknown_link": _ours("kvm_migrate, link not known", "`balanced` without `link_mib_s`.", link_mib_s=None),
    "xbzrle": _ours(
        "kvm_migrate, `compression: xbzrle`",
        "For guests that write little of each page.",
        schedule={"compression": "xbzrle"},
    ),
    "tcp": _ours("kvm_migrate, in the clear", "", tls=False, schedule={"compression": "none"}),
    "tls": _ours("kvm_migrate, encrypted", "", tls=True, schedule={"compression": "none"}),
}
