# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ask for files on this host or another: look, hash, send, publish, remove. See host/far_side.py."""

from __future__ import annotations

import inspect
import json
from typing import Any, Callable, Dict, Mapping, Sequence

from ansible_collections.kvmops.fleet.plugins.module_utils.host import far_side
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import HERE, Place, output_of, pipe_to
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.image import ImageFacts

# The far end reads this many bytes of program text from standard input, then runs it on what follows.
_BOOTSTRAP = "import sys;b=sys.stdin.buffer;exec(compile(b.read(int(b.readline())),'far_side','exec'));main()"
# The words after the program are for the ssh gate of the role host_base; Python itself does not look at them.
_FAR_SIDE = ("python3", "-c", _BOOTSTRAP, "kvmops-far-side", str(far_side.PROTOCOL))
_LOCAL: Dict[str, Callable[..., Any]] = {
    act.__name__: act for act in (far_side.look, far_side.digest, far_side.publish, far_side.remove)
}


def look(place: Place, paths: Sequence[str]) -> Mapping[str, ImageFacts]:
    """What is at each path there. One round trip for all."""
    if not paths:
        return {}
    seen = _ask(place, "look", "look at %s" % ", ".join(paths), paths=sorted(set(paths)))
    return {path: ImageFacts(path=path, **facts) for path, facts in seen.items()}


def digest(place: Place, path: str) -> str:
    """SHA-256, in hex, of what is really on the medium there."""
    return _ask(place, "digest", "hash %s" % path, path=path)


def publish(place: Place, temporary: str, path: str, mode: int = 0o600, owner: int = 0, group: int = 0) -> None:
    """Turn a finished temporary file into `path`, durably. Never overwrites."""
    act = "publish %s" % path
    _ask(place, "publish", act, temporary=temporary, path=path, mode=mode, owner=owner, group=group)


def remove(place: Place, path: str) -> None:
    """Remove a file there; a missing one is fine."""
    _ask(place, "remove", "remove %s" % path, path=path)


def send(place: Place, path: str, temporary: str, on_bytes: Callable[[int], None]) -> int:
    """Copy the local file `path` into a new file `temporary` there, holes kept. Gives the bytes of data sent.

    on_bytes is called with the size of every piece sent. Raises HostError; the partial file is gone then.
    """
    head = _program() + _request("receive", path=temporary)

    def feed(write: Callable[[bytes], Any]) -> int:
        write(head)

        def counted(piece: bytes) -> None:
            write(piece)
            on_bytes(len(piece))

        return far_side.send(path, counted)

    sent, answer = pipe_to(_FAR_SIDE, place, feed, "copy %s to %s" % (path, temporary))
    _unwrap(answer, place, "copy %s to %s" % (path, temporary))
    return sent


def _program() -> bytes:
    text = inspect.getsource(far_side).encode("utf-8")
    return b"%d\n%s" % (len(text), text)


def _request(act: str, **arguments: Any) -> bytes:
    return json.dumps({"do": act, "with": arguments}).encode("utf-8") + b"\n"


def _ask(place: Place, act: str, attempted: str, **arguments: Any) -> Any:
    if place is HERE:
        try:
            return _LOCAL[act](**arguments)
        except OSError as error:
            raise HostError(attempted, place.name, str(error)) from error
    answer = output_of(
        _FAR_SIDE,
        place,
        stdin=_program() + _request(act, **arguments),
        attempted=attempted,
        remedy="Check that root may log in there over ssh without a question.",
    )
    return _unwrap(answer, place, attempted)


def _unwrap(answer: str, place: Place, attempted: str) -> Any:
    lines = answer.strip().splitlines()
    told = json.loads(lines[-1]) if lines else {"error": "no answer"}
    if "error" in told:
        raise HostError(attempted, place.name, told["error"])
    return told["answer"]
