# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The faults as data: what is done, when, and what must be true afterwards. Numbers M… are those of issue 4's catalogue."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Sequence, Tuple

LIVE, OFFLINE, REFUSED = "live", "offline", "refused"
HERE, THERE = "kvm1", "kvm2"
WHILE_IT_COPIES = ("set-up", "disk", "memory")
RUN_AGAIN = "run again"
STAYS = r"the guest is running on kvm1"
NO_RESULT = ("ended without a result", "on kvm1", "Run the same task again")


@dataclass(frozen=True)
class Fault:
    """done: in words, for the page. inject: a name of inject.py or refusals.py. phases: from which the moment is drawn.

    owner: who has the guest once the fault is over; None leaves it open (one of the two). off: whether it is shut off then.
    fails: whether the task does; None leaves that open. says: what its message must hold, each a pattern.
    clean: whether nothing may be left before the second run. follows: the second run begins at once, while the move goes on.
    small: the disk goes to a file system of 120 MiB. frail: the host on which the disk lies on such a file system, on a disk
    that can be broken. cache: QEMU's, of the guest's disk. told: concerns of which a move that succeeds has to tell one.
    cmdline: of the guest. link: the rate of the source's link. args: of the task.
    ids: the concerns with which it is refused. late: only the real run finds it, as it takes reading whole images.
    """

    id: str
    done: str
    inject: str
    kind: str = LIVE
    phases: Sequence[str] = WHILE_IT_COPIES
    owner: Optional[str] = HERE
    off: bool = False
    fails: Optional[bool] = True
    says: Sequence[str] = ()
    clean: bool = True
    follows: bool = False
    worst: bool = False
    small: bool = False
    frail: Optional[str] = None
    cache: str = "default"
    told: Sequence[str] = ()
    cmdline: Optional[str] = None
    link: Optional[str] = None
    args: Mapping[str, Any] = field(default_factory=dict)
    ids: Sequence[str] = ()
    late: bool = False


_STAYED = ("move web1 live to kvm2", STAYS, RUN_AGAIN)

