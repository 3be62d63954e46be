# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ask hosts whether they answer, many times a second, and tell the longest silence of each.

Usage: probe.py REPORT.json ADDRESS…   Ends, and writes its report, on SIGTERM or SIGINT.

Sends one ICMP echo request per address and interval and notes when each answer came. A silence is the time between
two answers that follow each other, less the interval: what a client that asks all the time would have missed.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import sys
import time

INTERVAL_S = 0.02
ECHO_REQUEST, ECHO_REPLY = 8, 0


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def request(identity: int, number: int) -> bytes:
    """One echo request with an 8-byte body."""
    head = struct.pack("!BBHHH", ECHO_REQUEST, 0, 0, identity, number & 0xFFFF)
    body = struct.pack("!Q", number)
    return struct.pack("!BBHHH", ECHO_REQUEST, 0, checksum(head + body), identity, number & 0xFFFF) + body


class Answers:
    """What one address has said. Times are seconds of the monotonic clock."""

    def __init__(self) -> None:
        self.sent = self.answered = 0
        self.last = 0.0
        self.longest_s = 0.0

    def heard(self, now: float) -> None:
        self.answered += 1
        if self.last:
            self.longest_s = max(self.longest_s, now - self.last - INTERVAL_S)
        self.last = now

    def report(self) -> dict[str, float | int]:
        lost = max(self.sent - self.answered, 0)
        return {"sent": self.sent, "lost": lost, "longest_gap_ms": round(self.longest_s * 1000)}


def probe(addresses: list[str], going: list[bool]) -> dict[str, Answers]:
    """Until going[0] is False. Needs the right to open a raw socket."""
    answers = {address: Answers() for address in addresses}
    identity = os.getpid() & 0xFFFF
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as wire:
        wire.setblocking(False)
        number, due = 0, time.monotonic()
        while going[0]:
            for address in addresses:
                answers[address].sent += 1
                try:
                    wire.sendto(request(identity, number), (address, 0))
                except OSError:
                    pass  # no route to it just now: that is a request without an answer
            number, due = number + 1, due + INTERVAL_S
            listen(wire, identity, answers, due)
    return answers


def listen(wire: socket.socket, identity: int, answers: dict[str, Answers], until: float) -> None:
    """Take answers until that moment."""
    while True:
        left = until - time.monotonic()
        if left <= 0 or not select.select([wire], [], [], left)[0]:
            return
        packet, (address, _port) = wire.recvfrom(2048)
        offset = (packet[0] & 0x0F) * 4
        kind, code, _sum, owner = struct.unpack("!BBHH", packet[offset : offset + 6])
        if kind == ECHO_REPLY and code == 0 and owner == identity and address in answers:
            answers[address].heard(time.monotonic())


def main() -> None:
    report, *addresses = sys.argv[1:]
    going = [True]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: going.__setitem__(0, False))
    answers = probe(addresses, going)
    with open(report, "w", encoding="utf-8") as out:
        json.dump({address: told.report() for address, told in answers.items()}, out)


if __name__ == "__main__":
    main()
