# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Send requests to a guest at a steady beat, and tell of each when it was sent and how long its answer took.

A program of its own: its source text is handed to a `python3` on the host that is to ask (host/probing.py). So it has
its own processor time, nothing is installed, and it ends when its standard input ends: when the module is killed.
Standard library only, Python 3.8 and newer.

The beat does not wait for answers: a request is due every interval, however many are open. Else a guest that stands
still would be asked once, and the pause would look like one slow answer.

Input: one JSON line, the request (model/probe.py); then `c` asks for the clock, `e` ends the beat and waits for what is open.
Output, JSON lines: {"ready": clock}, {"clock": clock}, {"end": clock} or {"error": words}; and for each request
[sent, took, why]: clock at which it was sent; seconds to the answer, or null and why. All clocks are CLOCK_MONOTONIC, in s.
"""

from __future__ import annotations

import collections
import errno
import json
import os
import selectors
import socket
import struct
import sys
import time

# A change of the request or of the answers needs a new one: where the ssh gate of the role host_base guards a host, it runs
# the copy that the role installed, and ignores the text sent.
PROTOCOL = 1

# Nobody waits for more; it bounds the memory of those who listen.
MOST_REQUESTS = 2000000
READ = 4096

clock = time.monotonic


class Requests:
    """The open requests. tell(sent, took, why) is called once for each."""

    def __init__(self, selector, timeout, tell):
        self.selector, self.timeout, self.tell = selector, timeout, tell
        self.open = collections.OrderedDict()

    def expire(self, now):
        while self.open:
            key, sent = next(iter(self.open.items()))
            if now - sent < self.timeout:
                return
            self.done(key, None, "no answer within %d ms" % (self.timeout * 1000))

    def next_end(self):
        return next(iter(self.open.values())) + self.timeout if self.open else None

    def done(self, key, took, why=None):
        self.tell(self.open.pop(key), took, why)


class Streams(Requests):
    """TCP: a connection for each request. payload, None for none; enough(answer) gives None for "more", True, or what is wrong."""

    def __init__(self, selector, timeout, tell, target, payload, enough):
        super().__init__(selector, timeout, tell)
        self.target, self.payload, self.enough = target, payload, enough
        self.answers = {}

    def shoot(self):
        family, address = self.target
        sent = clock()
        one = socket.socket(family, socket.SOCK_STREAM)
        one.setblocking(False)
        self.open[one], self.answers[one] = sent, b""
        code = one.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            self.done(one, None, os.strerror(code))
            return
        self.selector.register(one, selectors.EVENT_WRITE, self)

    def ready(self, one, events):
        try:
            if events & selectors.EVENT_WRITE:
                self._connected(one)
            else:
                self._read(one)
        except OSError as error:
            self.done(one, None, error.strerror or str(error))

    def _connected(self, one):
        code = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self.done(one, None, os.strerror(code))
        elif self.enough is None:
            self.done(one, clock() - self.open[one])
        else:
            if self.payload:
                one.send(self.payload)
            self.selector.modify(one, selectors.EVENT_READ, self)

    def _read(self, one):
        piece = one.recv(READ)
        self.answers[one] += piece
        verdict = self.enough(self.answers[one])
        if verdict is True:
            self.done(one, clock() - self.open[one])
        elif verdict is not None or not piece or len(self.answers[one]) > 16 * READ:
            self.done(one, None, verdict or "the connection ended before the answer")

    def done(self, key, took, why=None):
        super().done(key, took, why)
        del self.answers[key]
        try:
            self.selector.unregister(key)
        except (KeyError, ValueError):
            pass
        key.close()


class Echoes(Requests):
    """ICMP echo over one socket: a raw one for root, else the kernel's own echo socket."""

    def __init__(self, selector, timeout, tell, target):
        super().__init__(selector, timeout, tell)
        self.family, self.address = target
        self.six = self.family == socket.AF_INET6
        protocol = socket.IPPROTO_ICMPV6 if self.six else socket.IPPROTO_ICMP
        try:
            self.socket, self.raw = socket.socket(self.family, socket.SOCK_RAW, protocol), True
        except PermissionError:
            self.socket, self.raw = socket.socket(self.family, socket.SOCK_DGRAM, protocol), False
        self.socket.setblocking(False)
        self.token, self.number = os.urandom(8), 0
        selector.register(self.socket, selectors.EVENT_READ, self)

    def shoot(self):
        self.number += 1
        key = self.number & 0xFFFF
        self.open[key] = clock()
        try:
            self.socket.sendto(self._packet(key), self.address)
        except OSError as error:
            self.done(key, None, error.strerror or str(error))

    def _packet(self, key):
        head = struct.pack("!BBHHH", 128 if self.six else 8, 0, 0, os.getpid() & 0xFFFF, key)
        total = 0 if self.six else checksum(head + self.token)  # of ICMPv6 the kernel makes it
        return head[:2] + struct.pack("!H", total) + head[4:] + self.token

    def ready(self, one, events):
        now = clock()
        while True:
            try:
                packet = one.recv(READ)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue  # what the network says of an earlier request; it runs into its timeout
            if self.raw and not self.six and packet:
                packet = packet[(packet[0] & 15) * 4 :]
            if len(packet) < 8 or packet[0] != (129 if self.six else 0) or packet[8:16] != self.token:
                continue
            key = struct.unpack("!H", packet[6:8])[0]
            if key in self.open:
                self.done(key, now - self.open[key])


