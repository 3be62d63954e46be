# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read along on the lab's switch, and look for a text in what goes by."""

from __future__ import annotations

import contextlib
import json
import subprocess
from typing import Any, Dict, Iterator, List

from .fleet import LAB, Lab

# Runs in the switch's namespace until its standard input ends. Frames longer than one packet count once per port.
_READER = """
import json, select, socket, struct, sys
marker, port = sys.argv[1].encode(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
port.setsockopt(socket.SOL_SOCKET, 33, 256 << 20)  # SO_RCVBUFFORCE
print("reading", flush=True)
seen = {"bytes": 0, "marked": 0}
while True:
    ready = select.select([port, sys.stdin], [], [])[0]
    if port in ready:
        frame = port.recv(1 << 18)
        seen["bytes"] += len(frame)
        seen["marked"] += marker in frame
    else:
        break
seen["lost"] = struct.unpack("II", port.getsockopt(263, 6, 8))[1]  # SOL_PACKET, PACKET_STATISTICS
print(json.dumps(seen), flush=True)
"""


@contextlib.contextmanager
def reading(lab: Lab, marker: str) -> Iterator[Dict[str, int]]:
    """Inside the block the wire is read. Afterwards the dictionary has bytes, marked (frames with the text), lost (frames)."""
    reader = subprocess.Popen(
        [str(LAB), "ns", "--name", lab.name, "--", "python3", "-c", _READER, marker],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert reader.stdin is not None and reader.stdout is not None
    seen: Dict[str, int] = {}
    try:
        assert reader.stdout.readline().strip() == "reading"
        yield seen
    finally:
        reader.stdin.close()
        seen.update(json.loads(reader.stdout.readline() or "{}"))
        reader.wait(timeout=30)


# Runs on a host until its standard input ends: ICMP echo between this host and one address, by the kernel's own time stamps.
# The kernel sorts out everything else before it queues it (tcpdump -dd icmp, for packets without their Ethernet header): the
# memory of the guest goes over the same bridge, and a queue full of that would lose what is counted here.
_ECHOES = """
import ctypes, json, select, socket, struct, sys
address, port = socket.inet_aton(sys.argv[1]), socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
rules = [(0x28, 0, 0, 0xFFFFF000), (0x15, 0, 3, 0x800), (0x30, 0, 0, 9), (0x15, 0, 1, 1), (6, 0, 0, 0xFFFF), (6, 0, 0, 0)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
port.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HL", len(rules), ctypes.addressof(program)))  # SO_ATTACH_FILTER
port.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
port.bind(("br0", 3))  # every protocol: a socket for IP alone does not see what the host itself sends
print("reading", flush=True)
asked, answered = [], []
while True:
    ready = select.select([port, sys.stdin], [], [])[0]
    if port not in ready:
        break
    packet, extra, flags, sender = port.recvmsg(2048, 256)
    head = (packet[0] & 15) * 4
    if address not in (packet[12:16], packet[16:20]):
        continue
    seconds, nanos = struct.unpack("qq", extra[0][2])
    row = [struct.unpack("!I", packet[head + 4:head + 8])[0], (seconds + nanos / 1e9) * 1000]
    if packet[head] == 8 and packet[16:20] == address:
        asked.append(row)
    if packet[head] == 0 and packet[12:16] == address:
        answered.append(row)
missed = struct.unpack("II", port.getsockopt(263, 6, 8))[1]  # SOL_PACKET, PACKET_STATISTICS
print(json.dumps([asked, answered, missed]), flush=True)
"""

# Runs at the controller's end: a request over HTTP every 20 ms, each in a thread of its own, and when each was answered.
_CLIENT = """
import json, sys, threading, time, urllib.request
answers, open_ones, ended = [], [], threading.Event()
def ask():
    try:
        urllib.request.urlopen(sys.argv[1], timeout=2).read()
        answers.append(time.monotonic() * 1000)
    except OSError:
        pass
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
print("reading", flush=True)
while not ended.wait(0.02):
    open_ones.append(threading.Thread(target=ask))
    open_ones[-1].start()
for one in open_ones:
    one.join()
print(json.dumps(sorted(answers)), flush=True)
"""


@contextlib.contextmanager
def observing(lab: Lab, *argv: str) -> Iterator[List[Any]]:
    """A program in the lab that says "reading" and, when its standard input ends, a JSON list. Afterwards: that list."""
    words = [str(LAB), argv[0], "--name", lab.name, *argv[1:]]
    observer = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert observer.stdin is not None and observer.stdout is not None
    seen: List[Any] = []
    try:
        assert observer.stdout.readline().strip() == "reading"
        yield seen
    finally:
        observer.stdin.close()
        seen += json.loads(observer.stdout.readline() or "[]")
        observer.wait(timeout=30)


def echoes(lab: Lab, host: str, address: str) -> contextlib.AbstractContextManager[List[Any]]:
    """What went over the host's bridge. Afterwards: [[(number, ms) of requests], [(number, ms) of answers], frames missed]."""
    return observing(lab, "exec", host, "--", "python3", "-c", _ECHOES, address)


def client(lab: Lab, url: str, host: str = "") -> contextlib.AbstractContextManager[List[Any]]:
    """Somebody elsewhere, or on that host, who uses the guest. Afterwards: the moments, in ms, at which answers came."""
    return observing(lab, *(("exec", host) if host else ("ns",)), "--", "python3", "-c", _CLIENT, url)
