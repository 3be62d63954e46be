# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A process of its own that freezes and thaws filesystems, and cleans up behind the agent.

It thaws when it is told to, when nothing has been heard for the agreed time, and at once when the agent is gone. Told to
leave, it switches the machine off instead, in all these cases but the first. It touches no filesystem while one is frozen:
its memory is locked, and the mount points are opened before.
"""

from __future__ import absolute_import, division, print_function

import errno
import fcntl
import json
import os
import select
import shutil
import signal
import threading

from ansible_collections.kvmops.fleet.plugins.module_utils.p2v_agent import processes, tracing

__metaclass__ = type

# <linux/fs.h>
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
# vfat and the like know no freeze.
CANNOT = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL)
LONGEST_S = 600
# <Documentation/admin-guide/sysrq.rst>: "o" powers the machine off. For root it works whatever kernel.sysrq says.
TRIGGER = "/proc/sysrq-trigger"
# The answer is to arrive before the network is gone.
LEAVES_AFTER_S = 1.0
# A machine that is on after so long will not go off by itself: it serves again. The receiver gives up before that.
STAYS_ON_S = 150


def now():
    """Seconds that no setting of the clock changes, in Python 2.7 as well."""
    return os.times()[4]


def thaw(descriptors):
    """Thaw, the last frozen first. EINVAL: it is not frozen, which is what is wanted."""
    for descriptor in reversed(descriptors):
        try:
            fcntl.ioctl(descriptor, FITHAW, 0)
        except (IOError, OSError) as error:
            if error.errno != errno.EINVAL:
                raise


class Freeze:
    """One freeze of some mount points, by a thread of its own: the call may take long, and nothing can end it."""

    def __init__(self, points, limit_s):
        self.limit_s = limit_s
        self.deadline = now() + limit_s
        self.done, self._tell = os.pipe()
        self.answer = None
        self._given_up = False
        self._frozen = []
        self._lock = threading.Lock()
        self._opened = [(point, os.open(point, os.O_RDONLY)) for point in points]
        self._worker = threading.Thread(target=self._freeze, name="freezing")
        self._worker.daemon = True

    def start(self):
        self._worker.start()

    def _freeze(self):
        frozen, cannot = [], []
        try:
            for point, descriptor in self._opened:
                try:
                    fcntl.ioctl(descriptor, FIFREEZE, 0)
                except (IOError, OSError) as error:
                    if error.errno == errno.EBUSY:
                        said = "%s: something else has frozen it, such as another run or a backup" % error.strerror
                        raise processes.Failed("freezing %s" % point, said, error.errno)
                    if error.errno not in CANNOT:
                        raise processes.failed("freezing %s" % point, error)
                    cannot.append({"mount": point, "said": error.strerror})
                    continue
                with self._lock:
                    self._frozen.append(descriptor)
                    if self._given_up:
                        thaw(self._frozen)
                        raise processes.Failed("freezing %s" % point, "it took longer than %s s" % self.limit_s)
                frozen.append(point)
            self.answer = {"ok": {"frozen": frozen, "cannot": cannot}}
        except processes.Failed as error:
            self.thaw()
            self.answer = {"error": {"what": error.what, "said": error.said, "errno": error.number}}
        os.write(self._tell, b".")

    def thaw(self):
        with self._lock:
            self._given_up = True
            thaw(self._frozen)
            self._frozen = []

    def close(self):
        """After the thaw; the descriptors are not needed any more unless the kernel still freezes."""
        if self.answer is not None:
            for dummy, descriptor in self._opened:
                os.close(descriptor)
            os.close(self.done)
            os.close(self._tell)


class Watchdog:
    """The loop of the process. notes: {"instance": ..., "folder": ..., "pids": [...]}, what to clean up."""

    def __init__(self, connection, trigger=TRIGGER):
        self._connection = connection
        self._trigger = trigger
        # When the machine is switched off, and, opened before, what does it.
        self._leaves_at = None
        self._switch = None
        self._rest = b""
        self._freeze = None
        self._announced = False
        self._notes = {}

    def run(self):
        """Until the agent has closed its end, by will or by death."""
        while True:
            waited = [self._connection] + ([self._freeze.done] if self._freeze and not self._announced else [])
            left = self._left()
            try:
                ready = select.select(waited, [], [], left)[0]
            except (select.error, OSError, IOError) as error:
                if error.args[0] == errno.EINTR:
                    continue
                raise
            if self._leaves_at is not None and now() >= self._leaves_at:
                self._switch_off()
            if self._freeze and now() >= self._freeze.deadline:
                self._give_up()
            elif self._freeze and self._freeze.done in ready:
                self._announce()
            if self._connection in ready and not self._heard():
                break
        if self._switch is not None:
            self._switch_off()
            threading.Event().wait(max(0.0, self._freeze.deadline - now()) if self._freeze else 0.0)
        self._give_up()
        self._clean()

    def _left(self):
        """Seconds until something is due; None for never."""
        due = [self._leaves_at] if self._leaves_at is not None else []
        due += [self._freeze.deadline] if self._freeze else []
        return max(0.0, min(due) - now()) if due else None

    def _heard(self):
        part = self._connection.recv(65536)
        if not part:
            return False
        lines = (self._rest + part).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._obey(json.loads(line.decode("utf-8")))
        return True

    def _obey(self, request):
        word = request["do"]
        if word == "note":
            self._notes.update(request["notes"])
        elif word == "alive":
            if self._freeze:
                self._freeze.deadline = max(self._freeze.deadline, now() + self._freeze.limit_s)
            self._say({"ok": {"frozen": bool(self._freeze)}})
        elif word == "thaw":
            self._stay()
            self._give_up()
            self._say({"ok": {}})
        elif word == "leave":
            self._leave()
        elif word == "freeze":
            self._begin(request)

    def _begin(self, request):
        if self._freeze:
            self._say({"error": {"what": "freezing", "said": "filesystems are frozen already", "errno": None}})
            return
        try:
            self._freeze = Freeze(request["points"], request["limit_s"])
        except OSError as error:
            said = {"what": "opening %s" % error.filename, "said": error.strerror, "errno": error.errno}
            self._say({"error": said})
            return
        self._announced = False
        self._freeze.start()

    def _leave(self):
        if self._switch is None:
            try:
                self._switch = os.open(self._trigger, os.O_WRONLY)
            except OSError as error:
                said = {"what": "powering off by %s" % self._trigger, "said": error.strerror, "errno": error.errno}
                self._say({"error": said})
                return
            self._leaves_at = now() + LEAVES_AFTER_S
        if self._freeze:
            self._freeze.deadline = now() + LEAVES_AFTER_S + STAYS_ON_S
        self._say({"ok": {}})

    def _switch_off(self):
        """Once. When the kernel does not do it, the machine stays on, which the receiver sees; in the end all is thawed."""
        if self._leaves_at is not None:
            self._leaves_at = None
            try:
                os.write(self._switch, b"o")
            except OSError:
                pass

    def _stay(self):
        if self._switch is not None:
            os.close(self._switch)
            self._switch = self._leaves_at = None

    def _announce(self):
        self._announced = True
        answer = self._freeze.answer
        if "error" in answer:
            self._freeze.close()
            self._freeze = None
        else:
            self._freeze.deadline = now() + self._freeze.limit_s
        self._say(answer)

    def _give_up(self):
        """Thaw. Where the kernel is still freezing, the worker thaws when it comes back."""
        if not self._freeze:
            return
        self._freeze.thaw()
        if not self._announced:
            late = "it took longer than %s s; thawed" % self._freeze.limit_s
            self._say({"error": {"what": "freezing", "said": late, "errno": errno.ETIME}})
        self._freeze.close()
        self._freeze = None

    def _say(self, answer):
        try:
            self._connection.sendall(json.dumps(answer).encode("utf-8") + b"\n")
        except (OSError, IOError):
            # The agent is gone; the next read says so.
            pass

    def _clean(self):
        """What the agent did not take away itself: with a clean end, nothing."""
        for pid in self._notes.get("pids", []):
            end_quietly(pid)
        if self._notes.get("instance"):
            remove_patiently(self._notes["instance"])
        if self._notes.get("folder"):
            shutil.rmtree(self._notes["folder"], ignore_errors=True)


def end_quietly(pid):
    try:
        os.kill(pid, signal.SIGTERM)
    except OSError:
        pass


def remove_patiently(path):
    """An instance can be removed once its reader, which is dying, has let go of it."""
    over = threading.Event()
    for dummy in range(100):
        try:
            tracing.remove(path)
            return
        except (OSError, processes.Failed):
            over.wait(0.1)