def checksum(data):
    """RFC 1071."""
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def contains(wanted):
    return lambda answer: True if answer and wanted in answer else None


def has_status(wanted):
    def enough(answer):
        line = answer.split(b"\r\n", 1)
        words = line[0].split(b" ", 2)
        if len(line) < 2:
            return None
        if not words[0].startswith(b"HTTP/") or len(words) < 2 or not words[1].isdigit():
            return "the answer is not HTTP"
        status = words[1].decode("ascii")
        good = status == wanted if wanted else int(status) < 400
        return True if good else "the status is %s" % status

    return enough


def requests_of(request, selector, tell):
    """The kind of requests asked for. Raises OSError when the address cannot be resolved."""
    kind, timeout = request["type"], request["timeout_ms"] / 1000.0
    way = socket.SOCK_RAW if kind == "icmp" else socket.SOCK_STREAM
    found = socket.getaddrinfo(request["address"], request["port"], type=way)[0]
    target = (found[0], found[4])
    if kind == "icmp":
        return Echoes(selector, timeout, tell, target)
    payload, enough = request["send"], None
    if kind == "http":
        host = request["host"] if ":" not in request["host"] else "[%s]" % request["host"]
        payload = "GET %s HTTP/1.0\r\nHost: %s\r\nConnection: close\r\n\r\n" % (request["path"], host)
        enough = has_status(request["expect"])
    elif payload is not None or request["expect"] is not None:
        enough = contains((request["expect"] or "").encode("utf-8"))
    return Streams(selector, timeout, tell, target, payload.encode("utf-8") if payload else None, enough)


def beat(request, orders, say):
    """Ask until told to end. orders: descriptor of the orders; say(value) writes one line."""
    selector = selectors.DefaultSelector()
    requests = requests_of(request, selector, lambda sent, took, why: say([sent, took, why]))
    selector.register(orders, selectors.EVENT_READ, None)
    interval, sent, ending = request["interval_ms"] / 1000.0, 0, False
    due = clock()
    say({"ready": due})
    while not ending or requests.open:
        now = clock()
        if not ending and now >= due:
            requests.shoot()
            sent += 1
            # A beat that was missed is not made up for: two requests at once would tell nothing more.
            due += interval * max(1, int((now - due) / interval) + 1)
            ending = sent >= MOST_REQUESTS
        requests.expire(now)
        waits = [end for end in (requests.next_end(), None if ending else due) if end is not None]
        for key, events in selector.select(max(min(waits) - clock(), 0) if waits else 0):
            if key.data is not None:
                key.data.ready(key.fileobj, events)
                continue
            order = os.read(orders, 64)
            if not order:
                return  # nobody listens any more
            if b"c" in order:
                say({"clock": clock()})
            ending = ending or b"e" in order
    say({"end": clock()})


def serve(request, orders):
    """Serve one request; answers go to standard output. orders: descriptor of the orders."""

    def say(value):
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()

    try:
        beat(request, orders, say)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError as error:
        say({"error": error.strerror or str(error)})


def main():
    stream = sys.stdin.buffer
    serve(json.loads(stream.readline()), stream.fileno())
