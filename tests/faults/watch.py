# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What both hosts say of the guest, ten times a second, while something goes wrong."""

from __future__ import annotations

import itertools
import json
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.tests.integration.fleet import LAB, Lab

RUNNING, PAUSED, ENDING, OFF, ABSENT, SILENT = "running", "paused", "ending", "off", "absent", "silent"
# 4, "being shut down": its processors stand still, and QEMU is about to end. So ends a source that has handed its guest over.
_WORDS = {1: RUNNING, 2: RUNNING, 3: PAUSED, 4: ENDING, 5: OFF, 6: OFF, 7: PAUSED}

# Ends when its standard input is closed. Error 42: no such domain. A daemon that died is connected to anew.
_STATES = """
import json, select, sys, time, libvirt
libvirt.registerErrorHandler(lambda *words: None, None)
conn = None
while not select.select([0], [], [], 0.1)[0]:
    began, state = time.time(), None
    try:
        conn = conn or libvirt.open("qemu:///system")
        state = conn.lookupByName(sys.argv[1]).state()[0]
    except libvirt.libvirtError as error:
        state = 0 if error.get_error_code() == 42 else None
        conn = conn if state == 0 else None
    print(json.dumps([began, time.time(), state]), flush=True)
"""
_JOB = """
import json, select, sys, libvirt
libvirt.registerErrorHandler(lambda *words: None, None)
conn = None
while not select.select([0], [], [], 0.1)[0]:
    try:
        conn = conn or libvirt.open("qemu:///system")
        job = conn.lookupByName(sys.argv[1]).jobStats()
    except libvirt.libvirtError as error:
        job = {}
        conn = conn if error.get_error_code() in (42, 55) else None
    print(json.dumps(job), flush=True)
"""
_PART = """
import glob, json, os, select, sys
while not select.select([0], [], [], 0.1)[0]:
    sizes = []
    for path in glob.glob("%s/.%s*.kvmops-part" % (sys.argv[2], sys.argv[1])):
        try:
            sizes.append(os.stat(path).st_blocks * 512)
        except FileNotFoundError:
            pass
    print(json.dumps({"part": sum(sizes)}), flush=True)
"""


@dataclass(frozen=True)
class Look:
    """One answer of a host: asked and answered (seconds since the epoch), and the word."""

    asked: float
    at: float
    state: str


class Watch:
    """Reads the hosts until stop(). folder: where the parts of an offline copy appear on the destination."""

    def __init__(self, lab: Lab, name: str, hosts: Sequence[str], folder: str) -> None:
        self.looks: Dict[str, List[Look]] = {host: [] for host in hosts}
        self.job: Dict[str, Any] = {}
        self.part = 0
        self._ends: List[Tuple[subprocess.Popen[str], threading.Thread]] = []
        for host in hosts:
            self._begin(lab, host, [_STATES, name], lambda row, host=host: self.looks[host].append(_look(row)))
        self._begin(lab, hosts[0], [_JOB, name], self._note_job)
        self._begin(lab, hosts[1], [_PART, name, folder], self._note_part)

    def _note_job(self, row: Dict[str, Any]) -> None:
        self.job = row

    def _note_part(self, row: Dict[str, Any]) -> None:
        self.part = row["part"]

    def _begin(self, lab: Lab, host: str, words: Sequence[str], note: Any) -> None:
        argv = [str(LAB), "exec", "--name", lab.name, host, "--", "/usr/bin/python3", "-u", "-c", *words]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        reader = threading.Thread(target=_read, args=(process, note), daemon=True)
        reader.start()
        self._ends.append((process, reader))

    def state(self, host: str) -> str:
        """The newest word; silent when there was none for two seconds."""
        looks = self.looks[host]
        return looks[-1].state if looks and time.time() - looks[-1].at < 2 else SILENT

    def states(self) -> Tuple[str, ...]:
        return tuple(self.state(host) for host in self.looks)

    def stop(self) -> None:
        for process, _reader in self._ends:
            assert process.stdin is not None
            process.stdin.close()
        for process, reader in self._ends:
            process.wait(60)
            reader.join(10)


def _look(row: Sequence[Any]) -> Look:
    state = SILENT if row[2] is None else _WORDS.get(row[2], ABSENT)
    return Look(row[0], row[1], state)


def _read(process: subprocess.Popen[str], note: Any) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        note(json.loads(line))


def twice(looks: Mapping[str, Sequence[Look]]) -> Optional[float]:
    """When two hosts said "running": one of them did so both before and after the other did. None: never."""
    for host, mine in looks.items():
        seen = [look for other, theirs in looks.items() if other != host for look in theirs if look.state == RUNNING]
        for before, after in itertools.pairwise(mine):
            if before.state == after.state == RUNNING:
                for look in seen:
                    if before.at <= look.asked and look.at <= after.asked:
                        return look.at
    return None


def longest_gap(looks: Sequence[Look], since: float, until: float) -> float:
    """The longest time, in seconds, within which the host told nothing."""
    told = [since] + [look.at for look in looks if look.state != SILENT and since <= look.at <= until] + [until]
    return max(after - before for before, after in itertools.pairwise(told))


def safe_after(looks: Mapping[str, Sequence[Look]], fault: float) -> Optional[float]:
    """Seconds from the fault to the last moment at which a half of the guest was paused, a host was silent, or both ran it.

    None: it never became safe. A guest that is off is safe.
    """
    last = fault
    safe = False
    newest = dict.fromkeys(looks, SILENT)
    for look, host in sorted(
        ((look, host) for host, all_of in looks.items() for look in all_of), key=lambda x: x[0].at
    ):
        newest[host] = look.state
        if look.at < fault:
            continue
        said = list(newest.values())
        safe = SILENT not in said and PAUSED not in said and said.count(RUNNING) <= 1
        if not safe:
            last = look.at
    return last - fault if safe else None
