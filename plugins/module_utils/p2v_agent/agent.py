# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The agent's life: dial the receiver, serve it, leave nothing behind.

It is streamed into a Python of the source and never stored there. What it needs as files (a key of the run) lives in
memory, in a folder of its own under /dev/shm.
"""

from __future__ import absolute_import, division, print_function

import json
import os
import shutil
import signal
import sys
import threading

from ansible_collections.kvmops.fleet.plugins.module_utils.p2v_agent import (
    blocks,
    frames,
    freezer,
    network,
    processes,
    servant,
    tracing,
)

__metaclass__ = type

# Filesystems in memory; nothing is written to a disk of the source.
MEMORY = ("/dev/shm", "/run")
STACK = 1024 * 1024
COMPLAINS_WITHIN_S = 2


class Ended(BaseException):
    """Somebody asked the agent to end: no error of a request, so no answer to one."""


class Dialled:
    """Connections to the receiver, each carried by a command of its own (ssh)."""

    def __init__(self, settings, folder):
        self._settings = settings
        self._folder = folder
        self.processes = []

    def connect(self, channel, number, codings):
        """A stream on which the agent has said who it is."""
        words = {"folder": self._folder, "channel": channel, "number": number}
        argv = [part.format(**words) for part in self._settings["dial"]]
        complaint = os.path.join(self._folder, "%s-%d.err" % (channel, number))
        try:
            process, reader, writer = processes.dialled(argv, complaint)
        except OSError as error:
            raise processes.failed("starting %s" % argv[0], error)
        self.processes.append((process, complaint))
        stream = frames.Stream(reader, writer)
        hello = {"protocol": frames.PROTOCOL, "run": self._settings["run"], "channel": channel, "number": number}
        stream.send_json(dict(hello, codings=codings))
        return stream

    def complaints(self):
        """What the carrying commands said when they ended. One that has closed its stream may be about to say it."""
        over = threading.Event()
        for dummy in range(COMPLAINS_WITHIN_S * 10):
            if all(process.poll() is not None for process, dummy in self.processes):
                break
            over.wait(0.1)
        said = [blocks.word(complaint) for process, complaint in self.processes if process.poll()]
        return "; ".join(sorted(set(part for part in said if part)))

    def end(self):
        for process, dummy in self.processes:
            processes.end(process)


def main(settings):
    """settings: run (an id of letters, digits and dashes), dial (argv that connects its standard input and output to
    the receiver; {folder}, {channel} and {number} are replaced), connections (of data), files ({name: text}, written to
    {folder}), receiver ([address, port] that dial leads to, so that the address towards it can be told), disks (kernel
    names of those that the run is about; without, all of them), detach (go on without whoever started the agent)."""
    if settings.get("detach"):
        report = detached()
    else:
        report = os.dup(1)
    # Asked now: a frozen machine must not look for names.
    status = Status(report, network.address_towards(settings.get("receiver")))
    threading.stack_size(STACK)
    try:
        tracefs = tracing.place()
    except processes.Failed:
        tracefs = ""
    keeper = freezer.Freezer()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, asked_to_end)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    processes.lock_memory()
    processes.be_humble()
    folder = folder_in_memory(settings["run"])
    keeper.note(folder=folder)
    at_work = servant.Servant(settings["run"], keeper, tracefs, settings.get("disks"))
    dialled = Dialled(settings, folder)
    try:
        control = connected(settings, folder, dialled, at_work, keeper)
        status.say({"agent": "connected", "pid": os.getpid(), "watchdog": keeper.pid})
        status.end(
            "ended", "" if at_work.serve(control) else dialled.complaints() or "the receiver ended the connection"
        )
    except (Ended, frames.ProtocolError, processes.Failed, IOError, OSError) as error:
        status.end("failed", "%s %s" % (error, dialled.complaints()))
    finally:
        at_work.end()
        dialled.end()
        shutil.rmtree(folder, ignore_errors=True)


def connected(settings, folder, dialled, at_work, keeper):
    """The control connection, once all connections are made."""
    for name, text in sorted(settings.get("files", {}).items()):
        write_private(os.path.join(folder, os.path.basename(name)), text)
    codings = at_work.coder.offered()
    control = dialled.connect("control", 0, codings)
    for number in range(settings.get("connections", 2)):
        stream = dialled.connect("data", number, codings)
        reader = threading.Thread(target=served_to_its_end, args=(at_work, stream))
        reader.daemon = True
        reader.start()
    keeper.note(pids=[process.pid for process, dummy in dialled.processes])
    return control


def served_to_its_end(at_work, stream):
    try:
        at_work.serve_data(stream)
    except (IOError, OSError, frames.ProtocolError):
        # The control connection tells the receiver's wishes; a data connection may come and go.
        pass


def folder_in_memory(run):
    """A new one. Those of agents that were killed together with their watchdogs are removed."""
    memory = next(path for path in MEMORY if os.path.isdir(path))
    for name in os.listdir(memory):
        if processes.is_left_over(name):
            shutil.rmtree(os.path.join(memory, name), ignore_errors=True)
    folder = os.path.join(memory, processes.name_of(run))
    os.mkdir(folder, 0o700)
    return folder


def write_private(path, text):
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as kept:
        kept.write(text.encode("utf-8"))


def asked_to_end(number, dummy):
    # Once is enough: the clean end must not be interrupted by another signal.
    for other in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise Ended("signal %d" % number)


class Status:
    """Lines of JSON for whoever started the agent, as long as there is somebody. address: ours towards the receiver."""

    def __init__(self, descriptor, address):
        self._descriptor = descriptor
        self._address = address

    def end(self, how, said):
        words = {"agent": how}
        if said:
            words["said"] = said
            if self._address:
                words["from"] = self._address
        self.say(words)

    def say(self, words):
        try:
            os.write(self._descriptor, json.dumps(words).encode("utf-8") + b"\n")
        except OSError:
            pass


def detached():
    """Go on as a process that nobody waits for; the first line of status is still printed by the one that was started."""
    reader, writer = os.pipe()
    if processes.forked():
        os.close(writer)
        with os.fdopen(reader, "rb") as said:
            line = said.readline()
        sys.stdout.write(line.decode("utf-8"))
        sys.stdout.flush()
        os._exit(0 if b'"connected"' in line else 1)
    os.close(reader)
    os.setsid()
    freezer.silence()
    return writer
