# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent at work: it answers the requests of the receiver, and leaves nothing behind when that is gone."""

from __future__ import absolute_import, division, print_function

import os
import sys
import threading

from ansible_collections.kvmops.fleet.plugins.module_utils.p2v_agent import (
    blocks,
    discovery,
    frames,
    freezer,
    maps,
    processes,
    ranges,
    reading,
    rest,
    services,
    tracing,
)

__metaclass__ = type

MIB = ranges.MIB
# Answered at once, whatever else is being done.
AT_ONCE = ("alive", "limit", "bye")


class Servant:
    """One run. only: kernel names of the devices that it is about; otherwise all disks."""

    def __init__(self, run, freezes, tracefs, only=None):
        self.run_id = run
        self.coder = reading.Coder()
        self.pace = reading.Pace()
        self.layout = blocks.Layout(only)
        self._freezes = freezes
        self._tracefs = tracefs
        self._tracker = None
        self._watch = None
        self._frozen = False
        self._stopped = []

    # --- the life of the control connection ---

    def serve(self, stream):
        """Until `bye` or the end of the connection; whether it was `bye`. Requests are answered one after the other, but for
        AT_ONCE."""
        working = threading.Lock()
        while True:
            request = stream.receive_json()
            if request is None:
                return False
            if request.get("do") in AT_ONCE:
                self._answer(stream, request)
                if request["do"] == "bye":
                    return True
            else:
                worker = threading.Thread(target=self._in_turn, args=(working, stream, request))
                worker.daemon = True
                worker.start()

    def _in_turn(self, working, stream, request):
        with working:
            try:
                self._answer(stream, request)
            except OSError:
                # The receiver is gone, which the reading end notices as well.
                pass

    def _answer(self, stream, request):
        answer = {"id": request.get("id")}
        try:
            action = getattr(self, "do_%s" % request.get("do"), None)
            if not action:
                raise processes.Failed("a request", "this agent does not know %r" % request.get("do"))
            answer["ok"] = action(request)
        except Exception as error:
            answer["error"] = told(request.get("do"), error)
        stream.send_json(answer)

    def end(self):
        """Everything as it was, whatever state the run was in. Goes on when a part fails; the watchdog is behind it."""
        for undo in (self.thaw, self._untrack, self._start_again):
            try:
                undo()
            except Exception as error:
                sys.stderr.write("p2v agent: %s\n" % error)
        self._freezes.end()

    def thaw(self):
        if self._frozen:
            self._freezes.thaw()
            self._frozen = False

    def _untrack(self):
        if self._tracker:
            self._tracker.stop()
            self._tracker = None

    def _start_again(self):
        if self._stopped:
            services.start(self._stopped)
            self._stopped = []

    # --- control requests ---

    def do_describe(self, dummy):
        found = discovery.described(self.layout)
        found.update(codings=self.coder.offered(), tracing=self._tracefs or "")
        return found

    def do_limit(self, request):
        rate = request.get("bandwidth_mib_s")
        self.pace.limit(rate * MIB if rate else None)
        return {}

    def do_track(self, request):
        if not self._tracefs:
            raise processes.Failed("tracking writes", "this kernel has no tracefs, or it cannot be mounted")
        for name in request["disks"]:
            self._known(name)
            if not can_be_tracked(name):
                raise processes.Failed(
                    "tracking writes", "the driver of %s issues no requests that can be traced" % name
                )
        self._untrack()
        tracker = tracing.Tracker(self._tracefs, self.run_id, request["disks"])
        self._freezes.note(instance=tracker.path)
        tracker.start()
        self._tracker = tracker
        return {"boot_id": discovery.boot_id()}

    def do_written(self, dummy):
        if not self._tracker:
            raise processes.Failed("asking what was written", "nothing is tracked")
        found, lost = self._tracker.written()
        disks = {}
        for name, written in found.items():
            disks[name] = ranges.clipped(
                ranges.subtracted(written, maps.swapped(self.layout, name)), blocks.size_of(name)
            )
        sizes = dict((name, blocks.size_of(name)) for name in self.layout.disks)
        return {"disks": disks, "lost": lost, "boot_id": discovery.boot_id(), "sizes": sizes}

    def do_rest(self, request):
        """From now on the disks are expected to stay as they are."""
        for name in request["disks"]:
            self._known(name)
        processes.sync()
        self._watch = rest.Watch(request["disks"])
        return {"boot_id": discovery.boot_id()}

    def do_rested(self, dummy):
        if not self._watch:
            raise processes.Failed("asking whether the disks stayed as they are", "nobody asked for that before")
        sizes = dict((name, blocks.size_of(name)) for name in self.layout.disks)
        return {"written": self._watch.written(), "boot_id": discovery.boot_id(), "sizes": sizes}

    def do_map(self, request):
        return maps.Map(self.layout, self._freezes.settle, bool(self._watch)).of(self._known(request["disk"]))

    def do_sync(self, dummy):
        processes.sync()
        return {}

    def do_services(self, request):
        if request.get("stop"):
            done = services.stop(request["stop"])
            self._stopped = list(reversed(request["stop"])) + self._stopped
            return done
        self._stopped = [name for name in self._stopped if name not in request.get("start", [])]
        return services.start(request.get("start", []))

    def do_freeze(self, request):
        points = request.get("mounts")
        if points is None:
            points = freezer.freezable(self.layout)
        # A folder that is no mount point would freeze what it happens to be in.
        for point in set(points) - set(mount.point for mount in freezer.on_disks(self.layout)):
            raise processes.Failed("freezing %s" % point, "nothing on these disks is mounted there")
        answer = self._freezes.freeze(points, float(request["limit_s"]))
        self._frozen = True
        return answer

    def do_alive(self, dummy):
        return self._freezes.alive()

    def do_thaw(self, dummy):
        self._freezes.thaw()
        self._frozen = False
        return {}

    def do_poweroff(self, dummy):
        """Answered before the machine is off; from the answer on it goes off whatever becomes of the connection."""
        if self._frozen:
            self._freezes.leave()
            # Neither does the end of this agent thaw it.
            self._frozen = False
        else:
            services.power_off()
        # The machine goes down with its services stopped.
        self._stopped = []
        return {}

    def do_bye(self, request):
        """The end in order. keep_stopped: another machine has taken over, so what was stopped stays so."""
        if request.get("keep_stopped"):
            self._stopped = []
        return {}

    def _known(self, name):
        if name not in self.layout.disks:
            raise processes.Failed("looking for disk %s" % name, "there is no such disk")
        return name

    # --- the life of a data connection ---

    def serve_data(self, stream):
        """Reads and digests, one after the other, until the connection ends. This thread takes the lowest priority."""
        os.nice(19)
        opened = {}
        try:
            while True:
                request = stream.receive_json()
                if request is None:
                    return
                self._send_data(stream, request, opened)
        finally:
            for disk in opened.values():
                disk.close()

    def _send_data(self, stream, request, opened):
        answer = {"id": request.get("id")}
        try:
            name = self._known(request["disk"])
            if name not in opened:
                opened[name] = reading.Disk(blocks.node(name), blocks.size_of(name))
            number = self.layout.disks.index(name)
            code = self._code(request)
            sent = reading.send_chunks(stream, opened[name], number, request["ranges"], self.pace, code)
            answer["ok"] = {"sent": sent}
        except (processes.Failed, IOError, OSError, KeyError, TypeError, ValueError) as error:
            answer["error"] = told(request.get("do"), error)
        stream.send_json(answer)

    def _code(self, request):
        """What makes (coding, coded bytes) of what was read. The hash of a piece is told in any case.

        digest: nothing more, or with `unit` the hashes of its parts of so many bytes. read: the bytes, in one of `codings`.
        """
        if request.get("do") == "digest":
            unit = request.get("unit")
            return lambda data: (frames.HASH_ONLY, reading.digests(data, unit) if unit else b"")
        if request.get("do") != "read":
            raise processes.Failed("a request for data", "this agent does not know %r" % request.get("do"))
        allowed = request.get("codings", [frames.RAW])
        return lambda data: self.coder.code(data, allowed)


def can_be_tracked(name):
    """Drivers that take whole bios have no request queue: the multiqueue folder, or before that a scheduler."""
    return bool(blocks.listed(name, "mq")) or blocks.fact(name, "queue", "scheduler") not in ("", "none")


def told(word, error):
    """The error of an answer: what was attempted, the system's words, its number."""
    if isinstance(error, processes.Failed):
        return {"what": error.what, "said": error.said, "errno": error.number}
    if isinstance(error, (IOError, OSError)):
        said = error.strerror or str(error)
        if error.filename:
            said += ": %s" % error.filename
        return {"what": str(word), "said": said, "errno": error.errno}
    return {"what": str(word), "said": "%s: %s" % (type(error).__name__, error), "errno": None}
