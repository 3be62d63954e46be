# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The only place of the agent that starts processes, and what it asks of the kernel about itself."""

from __future__ import absolute_import, division, print_function

import ctypes
import errno
import os
import signal
import subprocess
import threading

__metaclass__ = type

libc = ctypes.CDLL(None, use_errno=True)

# <sys/mman.h>, <sched.h>, <sys/mount.h>, <sys/prctl.h>
MCL_CURRENT, MCL_FUTURE = 1, 2
CLONE_NEWNS = 0x20000
MS_RDONLY, MS_REC, MS_SLAVE = 0x1, 0x4000, 0x80000

# Tools of administrators stand here, also where root's PATH does not say so.
TOOL_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"


# What a run makes is called so, and the end of the name is the process that made it.
PREFIX = "kvmops-p2v-"


class Failed(Exception):
    """what: what was attempted. said: the system's words. number: errno or None."""

    def __init__(self, what, said, number=None):
        Exception.__init__(self, "%s: %s" % (what, said))
        self.what = what
        self.said = said
        self.number = number


def failed(what, error):
    """A Failed of an OSError or IOError."""
    return Failed(what, error.strerror or str(error), error.errno)


def environment():
    found = dict(os.environ, LC_ALL="C")
    found["PATH"] = found.get("PATH", "") + ":" + TOOL_PATH
    return found


def name_of(run_id):
    """Of what this run makes on the source."""
    return "%s%s-%d" % (PREFIX, run_id, os.getpid())


def is_left_over(name):
    """It was made by an agent that is no more."""
    made_by = name.rpartition("-")[2]
    return name.startswith(PREFIX) and made_by.isdigit() and not os.path.exists("/proc/" + made_by)


def run(argv, seconds=120):
    """Standard output of a command as text. Failed when it is not there, takes longer than `seconds` or fails."""
    what = " ".join(argv)
    try:
        with open(os.devnull, "rb") as nothing:
            process = subprocess.Popen(
                argv, stdin=nothing, stdout=subprocess.PIPE, stderr=subprocess.PIPE, close_fds=True, env=environment()
            )
    except (OSError, IOError) as error:
        raise failed(what, error)
    overdue = threading.Timer(seconds, process.kill)
    overdue.daemon = True
    overdue.start()
    try:
        out, complaint = process.communicate()
    finally:
        overdue.cancel()
    if process.returncode:
        said = complaint.decode("utf-8", "replace").strip() or "it ended with %d" % process.returncode
        raise Failed(what, said)
    return out.decode("utf-8", "replace")


def output(argv, seconds=60):
    """Standard output of a command, or nothing when it fails: for what is good to know and no more."""
    try:
        return run(argv, seconds)
    except Failed:
        return ""


def dialled(argv, complaint):
    """Start a command that carries a stream; (process, its standard output, its standard input) as descriptors.

    complaint: path of a file for its standard error. A session of its own: what ends the agent's is not meant for it.
    """
    with open(complaint, "wb") as said:
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, close_fds=True, bufsize=0,
            env=environment(), preexec_fn=os.setsid,
        )  # fmt: skip
    return process, process.stdout.fileno(), process.stdin.fileno()


def at_once(calls):
    """What functions give that mostly wait for other programs, each in a thread of its own. A failure of one is raised."""
    found, failures = [None] * len(calls), []

    def work(number, call):
        try:
            found[number] = call()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=each) for each in enumerate(calls)]
    for thread in threads:
        thread.daemon = True
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return found


class Timex(ctypes.Structure):
    """The beginning of struct timex, <sys/timex.h>, and more room than the kernel fills."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("rest", ctypes.c_char * 512),
    ]


def clock_error_us():
    """By how many microseconds the kernel's clock may be wrong; None where it does not tell."""
    asked = Timex()
    return None if libc.adjtimex(ctypes.byref(asked)) < 0 else asked.maxerror


def forked():
    """os.fork: the only one."""
    return os.fork()


def end(process):
    """End a process that this one started, and wait for it."""
    if process.poll() is None:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except OSError as error:
            if error.errno != errno.ESRCH:
                raise
    process.wait()


def lock_memory():
    """Nothing of this process is paged in from a frozen filesystem. True when the kernel agreed."""
    return libc.mlockall(MCL_CURRENT | MCL_FUTURE) == 0


def be_humble():
    """Idle I/O class for this process and what it starts from now on; its threads lower their own CPU priority."""
    output(["ionice", "-c", "3", "-p", str(os.getpid())])


def sync():
    """Everything that is dirty is written; returns when it is."""
    libc.sync()


def held_elsewhere(mounted):
    """A descriptor of the folder whose path `mounted` gives, called in a mount namespace that nobody else sees.

    A child makes the namespace and the mount. It is gone when this returns, and what it mounted with it, but for what
    the descriptor holds. So this process stays where it sees the mounts of the machine.
    """
    told, tell = os.pipe()
    wait, release = os.pipe()
    child = forked()
    if not child:
        try:
            os.close(release)
            _private_mounts()
            os.write(tell, mounted().encode())
            os.read(wait, 1)
        finally:
            os._exit(0)
    os.close(tell)
    os.close(wait)
    try:
        path = os.read(told, 4096).decode()
        if not path:
            raise Failed("mounting tracefs", "it is refused")
        return os.open("/proc/%d/root%s" % (child, path), os.O_RDONLY)
    finally:
        os.close(told)
        os.close(release)
        os.waitpid(child, 0)


def _private_mounts():
    if libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC | MS_SLAVE, None):
        raise Failed("making a mount namespace", os.strerror(ctypes.get_errno()), ctypes.get_errno())


def mount_read_only(kind, node, path):
    if libc.mount(node.encode(), path.encode(), kind.encode(), MS_RDONLY, None):
        raise Failed("mounting %s" % node, os.strerror(ctypes.get_errno()), ctypes.get_errno())


def mount(kind, path):
    if libc.mount(kind, path.encode(), kind, 0, None):
        raise Failed("mounting %s" % path, os.strerror(ctypes.get_errno()), ctypes.get_errno())
