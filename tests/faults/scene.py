# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One guest on two hosts, the move of it, and the moment at which something is to go wrong."""

from __future__ import annotations

import random
import re
import threading
import time
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set

from ansible_collections.kvmops.fleet.tests.integration.disks import make_disk
from ansible_collections.kvmops.fleet.tests.integration.fleet import IMAGES, Lab, Task, answers, guest, until

from .watch import ABSENT, PAUSED, Watch

HOSTS = ("kvm1", "kvm2")
NAME = "web1"
WEB = f"{IMAGES}/{NAME}.qcow2"
KEPT = "/var/cache/kvmops-faults"
SMALL = "/srv/small"
# On a disk that can be broken.
FRAIL = "/srv/frail"
DISK = {"pool": "default", "name": f"{NAME}.qcow2", "format": "qcow2"}
# 24 MiB of memory that no compression helps with, 1 MiB/s of it changed. libvirt counts the holes of the disk too: at
# 8 MiB/s, 64 MiB of disk and the memory take some eight seconds each.
BUSY = "kvmops.dirty_mib_s=1 kvmops.dirty_set_mib=24"
SLOW_MIB_S = 8
SLOW_LINK = "20mbit"

_WIPE = """
for d in $(virsh -q list --name); do virsh -q destroy $d; done
for d in $(virsh -q list --all --name); do virsh -q undefine $d --nvram --managed-save --snapshots-metadata; done
find /var/lib/libvirt/images -mindepth 1 -delete
for pool in small frail; do virsh -q pool-destroy $pool; virsh -q pool-undefine $pool; done
rm -rf /var/lib/kvmops/journal /srv/small/web1* /srv/small/.web1* /srv/frail/web1* /srv/frail/.web1*
virsh -q pool-refresh default
"""
# All that a move can leave: names only, as sizes change while the guest runs.
_INVENTORY = """
virsh -q list --all --name | while read -r d; do
    [ -n "$d" ] && echo "domain $d $(virsh domstate $d) $(virsh dominfo $d | sed -n 's/^\\(Persistent\\|Autostart\\): */\\1=/p' | tr '\\n' ' ')"
done
find /var/lib/libvirt/images /var/lib/libvirt/qemu/nvram /var/lib/libvirt/qemu/save /var/lib/libvirt/qemu/snapshot \\
    /var/lib/libvirt/swtpm /var/lib/kvmops/journal /run/kvmops /srv/small /srv/frail -type f 2>/dev/null | sed 's/^/file /'
ss -Hltn 'sport >= :49152 and sport <= :49215' | awk '{print "port " $4}'
find /tmp /var/tmp -mindepth 1 -maxdepth 1 ! -name 'systemd-private-*' ! -name 'ansible_*_payload_*' | sed 's/^/temporary /'
nft -s list ruleset 2>/dev/null | sha256sum | sed 's/^/firewall /'
for each in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $each 2>/dev/null | sed -n 's/.*qemu-system[^ ]* -name \\(guest=[^,]*\\).*/process \\1/p'; done
"""
# Whoever holds the lock of a move is the process that runs kvm_migrate.
_HOLDER = "for held in /proc/[0-9]*/fd/*; do case $(readlink $held) in */kvm_migrate-*.lock) echo $held;; esac; done"


@dataclass(frozen=True)
class Moment:
    """phase: set-up (the job exists), disk, memory, stop (memory nearly sent) or part (of an offline copy); share: of it."""

    phase: str
    share: float

    @property
    def text(self) -> str:
        return self.phase if self.phase in ("set-up", "stop") else "%s %d %%" % (self.phase, round(100 * self.share))


def draw(chance: random.Random, phases: Sequence[str]) -> Moment:
    """A point of progress, not a time: machines differ in speed."""
    return Moment(chance.choice(list(phases)), chance.uniform(0.05, 0.85))


def reached(moment: Moment, job: Mapping[str, Any], part: int, allocated: int) -> bool:
    """job: libvirt's statistics; part, allocated: bytes of an offline copy that came, and of the whole."""
    if moment.phase == "part":
        return part > 0 and part >= moment.share * allocated
    total, remaining = job.get("memory_total", 0), job.get("memory_remaining", 0)
    if moment.phase == "set-up":
        return bool(job.get("type", 0))
    if moment.phase == "disk":
        disk = job.get("disk_total", 0)
        return total > 0 or (disk > 0 and 1 - job.get("disk_remaining", 0) / disk >= moment.share)
    share = 0.9 if moment.phase == "stop" else moment.share
    return total > 0 and 1 - remaining / total >= share


