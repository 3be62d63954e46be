# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every write to a disk, as the kernel issues it: a private ftrace instance with the event block:block_rq_issue.

The event tells absolute sectors of the whole disk, below partitions, LVM and filesystems. What could be missed is
noticed: events that the kernel could not keep are counted by it, and its statistics of each disk say how much was
written, which can never be more than what was traced.
"""

from __future__ import absolute_import, division, print_function

import errno
import os
import re
import select
import threading

from ansible_collections.kvmops.fleet.plugins.module_utils.p2v_agent import blocks, processes, ranges

__metaclass__ = type

PLACES = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
EVENT = "events/block/block_rq_issue"
# Everything but reads: W(rite), D(iscard), and N, as which kernels tell write-zeroes. Flushes have no sectors.
KINDS = ("*W*", "*D*", "*N*")
LINE = re.compile(r"(?:^|block_rq_issue: )(\d+),(\d+) ([A-Z]+) \d+ \([^)]*\) (\d+) \+ (\d+)", re.M)
COUNTERS = re.compile(r"^(?:overrun|commit overrun|dropped events): (\d+)$", re.M)

# Room for events until they are read: about 50 000 events per processor, 64 MiB in all.
BUFFER_KIB, ALL_BUFFERS_KIB = 4096, 65536
KEPT_RANGES = 50000
# The reader looks whether it is over several times a second.
ENDS_WITHIN_S = 5


def place():
    """Where tracefs is. Where it is mounted nowhere, a path that only this process and its children have.

    To be called before there are threads and children.
    """
    for path in PLACES:
        if os.path.isdir(os.path.join(path, "instances")):
            return path
    held = processes.held_elsewhere(_mounted)
    path = "/proc/self/fd/%d" % held
    if not os.path.isdir(path + "/instances"):
        raise processes.Failed("tracking writes", "this kernel has no tracing instances")
    return path


def _mounted():
    """Mount tracefs, or what held it before Linux 4.1; its path."""
    if os.path.isdir(PLACES[0]):
        processes.mount(b"tracefs", PLACES[0])
        return PLACES[0]
    processes.mount(b"debugfs", os.path.dirname(PLACES[1]))
    return PLACES[1]


def put(path, text):
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(descriptor, text.encode("ascii"))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise processes.failed("writing %s to %s" % (text, path), error)


def remove(path):
    """Take an instance away, with all that it traces. The kernel refuses while somebody reads it."""
    if os.path.isdir(path):
        os.rmdir(path)


class Tracker:
    """Tracks the writes to some disks from its start until its stop."""

    def __init__(self, tracefs, run, disks):
        self.disks = dict((blocks.fact(name, "dev"), name) for name in disks)
        self.path = os.path.join(tracefs, "instances", processes.name_of(run))
        self._written = dict((name, []) for name in disks)
        self._sectors = dict((name, 0) for name in disks)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._pipe = None
        self._reader = None
        self._rest = b""
        self._lost = 0

    def start(self):
        """Returns when every write from now on is seen, and those under way before are done."""
        self._clear_old()
        try:
            os.mkdir(self.path)
        except OSError as error:
            raise processes.failed("making the tracing instance %s" % self.path, error)
        try:
            self._set_up()
        except Exception:
            self.stop()
            raise
        self._reader = threading.Thread(target=self._read_on, name="tracing")
        self._reader.daemon = True
        self._reader.start()
        for name in self._written:
            wait_for_writes_under_way(name, self._over)
        with self._lock:
            self._before = dict((name, sectors_written(name)) for name in self._written)
            self._lost = self._lost_events()

    def _clear_old(self):
        """Take away what agents left that were killed together with their watchdogs."""
        folder = os.path.dirname(self.path)
        for name in os.listdir(folder):
            if processes.is_left_over(name):
                try:
                    remove(os.path.join(folder, name))
                except OSError as error:
                    # Somebody reads it: an agent of a container, whose processes have other numbers here.
                    if error.errno != errno.EBUSY:
                        raise

    def _set_up(self):
        cpus = len([name for name in os.listdir(os.path.join(self.path, "per_cpu")) if name.startswith("cpu")])
        put(os.path.join(self.path, "buffer_size_kb"), str(min(BUFFER_KIB, ALL_BUFFERS_KIB // max(1, cpus))))
        put(os.path.join(self.path, EVENT, "filter"), event_filter(self.disks))
        try:
            # Shorter lines; older kernels have this for all instances or for none.
            put(os.path.join(self.path, "trace_options"), "nocontext-info")
        except processes.Failed:
            pass
        self._pipe = os.open(os.path.join(self.path, "trace_pipe"), os.O_RDONLY | os.O_NONBLOCK)
        put(os.path.join(self.path, EVENT, "enable"), "1")
        put(os.path.join(self.path, "tracing_on"), "1")

    def _read_on(self):
        waiting = select.poll()
        waiting.register(self._pipe, select.POLLIN)
        while not self._over.is_set():
            # Kernels wake a reader only when the buffer is half full.
            waiting.poll(50)
            with self._lock:
                if self._pipe is not None:
                    self._drain()
            self._over.wait(0.05)

    def _drain(self):
        """Read all events there are."""
        while True:
            try:
                part = os.read(self._pipe, 65536)
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EINTR):
                    return
                raise
            if not part:
                return
            whole, dummy, self._rest = (self._rest + part).rpartition(b"\n")
            self._take(whole.decode("ascii", "replace"))

    def _take(self, text):
        for disk, offset, length in events(text):
            name = self.disks.get(disk)
            if name and length:
                kept = self._written[name]
                kept.append((offset, length))
                self._sectors[name] += length // blocks.SECTOR
                if len(kept) > 2 * KEPT_RANGES:
                    self._written[name] = ranges.coarsened(kept, KEPT_RANGES, 0)

    def written(self):
        """(ranges by disk, lost) since the last call. lost: events that the kernel dropped, plus disks whose statistics
        tell of writes that were not traced. When it is not 0, the ranges are not all there is."""
        with self._lock:
            # What is done by now was issued before, so its event is among those read next.
            done = dict((name, sectors_written(name)) for name in self._written)
            self._drain()
            lost_events = self._lost_events()
            lost, self._lost = lost_events - self._lost, lost_events
            found = {}
            for name, kept in self._written.items():
                found[name] = ranges.coarsened(kept, KEPT_RANGES, 0)
                if done[name] - self._before[name] > self._sectors[name]:
                    lost += 1
                    self._before[name] = done[name] - self._sectors[name]
                self._written[name] = []
            return found, lost

    def _lost_events(self):
        lost = 0
        folder = os.path.join(self.path, "per_cpu")
        for cpu in os.listdir(folder):
            stats = blocks.word(os.path.join(folder, cpu, "stats"))
            lost += sum(int(count) for count in COUNTERS.findall(stats))
        return lost

    def stop(self):
        """The kernel traces no more, and the instance is gone."""
        self._over.set()
        if self._reader is not None:
            # A poll that is under way holds the pipe open, whatever is closed meanwhile.
            self._reader.join(ENDS_WITHIN_S)
        with self._lock:
            if self._pipe is not None:
                os.close(self._pipe)
                self._pipe = None
        remove(self.path)


def event_filter(disks):
    """The kernel's filter for writes to these disks ("8:0"); it numbers devices with 20 bits of minor."""
    numbers = [[int(part) for part in disk.split(":")] for disk in disks]
    which = " || ".join("dev == %d" % (major << 20 | minor) for major, minor in sorted(numbers))
    return "(%s) && (%s)" % (which, " || ".join('rwbs ~ "%s"' % kind for kind in KINDS))


def events(text):
    """("8:0", offset, length) of the lines of a trace."""
    for major, minor, dummy, sector, sectors in LINE.findall(text):
        yield "%s:%s" % (major, minor), int(sector) * blocks.SECTOR, int(sectors) * blocks.SECTOR


def sectors_written(name):
    """Sectors of writes and discards that are done, by Documentation/block/stat.rst."""
    fields = [int(field) for field in blocks.fact(name, "stat").split()]
    if not fields:
        raise processes.Failed("asking what was written to %s" % name, "the disk is gone")
    return fields[6] + (fields[13] if len(fields) > 13 else 0)


def wait_for_writes_under_way(name, over):
    """Until no write is under way for a moment. Nothing takes longer than the 30 s after which a driver gives up."""
    for dummy in range(3000):
        if int((blocks.fact(name, "inflight").split() or ["0", "0"])[-1]) == 0:
            return
        if over.wait(0.01):
            return
