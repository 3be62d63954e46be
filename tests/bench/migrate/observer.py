# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs beside the hosts, as a client: an echo 100 times a second, and a visitor who reads the guest's page over and over.

One argument: the guest's address. Until standard input ends; then prints one line of JSON: [echoes, pages], the moments
(time.monotonic(), which all hosts of the lab share) at which answers came.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
import time

EVERY_S, THINK_S, PATIENCE_S = 0.01, 0.01, 0.25
ECHOES, PAGES, ENDED = [], [], threading.Event()


def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def ask(port, address, mark):
    number, due = 0, time.monotonic()
    while not ENDED.is_set():
        head = struct.pack("!BBHHH", 8, 0, 0, mark, number & 0xFFFF)
        try:
            port.sendto(struct.pack("!BBHHH", 8, 0, checksum(head), mark, number & 0xFFFF), (address, 0))
        except OSError:
            pass
        number, due = number + 1, due + EVERY_S
        time.sleep(max(0, due - time.monotonic()))


def listen(port, mark):
    port.settimeout(0.2)
    while not ENDED.is_set():
        try:
            packet = port.recv(256)
        except OSError:
            continue
        if packet[20] == 0 and struct.unpack("!H", packet[24:26])[0] == mark:
            ECHOES.append(round(time.monotonic(), 4))


def visit(address):
    while not ENDED.wait(THINK_S):
        try:
            with socket.create_connection((address, 80), timeout=PATIENCE_S) as door:
                door.settimeout(PATIENCE_S)
                door.sendall(b"GET / HTTP/1.0\r\n\r\n")
                if b"tick" in door.recv(1024):
                    PAGES.append(round(time.monotonic(), 4))
        except OSError:
            pass


def main():
    address, mark = sys.argv[1], os.getpid() & 0xFFFF
    port = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    threads = [
        threading.Thread(target=ask, args=(port, address, mark)),
        threading.Thread(target=listen, args=(port, mark)),
        threading.Thread(target=visit, args=(address,)),
    ]
    for thread in threads:
        thread.start()
    print("reading", flush=True)
    sys.stdin.read()
    ENDED.set()
    for thread in threads:
        thread.join()
    print(json.dumps([ECHOES, PAGES]))


main()
