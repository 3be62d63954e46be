# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The forced command of a run's key: joins the connection to the socket of the run. Never anything else.

sshd starts this, with the socket's path. What the other side asked for is not looked at. Standard library only.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

AT_ONCE = 256 * 1024


def carry(receive, send, end):
    """Until the end of the one side, which is told to the other. A side that is gone is an end too."""
    try:
        while True:
            part = receive()
            if not part:
                break
            send(part)
    except OSError:
        pass
    try:
        end()
    except OSError:
        pass


def write_all(part):
    left = memoryview(part)
    while left:
        left = left[os.write(1, left) :]


def main():
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        stream.connect(sys.argv[1])
    except OSError as error:
        raise SystemExit("No run waits for this connection: %s" % error)
    inward = threading.Thread(
        target=carry, args=(lambda: os.read(0, AT_ONCE), stream.sendall, lambda: stream.shutdown(socket.SHUT_WR))
    )
    inward.daemon = True
    inward.start()
    carry(lambda: stream.recv(AT_ONCE), write_all, lambda: os.close(1))


if __name__ == "__main__":
    main()
