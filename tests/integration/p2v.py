# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A machine at work that becomes an image: what it writes meanwhile, what of it is in the image, what a run left behind."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import threading
import time
from typing import Any, Dict, Iterator, List

from .fleet import IMAGES, LAB, Lab, until

# Numbered records, each on the disk before its number is printed.
WRITER = """
import hashlib, os, sys, time
kept = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
n = 0
while True:
    n += 1
    os.write(kept, b"%d %s\\n" % (n, hashlib.sha256(b"%d" % n).hexdigest().encode()))
    os.fsync(kept)
    print(n, flush=True)
    time.sleep(0.02)
"""


# Answers a GET when it has a line more on the disk. Arguments: file, port.
SERVER = """
import http.server, os, sys
kept = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        os.write(kept, b"hit\\n")
        os.fsync(kept)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *dummy):
        pass
server = http.server.ThreadingHTTPServer(("", int(sys.argv[2])), Page)
server.request_queue_size = 512
print("serving", flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def serving(lab: Lab, host: str, path: str, port: int) -> Iterator[None]:
    """A web server on that host that cannot answer while the filesystem of the path stands still."""
    words = [str(LAB), "exec", "--name", lab.name, host, "--", "python3", "-c", SERVER, path, str(port)]
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None and process.stdout.readline().strip() == "serving"
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Writer:
    """last: the newest record of which it said that it was on the disk. at: when we heard of it."""

    def __init__(self, lab: Lab, host: str, path: str) -> None:
        words = [str(LAB), "exec", "--name", lab.name, host, "--", "python3", "-c", WRITER, path]
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.last, self.at = 0, time.monotonic()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        until(lambda: self.last, 60, "the first record")

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            self.last, self.at = int(line), time.monotonic()

    def goes_on(self) -> None:
        seen = self.last
        until(lambda: self.last > seen + 20, 30, "the source serves")

    def stands_still(self) -> bool:
        return time.monotonic() - self.at > 1.5

    def end(self) -> None:
        """With its process group: on a host it is a process of this machine too."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._listener.join(10)


def checked_records(lines: List[str]) -> List[int]:
    """Their numbers; each has its hash, and none may be missing."""
    numbers = []
    for line in lines:
        number, digest = line.split()
        assert hashlib.sha256(number.encode()).hexdigest() == digest
        numbers.append(int(number))
    assert numbers == list(range(1, len(numbers) + 1))
    return numbers


def records_in(lab: Lab, host: str, image: str, offset: int, path: str) -> List[int]:
    """The records in an image: by programs that are not ours. Its filesystem at that byte must need no repair."""
    raw = "/var/tmp/%s.raw" % image
    lab.sh(host, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", "%s/%s" % (IMAGES, image), raw)
    try:
        place = "%s?offset=%d" % (raw, offset)
        lab.sh(host, "e2fsck", "-fn", place)
        return checked_records(lab.sh(host, "debugfs", "-R", "cat %s" % path, place).splitlines())
    finally:
        lab.sh(host, "rm", "-f", raw)


def differing(lab: Lab, host: str, image: str, told: Dict[str, Any]) -> int:
    """Pieces of the image that are not what its manifest says, by a program that shares nothing with ours."""
    script = """
import hashlib, json, subprocess, sys
image = sys.argv[1]
raw = "/var/tmp/digests.raw"
subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, raw], check=True)
wrong = count = 0
with open(raw, "rb") as disk, open(image + ".manifest") as lines:
    head = json.loads(next(lines))
    chunks = dict(json.loads(line) for line in lines)
    for pieces in chunks.values():
        for offset, length, digest in pieces:
            disk.seek(offset)
            count += 1
            wrong += hashlib.sha256(disk.read(length)).hexdigest() != digest
assert head["complete"] and count
print(wrong)
"""
    try:
        return int(lab.sh(host, "python3", "-c", script, "%s/%s" % (IMAGES, image)))
    finally:
        lab.sh(host, "rm", "-f", "/var/tmp/digests.raw")


def left_behind(lab: Lab, source: str, host: str) -> str:
    """What a run could leave on either side."""
    there = (
        "ls /sys/kernel/tracing/instances 2>/dev/null | grep kvmops; ls /dev/shm | grep kvmops;"
        " pgrep -af 'kvmops-p2[v]|exec.compile.i.rea[d]'; true"
    )
    here = "grep kvmops-p2v /root/.ssh/authorized_keys; pgrep -a qemu-nbd; ls /run/kvmops/p2v-*/ | grep -v -e lock -e : -e '^$'; true"
    return lab.sh(source, "sh", "-c", there) + lab.sh(host, "sh", "-c", here)


def nothing_left(lab: Lab, source: str, host: str) -> None:
    """The agent and its watchdog end a moment after their connections."""
    last = [""]

    def gone() -> bool:
        last[0] = left_behind(lab, source, host)
        return not last[0]

    try:
        until(gone, 15, "nothing left behind")
    except AssertionError:
        raise AssertionError("left behind: %s" % last[0])
