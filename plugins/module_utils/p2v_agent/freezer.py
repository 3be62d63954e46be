# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent's end of the watchdog, and the second net: the agent thaws itself when the watchdog dies first."""

from __future__ import absolute_import, division, print_function

import collections
import errno
import json
import os
import signal
import socket
import threading

from ansible_collections.kvmops.fleet.plugins.module_utils.p2v_agent import mounts, processes, watchdog

__metaclass__ = type

# What the watchdog does at once; it answers a freeze in its limit.
PROMPT_S = 5
# It cleans up at its end.
ENDS_WITHIN_S = 20


class Answers:
    """Of the watchdog, from the thread that listens to the one that asked. None: it is gone."""

    def __init__(self):
        self._waiting = collections.deque()
        self._changed = threading.Condition()

    def put(self, answer):
        with self._changed:
            self._waiting.append(answer)
            self._changed.notify()

    def get(self, seconds):
        """The next one; None when there is none for so long."""
        with self._changed:
            if not self._waiting:
                self._changed.wait(seconds)
            return self._waiting.popleft() if self._waiting else None


class Freezer:
    """Starts the watchdog. To be made before the agent has threads, since it forks.

    Without its watchdog the agent does not go on: it thaws what it has frozen, and ends.
    """

    def __init__(self):
        self._connection, others = socket.socketpair()
        self.pid = processes.forked()
        if not self.pid:
            self._become_watchdog(others)
        others.close()
        self._asking = threading.Lock()
        self._answers = Answers()
        self._opened = []
        self._ending = self._leaving = False
        listening = threading.Thread(target=self._listen, name="watchdog")
        listening.daemon = True
        listening.start()

    def _listen(self):
        """Hand on the answers of the watchdog; None when it is gone."""
        lines = self._connection.makefile("rb")
        try:
            for line in iter(lines.readline, b""):
                self._answers.put(json.loads(line.decode("utf-8")))
        except (OSError, socket.error):
            # It died with a request unread, which the kernel calls a reset.
            pass
        if not self._ending:
            watchdog.thaw(self._opened)
            os.kill(os.getpid(), signal.SIGTERM)
        self._answers.put(None)

    def _become_watchdog(self, connection):
        try:
            os.setsid()
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
                signal.signal(number, signal.SIG_IGN)
            self._connection.close()
            silence()
            processes.lock_memory()
            watchdog.Watchdog(connection).run()
        finally:
            os._exit(0)

    def note(self, **notes):
        """What the watchdog cleans up when the agent dies: instance, folder, pids."""
        with self._asking:
            self._send({"do": "note", "notes": notes})

    def freeze(self, points, limit_s):
        """{frozen, cannot}: mount points. All or, with a Failed, none."""
        self._opened = [os.open(point, os.O_RDONLY) for point in points]
        try:
            return self._ask({"do": "freeze", "points": points, "limit_s": limit_s}, limit_s + PROMPT_S)
        except processes.Failed:
            self._close()
            raise

    def alive(self):
        """{frozen: whether filesystems are}. Not yet, as long as the watchdog is about to freeze or thaw."""
        if not self._asking.acquire(False):
            return {"frozen": False}
        try:
            return self._asked({"do": "alive"})
        finally:
            self._asking.release()

    def thaw(self):
        self._ask({"do": "thaw"})
        self._leaving = False
        self._close()

    def leave(self):
        """The machine goes off in a moment, as it is, frozen: nothing may be written any more, so nothing is lost."""
        self._ask({"do": "leave"})
        self._leaving = True

    def settle(self, point):
        """A filesystem writes all that it holds: frozen, and thawed at once."""
        self.freeze([point], watchdog.LONGEST_S)
        self.thaw()

    def end(self):
        """The watchdog thaws, cleans up and ends; the agent waits for that."""
        self._ending = True
        try:
            self._connection.shutdown(socket.SHUT_WR)
        except (OSError, socket.error):
            pass
        if self._leaving:
            # It has to stay until the machine is off.
            return
        over = threading.Event()
        for dummy in range(ENDS_WITHIN_S * 50):
            if self._reaped(os.WNOHANG):
                return
            over.wait(0.02)
        self._kill()

    def _kill(self):
        if not self._reaped(os.WNOHANG):
            os.kill(self.pid, signal.SIGKILL)
            self._reaped(0)

    def _reaped(self, options):
        """Whether the watchdog is gone; another thread may have found out before."""
        try:
            return os.waitpid(self.pid, options)[0] != 0
        except OSError as error:
            if error.errno != errno.ECHILD:
                raise
            return True

    def _close(self):
        for descriptor in self._opened:
            os.close(descriptor)
        self._opened = []

    def _send(self, request):
        try:
            self._connection.sendall(json.dumps(request).encode("utf-8") + b"\n")
        except (OSError, socket.error) as error:
            raise processes.Failed("asking the watchdog", str(error))

    def _ask(self, request, seconds=PROMPT_S):
        with self._asking:
            return self._asked(request, seconds)

    def _asked(self, request, seconds=PROMPT_S):
        self._send(request)
        answer = self._answers.get(seconds)
        if answer is None:
            # Once it is dead nothing is being frozen any more, and a thaw is final.
            self._kill()
            watchdog.thaw(self._opened)
            raise processes.Failed("asking the watchdog", "it has died or does not answer; what was frozen is thawed")
        if "error" in answer:
            said = answer["error"]
            raise processes.Failed(said["what"], said["said"], said["errno"])
        return answer["ok"]


def silence():
    """Let go of the streams of whoever started us."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)


def on_disks(layout):
    """[Mount] of the filesystems on the disks, in the order in which they were mounted."""
    found = []
    for mount in mounts.mounts():
        pieces = layout.pieces(mount.device) or whole(layout, mount.device)
        if any(piece.disk in layout.disks for piece in pieces):
            found.append(mount)
    return found


def freezable(layout):
    """Mount points of the filesystems that can be written to, once each, in the order in which to freeze them."""
    found = []
    seen = set()
    for mount in reversed(on_disks(layout)):
        if mounts.read_only(mount):
            continue
        number = os.stat(mount.point).st_dev
        if number not in seen:
            seen.add(number)
            found.append(mount.point)
    return found


def whole(layout, name):
    """The disks below a device that lies on them in a way that we do not follow."""
    return [piece for below in layout.below(name) for piece in layout.pieces(below) or []]