FAULTS: Tuple[Fault, ...] = (
    Fault(
        "M1", "QEMU on the destination: SIGKILL", "kill_there", says=(*_STAYED, "QEMU on the destination"), worst=True
    ),
    Fault(
        "M3",
        "QEMU on the source: SIGKILL",
        "kill_here",
        off=True,
        says=("move web1 live to kvm2", r"runs on neither side; its definition and disks are on kvm1", "start it"),
        worst=True,
    ),
    Fault(
        "M4",
        "libvirt's daemon on the source: SIGKILL",
        "daemon_here",
        says=_STAYED,
        worst=True,
    ),
    Fault(
        "M5", "libvirt's daemon on the destination: SIGKILL", "daemon_there", says=_STAYED[:2], clean=False, worst=True
    ),
    Fault(
        "M7a",
        "Ansible on the controller: SIGKILL",
        "kill_controller",
        owner=None,
        fails=None,
        clean=False,
        follows=True,
        worst=True,
    ),
    Fault(
        "M7b",
        "the module on the source: SIGKILL",
        "kill_module",
        owner=None,
        says=NO_RESULT,
        clean=False,
        follows=True,
        worst=True,
    ),
    Fault(
        "M8",
        "the module on the source: SIGTERM when nearly all is sent",
        "end_module",
        phases=("stop",),
        owner=None,
        fails=None,
        clean=False,
        follows=True,
        worst=True,
    ),
    Fault(
        "M9",
        "the link between the hosts is cut both ways, and comes back when the task has ended",
        "cut_all",
        says=("kvm2",),
        owner=None,
        clean=False,
        worst=True,
    ),
    Fault(
        "M11",
        "only the control connection (ssh) between the hosts is cut",
        "cut_control",
        says=("kvm2",),
        owner=None,
        fails=None,
        clean=False,
    ),
    Fault(
        "M13",
        "the link drops to 5 % for 20 s",
        "slow_link",
        owner=THERE,
        fails=False,
        args={"bandwidth_mib_s": None},
        link="40mbit",
    ),
    Fault("M14", "5 % of the packets that the source sends are lost", "lossy", owner=THERE, fails=False),
    Fault(
        "M15",
        "QEMU on the destination: SIGSTOP for 60 s",
        "freeze_there",
        says=("kvm2",),
        owner=None,
        fails=None,
        clean=False,
    ),
    Fault(
        "M16",
        "the guest changes memory faster than the link carries it, for ever",
        "busy_for_ever",
        says=("timeout_s", STAYS, "more time"),
        cmdline="kvmops.dirty_mib_s=20 kvmops.dirty_set_mib=40",
        phases=("set-up",),
        args={"timeout_s": 60, "bandwidth_mib_s": None},
        link="16mbit",
    ),
    Fault("M17", "the guest powers off", "power_off", off=True, owner=None, fails=None, says=("web1",)),
    Fault("M18", "the guest is reset", "reset", owner=THERE, fails=False),
    Fault("M19", "a second client moves the same guest", "stranger", owner=THERE, fails=False),
    Fault(
        "M25",
        "the destination's file system fills up",
        "fill",
        says=("move web1 live to kvm2", STAYS),
        phases=("disk",),
        small=True,
        worst=True,
    ),
    Fault(
        "M30",
        "the source's disk: all reads fail, until the task has ended",
        "no_reads",
        says=("move web1 live to kvm2", "Disk vda could not be read on kvm1", STAYS, RUN_AGAIN),
        phases=("set-up", "disk"),
        frail=HERE,
    ),
    Fault(
        "M31",
        "the destination's disk: all writes fail, until the task has ended",
        "no_writes",
        says=("move web1 live to kvm2", "disk vda could not be written on kvm2", STAYS, RUN_AGAIN),
        phases=("set-up", "disk"),
        frail=THERE,
        cache="none",
    ),
    Fault(
        "M32a",
        "the destination's disk: 2 MiB/s, until the task has ended",
        "slow_writes",
        owner=THERE,
        fails=False,
        frail=THERE,
        cache="none",
    ),
    Fault(
        "M32b",
        "the destination's disk: 64 KiB/s, until the task has ended",
        "crawling_writes",
        says=("timeout_s", STAYS, "[Rr]un again"),
        phases=("set-up",),
        clean=False,
        frail=THERE,
        cache="none",
        args={"timeout_s": 40},
    ),
    Fault(
        "M40",
        "no announcement (ARP, RARP, ICMPv6) leaves the destination until the guest has run there for 4 s",
        "mute",
        owner=THERE,
        fails=False,
        # Silent for as long as the probe looks, when nobody asks for the guest's address meanwhile.
        told=("probe-gap", "probe-silent-after"),
        args={"probe": {"type": "icmp", "address": "10.77.0.101", "after_s": 20}},
    ),
    Fault(
        "M50",
        "the job is aborted by another client",
        "abort",
        says=("move web1 live to kvm2", STAYS, "Somebody ended the job|somebody ended the job", "[Rr]un again"),
        worst=True,
    ),
    Fault(
        "M54",
        "libvirt's daemon on the source: SIGSTOP until the task has ended, at most 90 s",
        "freeze_daemon",
        says=("kvm1",),
        owner=None,
        fails=None,
        clean=False,
    ),
    Fault(
        "O1",
        "offline: the module on the source: SIGKILL",
        "kill_module",
        kind=OFFLINE,
        phases=("part",),
        off=True,
        says=NO_RESULT,
        clean=False,
    ),
    Fault(
        "O2",
        "offline: the link between the hosts is cut both ways, and comes back when the task has ended",
        "cut_all",
        kind=OFFLINE,
        phases=("part",),
        off=True,
        says=("copy /var/lib/libvirt/images/web1.qcow2", RUN_AGAIN),
        clean=False,
    ),
    Fault(
        "O3",
        "offline: the destination's file system fills up",
        "fill",
        kind=OFFLINE,
        phases=("part",),
        off=True,
        says=("copy /var/lib/libvirt/images/web1.qcow2", "No space|room"),
        small=True,
        clean=False,
    ),
    Fault("M21", "the destination has another domain of that name", "name_taken", kind=REFUSED, ids=("name-taken",)),
    Fault(
        "M23",
        "the same domain is active on the destination",
        "runs_there",
        kind=REFUSED,
        ids=(),
        says=("RUNS ON BOTH kvm1 AND kvm2",),
    ),
    Fault("M24", "the destination has too little memory", "much_memory", kind=REFUSED, ids=("memory-short",)),
    Fault("M26", "the target disk is there, and smaller", "smaller_disk", kind=REFUSED, ids=("target-disk-differs",)),
    Fault(
        "M27",
        "the target disk is there, as long and with other content",
        "other_disk",
        kind=REFUSED,
        late=True,
        says=("verify /var/lib/libvirt/images/web1.qcow2", "kvm2", "SHA-256", "source is untouched", RUN_AGAIN),
    ),
    Fault("M29", "a disk said to be shared is not there", "not_shared", kind=REFUSED, ids=("disk-not-shared",)),
    Fault("M33", "the destination lacks the CPU model", "cpu", kind=REFUSED, ids=("cpu-missing",)),
    Fault("M38", "the destination lacks the bridge", "bridge", kind=REFUSED, ids=("bridge-missing",)),
    Fault("M39", "another guest there has the same MAC address", "mac", kind=REFUSED, ids=("mac-taken",)),
    Fault("M44", "both hosts report one host UUID", "same_uuid", kind=REFUSED, ids=("same-host",)),
    Fault("M52", "the domain has a snapshot", "snapshot", kind=REFUSED, ids=("snapshots",)),
    Fault("M53", "an ISO image of the source alone is in the drive", "iso", kind=REFUSED, ids=("file-missing",)),
)

# (numbers, where it is proven or why it is not)
ELSEWHERE: Tuple[Tuple[str, str], ...] = (
    ("M34", "tests/integration/test_kvm_migrate_preflight.py (machine-missing): Debian 13 to Debian 12"),
    (
        "M35",
        "unit cases (firmware-missing); that UEFI variables come along is in tests/integration/test_kvm_migrate.py",
    ),
    ("M37", "unit cases (tpm-missing, tpm-state); a wrong secret was not injected"),
    ("M41", "tests/integration/test_tls.py"),
    ("M42, M45, M55, M56", "unit cases of the plan"),
    ("M47, M48, M49", "post-copy: not in this campaign"),
    ("M51", "not injected: the lab's hosts share one clock"),
)


def chosen(only: Sequence[str]) -> Tuple[Fault, ...]:
    """Those whose id or injection (link-cut or link_cut) is named; all when none is. Raises ValueError for a name that is none."""
    names = {name.replace("-", "_") for name in only}
    known = {fault.id for fault in FAULTS} | {fault.inject for fault in FAULTS} | {"worst", LIVE, OFFLINE, REFUSED}
    if names - known:
        raise ValueError(
            "no such fault: %s; there are %s" % (", ".join(sorted(names - known)), ", ".join(sorted(known)))
        )
    if not names:
        return FAULTS
    return tuple(one for one in FAULTS if names & {one.id, one.inject, one.kind} or (one.worst and "worst" in names))
