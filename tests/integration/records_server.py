# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server at work: appends numbered records with their hashes, each on the disk before the next, and tells the newest to whoever asks."""

from __future__ import annotations

# For whatever Python an old server has: 2.7, or 3.4 and later. Arguments: file, port. Goes on with the same file after a boot.
# A line is "NUMBER BOOT SHA256". GET / answers "NUMBER BOOT" when a record is on the disk that is newer than the question,
# GET /records gives them all.
RECORDS_SERVER = """\
import hashlib
import os
import sys
import threading
import time

try:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from socketserver import ThreadingMixIn
except ImportError:
    from BaseHTTPServer import BaseHTTPRequestHandler, HTTPServer
    from SocketServer import ThreadingMixIn

PATH, PORT = sys.argv[1], int(sys.argv[2])
with open("/proc/sys/kernel/random/boot_id") as told:
    BOOT = told.read().strip()
WRITTEN = threading.Condition()
newest = 0


def write_for_ever():
    global newest
    kept = os.open(PATH, os.O_RDWR | os.O_CREAT, 0o644)
    text = b""
    while True:
        piece = os.read(kept, 1 << 20)
        if not piece:
            break
        text += piece
    # A record that was cut by a loss of power was never told to anybody.
    whole = text.rfind(b"\\n") + 1
    os.ftruncate(kept, whole)
    os.lseek(kept, whole, os.SEEK_SET)
    newest = text.count(b"\\n")
    while True:
        head = "%d %s" % (newest + 1, BOOT)
        os.write(kept, ("%s %s\\n" % (head, hashlib.sha256(head.encode("ascii")).hexdigest())).encode("ascii"))
        os.fsync(kept)
        with WRITTEN:
            newest += 1
            WRITTEN.notify_all()
        time.sleep(0.1)


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/records":
            with open(PATH, "rb") as records:
                told = records.read()
        else:
            latest = time.time() + 3
            with WRITTEN:
                asked = newest
                while newest == asked and time.time() < latest:
                    WRITTEN.wait(1)
                if newest == asked:
                    # Frozen: those who ask meanwhile must not pile up.
                    return
                told = ("%d %s\\n" % (newest, BOOT)).encode("ascii")
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *dummy):
        pass


class Server(ThreadingMixIn, HTTPServer):
    daemon_threads = True
    request_queue_size = 256


writer = threading.Thread(target=write_for_ever)
writer.daemon = True
writer.start()
Server(("", PORT), Page).serve_forever()
"""
