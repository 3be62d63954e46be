# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Starts the agent of a hot P2V on its source once the module waits for it, with a key that only this run has."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import DIAL, START, run_id
from ansible_collections.kvmops.fleet.plugins.module_utils.model.progress import is_of_a_living_run
from ansible_collections.kvmops.fleet.plugins.plugin_utils import p2v_bundle

# The module says so in its progress, in the phase in which it waits.
WAITING = "wait"
# The question itself waits, up to half a second: a wait of our own would come on top.
ASK_EVERY_S = 0.05
# Before LOOK: until the file says that the module waits, or for half a second.
SOON = "for i in 1 2 3 4 5 6 7 8 9 10; do { read -r t <%s; } 2>/dev/null; case $t in *'\"wait\"'*) break;; esac; sleep 0.05; done; "
HOST_KEYS = "cat /etc/ssh/ssh_host_*_key.pub"


class Receiver(NamedTuple):
    """Where the agent dials to. host_keys: of its sshd, as the lines of its .pub files."""

    address: str
    port: int
    host_keys: Sequence[str]

    @property
    def known_hosts(self) -> str:
        where = self.address if self.port == 22 else "[%s]:%d" % (self.address, self.port)
        return "".join(
            "%s %s\n" % (where, " ".join(line.split()[:2])) for line in self.host_keys if len(line.split()) > 1
        )


def new_key() -> Dict[str, str]:
    """{private, public}: an Ed25519 pair in the formats of OpenSSH. It is never on a disk."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    pair = Ed25519PrivateKey.generate()
    private = pair.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = pair.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return {"private": private.decode("ascii"), "public": public.decode("ascii")}


def settings(key: Dict[str, str], receiver: Receiver, connections: int, disks: Sequence[str]) -> Dict[str, Any]:
    """For `main` of the agent. The user's own configuration of ssh is left out: it may log, ask or multiplex."""
    options = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": "{folder}/known_hosts",
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "ConnectTimeout": "15",
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "6",
        "Compression": "no",
        "LogLevel": "ERROR",
    }
    dial = ["ssh", "-T", "-a", "-x", "-F", "/dev/null", "-i", "{folder}/key", "-p", str(receiver.port)]
    for name, value in options.items():
        dial += ["-o", "%s=%s" % (name, value)]
    told: Dict[str, Any] = {
        "run": run_id(key["public"]),
        "dial": [*dial, "root@" + receiver.address.replace("{", "").replace("}", ""), "kvmops-p2v"],
        "connections": connections,
        # Only to find out by which of its addresses the source goes there.
        "receiver": [receiver.address, receiver.port],
        "files": {"key": key["private"], "known_hosts": receiver.known_hosts},
    }
    if disks:
        told["disks"] = list(disks)
    return told


def waits(told: str) -> bool:
    """Whether an answer to LOOK is of a living run that waits for its agent."""
    content, dummy, stat = told.partition("\n")
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        written = json.loads(content)
        return is_of_a_living_run(written, stat) and written.get("phase") == WAITING
    return False


class _Ahead:
    """A call that goes on in a thread of its own, which may outlive the task. What it raised is raised by whoever wants its result."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call, self._came = call, None
        self._error: Optional[Exception] = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self._came = self._call()
        except Exception as error:
            self._error = error

    def result(self) -> Any:
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._came


class Starter:
    """look: the answer to LOOK, after a moment. start: the agent, given its bundle; (rc, out, err). failed: tells the module why not.

    prepare and reach are called at once, while the module is on its way: prepare gives the settings, reach opens the connection that
    start will use. said: what the agent, or the way to it, said of its end, if it was a failure.
    """

    def __init__(
        self,
        look: Callable[[], str],
        start: Callable[[bytes], Any],
        failed: Callable[[Dict[str, str]], None],
        prepare: Callable[[], Any],
        reach: Callable[[], Any] = lambda: None,
    ) -> None:
        self._look, self._start, self._failed, self._prepare, self._reach = look, start, failed, prepare, reach
        self._ended = threading.Event()
        self.said: Optional[str] = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Starter:
        self._thread.start()
        return self

    def __exit__(self, *dummy: Any) -> None:
        self._ended.set()
        self._thread.join(30)

    def _run(self) -> None:
        reached, settings = _Ahead(self._reach), _Ahead(self._prepare)
        while not self._ended.wait(ASK_EVERY_S):
            with contextlib.suppress(Exception):
                if waits(self._look()):
                    break
        if not self._ended.is_set():
            self._serve(reached, settings)

    def _serve(self, reached: _Ahead, prepared: _Ahead) -> None:
        settings: Dict[str, Any] = {}
        try:
            settings = prepared.result()
            reached.result()
            # As long as the agent lives. What it says at its end matters to those only who still wait for it.
            told = end_of(*self._start(p2v_bundle.bundle(settings)))
        except Exception as error:
            # Without settings it was not the source that could not be asked.
            told = {"stage": START if settings else "", "said": " ".join(str(error).split())}
        self.said = told.get("said")
        if self.said:
            with contextlib.suppress(Exception):
                # A run that has its agent, or has ended, is not told: nobody would take the note away.
                if not waits(self._look()):
                    return
                self._failed(dict(told, port=str(settings.get("receiver", ("", ""))[1])))


def end_of(rc: int, out: str, err: str) -> Dict[str, str]:
    """Of an agent that was started, or was not: what it said, as far as it was a failure.

    {stage: start, or dial once an agent ran there; said; from: its address towards the receiver, when it knows it}.
    """
    found: List[str] = []
    told = {"stage": START}
    for line in out.splitlines():
        with contextlib.suppress(ValueError, AttributeError):
            status = json.loads(line)
            found.append(str(status.get("said") or ""))
            if status.get("agent"):
                told["stage"] = DIAL
            if status.get("from"):
                told["from"] = str(status["from"])
    said = " ".join(" ".join([*found, err if rc else ""]).split())
    if not said and rc:
        said = "exit %d" % rc
    return dict(told, said=said) if said else told
