# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on the source host: starts `virsh migrate` or waits for somebody else's move, looks on, and says what it saw.

One argument, JSON: name, dest (URI), virsh (words, or null: only look on), downtime_ms, rule, cut_s. Prints one line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import libvirt

LOOK_S, LOOK_NEAR_THE_END_S = 1.0, 0.1
GROWN_MORE_THAN, DOWNTIME_CAP_MS = 5, 2000000
MIB = 1 << 20


class Doubling:
    """Proxmox VE's rule: the downtime is doubled when what remains has grown more than five times."""

    def __init__(self, dom, downtime_ms):
        self.dom, self.downtime_ms = dom, downtime_ms
        self.last, self.grown, self.next_look = None, 0, 0.0

    def look(self, remaining, rate, now):
        if now < self.next_look:
            return
        near = rate and remaining < rate
        self.next_look = now + (LOOK_NEAR_THE_END_S if near else LOOK_S)
        if self.last is not None and remaining > self.last:
            self.grown += 1
        self.last = remaining
        if self.grown > GROWN_MORE_THAN:
            self.grown = 0
            self.downtime_ms = min(2 * self.downtime_ms, DOWNTIME_CAP_MS)
            self.dom.migrateSetMaxDowntime(self.downtime_ms, 0)


def job(dom):
    try:
        stats = dom.jobStats(0)
    except libvirt.libvirtError:
        return None
    return stats if stats.get("type") else None


def look_on(dom, order, started, seen):
    """Until the move has ended (virsh: its process; else: the job). Every look is a sample."""
    rule = Doubling(dom, order["downtime_ms"]) if order["rule"] else None
    deadline, missing, cut = time.monotonic() + order["cut_s"], 0, False
    while True:
        now = time.monotonic()
        stats = job(dom)
        if stats:
            missing = 0
            seen["began"] = seen["began"] or now
            seen["ended"] = now
            sample(stats, now, seen)
            if rule:
                rule.look(stats.get("memory_remaining", 0), stats.get("memory_bps", 0), now)
        elif seen["began"]:
            missing += 1
        if started.poll() is not None if started else missing > 3:
            return
        if now > deadline and not cut:
            if not started and not seen["began"]:
                seen["error"] = "no move began"
                return
            cut = seen["cut"] = bool(started)
            if cut:
                dom.abortJob()
        time.sleep(0.05)


def sample(stats, now, seen):
    rounds = stats.get("memory_iteration", 0)
    sent = stats.get("memory_processed", 0) / MIB
    if rounds <= 1:
        seen["first_pass_mib"] = sent
    seen["iterations"] = max(seen["iterations"], rounds)
    seen["throttle_percent"] = max(seen["throttle_percent"], stats.get("auto_converge_throttle", 0))
    if not seen["samples"] or now - seen["samples"][-1][0] > 0.2:
        seen["samples"].append([now, round(sent, 2), round(stats.get("memory_remaining", 0) / MIB, 2)])


def completed(order, seen):
    """What libvirt counted, as the destination keeps it; and a guest that virsh left paused goes on."""
    there = libvirt.open(order["dest"]).lookupByName(order["name"])
    seen["stats"] = {
        key: value
        for key, value in there.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED | 0x2).items()
        if isinstance(value, (int, float))
    }
    if order["virsh"] and there.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
        seen["resumed"] = True
        there.resume()


def main():
    order = json.loads(sys.argv[1])
    libvirt.registerErrorHandler(lambda context, error: None, None)
    dom = libvirt.open("qemu:///system").lookupByName(order["name"])
    seen = {"began": None, "ended": None, "iterations": 0, "throttle_percent": 0, "first_pass_mib": 0, "samples": []}
    started = None
    if order["virsh"]:
        dom.migrateSetMaxDowntime(order["downtime_ms"], 0)
        words = ["virsh", "-q", "migrate", *order["virsh"], order["name"], order["dest"]]
        before = time.monotonic()
        started = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    else:
        print("looking", flush=True)
    look_on(dom, order, started, seen)
    if started:
        seen["wall_s"] = time.monotonic() - before
        said = started.communicate()[0].decode()
        seen["error"] = said.strip() if started.returncode else None
    try:
        completed(order, seen)
    except libvirt.libvirtError as error:
        seen["error"] = seen.get("error") or str(error)
    print(json.dumps(seen))


main()