class Scene:
    """The guest of one round. running: whether it is moved live."""

    def __init__(self, lab: Lab, chance: random.Random, args: Mapping[str, Any], running: bool) -> None:
        self.lab, self.chance, self.running = lab, chance, running
        self.args: Dict[str, Any] = {"name": NAME, "host": HOSTS[1], **args}
        self.results: List[Dict[str, Any]] = []
        self.faulted_at: Optional[float] = None
        self.acknowledged = 0
        self.watch: Any = None
        self.controller: Any = None
        self._run: Optional[threading.Thread] = None

    def set_up(self, cmdline: str = BUSY, folder: str = IMAGES, home: str = IMAGES, cache: str = "default") -> None:
        """Both hosts empty but for the guest on the first. Notes what belongs to the guest and what to neither.

        home, folder: where its disk is on the source and comes to on the destination. cache: QEMU's, of that disk.
        """
        for host in HOSTS:
            self.lab.sh(host, "sh", "-c", _WIPE)
        self.folder, self.home, self.web = folder, home, f"{home}/{NAME}.qcow2"
        for host, path in ((HOSTS[0], home), (HOSTS[1], folder)):
            if path in (SMALL, FRAIL):
                self._volume(host, path)
        self.bare = {host: inventory(self.lab, host) for host in HOSTS}
        self._guest(cmdline, cache)
        self.own = inventory(self.lab, HOSTS[0]) - self.bare[HOSTS[0]]
        self.allocated = int(self.lab.sh(HOSTS[0], "stat", "-c", "%b", self.web)) * 512
        self.watch = Watch(self.lab, NAME, HOSTS, folder)

    def _volume(self, host: str, path: str) -> None:
        self.lab.lab("volume", host, path, "--mib", "120", *(["--breakable"] if path == FRAIL else []))
        self.lab.virsh(host, "pool-create-as", path.rsplit("/", 1)[-1], "dir", "--target", path)

    def _guest(self, cmdline: str, cache: str) -> None:
        lab, home = self.lab, HOSTS[0]
        if "there" not in lab.sh(home, "sh", "-c", f"test -e {KEPT}/disk && echo there || true"):
            make_disk(lab, home, f"{NAME}.qcow2", mib=64)
            lab.one(
                home, "kvm_domain", **dict(guest(NAME, 101, disks=[DISK], cmdline="KVMOPS-CMDLINE"), state="present")
            )
            keep = f"mkdir -p {KEPT} && virsh -q dumpxml --inactive {NAME} > {KEPT}/xml && virsh -q undefine {NAME} && mv {WEB} {KEPT}/disk"
            lab.sh(home, "sh", "-c", keep)
        edits = f"s/KVMOPS-CMDLINE/{cmdline}/;s:{WEB}:{self.web}:;s/ type='qcow2'/ type='qcow2' cache='{cache}'/"
        again = f'cp {KEPT}/disk {self.web} && sed "{edits}" {KEPT}/xml > {KEPT}/now && virsh -q define {KEPT}/now && virsh -q autostart {NAME}'
        lab.sh(home, "sh", "-c", again + " && virsh -q pool-refresh default >/dev/null")
        if self.running:
            lab.virsh(home, "start", NAME)
            until(lambda: answers(lab, 101), 60, "the guest answers")

    def begin(self) -> None:
        """The task, in the background."""
        self._run = threading.Thread(target=lambda: self.results.append(self.run()))
        self._run.start()

    def run(self, check: bool = False) -> Dict[str, Any]:
        return self.lab.play(HOSTS[0], [Task("kvm_migrate", self.args, check, may_fail=True)])[0]

    def wait_for(self, moment: Moment) -> bool:
        """Whether the moment came before the run was over."""
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            twin = not self.running or self.watch.state(HOSTS[1]) == PAUSED
            if twin and reached(moment, self.watch.job, self.watch.part, self.allocated):
                return True
            if self.ended:
                return False
            time.sleep(0.02)
        return False

    @property
    def ended(self) -> bool:
        return self._run is not None and not self._run.is_alive()

    def ends_within(self, seconds: float) -> bool:
        if self._run is not None:
            self._run.join(seconds)
        return self.ended

    def module(self) -> Optional[str]:
        """The process on the source that runs the task."""
        held = {path.split("/")[2] for path in self.lab.sh(HOSTS[0], "sh", "-c", _HOLDER).split()}
        return held.pop() if held else None

    def page(self) -> int:
        """Records that the guest says are on its disk; 0 when it does not answer."""
        get = "import urllib.request as r;print(r.urlopen('http://10.77.0.101/',timeout=5).read().decode())"
        told = re.search(r"records: (\d+)", self.lab.lab("ns", "--", "python3", "-c", get, check=False))
        self.acknowledged = max(self.acknowledged, int(told[1]) if told else 0)
        return int(told[1]) if told else 0

    def left(self, owner: Optional[str], off: bool = False) -> List[str]:
        """What is on the hosts and should not be, or should be and is not, when owner has the guest."""
        found = []
        for host in HOSTS:
            wanted = set(self.bare[host])
            if host == owner:
                wanted |= {
                    self._there(line, host, off) for line in self.own if not (off and line.startswith("process"))
                }
            have = inventory(self.lab, host)
            found += ["%s: %s" % (host, line) for line in sorted(have - wanted)]
            found += ["%s lacks: %s" % (host, line) for line in sorted(wanted - have)]
        return found

    def _there(self, line: str, host: str, off: bool) -> str:
        if host == HOSTS[1]:
            line = line.replace(self.home, self.folder)
        return line.replace(" running ", " shut off ") if off else line

    def close(self) -> None:
        self.lab.lab("fault", "heal", check=False)
        if self.watch is not None:
            self.watch.stop()


def inventory(lab: Lab, host: str) -> Set[str]:
    return {line.strip() for line in lab.sh(host, "sh", "-c", _INVENTORY).splitlines() if line.strip()}


def settled(states: Sequence[str]) -> bool:
    """One host has the guest, the other does not know it."""
    return list(states).count(ABSENT) == 1 and "silent" not in states
