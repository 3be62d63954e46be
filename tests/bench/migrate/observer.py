# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs beside the hosts, as a client: a datagram to the guest's worker 100 times a second, and what comes back.

One argument: the guest's address. Until standard input ends; then prints one line of JSON: [moment, units] of each answer.
Moments are time.monotonic(), which all hosts of the lab share; units is the work that the guest had done.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time

PORT, EVERY_S = 7, 0.01
ANSWERS, ENDED = [], threading.Event()


def ask(port, address):
    number, due = 0, time.monotonic()
    while not ENDED.is_set():
        try:
            port.sendto(struct.pack("=Q", number), (address, PORT))
        except OSError:
            pass
        number, due = number + 1, due + EVERY_S
        time.sleep(max(0, due - time.monotonic()))


def listen(port):
    port.settimeout(0.2)
    while not ENDED.is_set():
        try:
            packet = port.recv(256)
        except OSError:
            continue
        if len(packet) == 16:
            ANSWERS.append([round(time.monotonic(), 4), struct.unpack("=QQ", packet)[1]])


def main():
    port = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    port.bind(("", 0))
    threads = [threading.Thread(target=ask, args=(port, sys.argv[1])), threading.Thread(target=listen, args=(port,))]
    for thread in threads:
        thread.start()
    print("reading", flush=True)
    sys.stdin.read()
    ENDED.set()
    for thread in threads:
        thread.join()
    print(json.dumps(ANSWERS))


main()
