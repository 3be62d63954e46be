# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ask for files and notes on this host or another: look, hash, send, publish, remove, note. See host/far_side.py."""

from __future__ import annotations

import inspect
import json
from typing import Any, Callable, ContextManager, Dict, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import far_side, image_source
from ansible_collections.kvmops.fleet.plugins.module_utils.host.commands import HERE, Place, output_of, pipe_to, soon
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.image import ImageFacts

# The far end reads this many bytes of program text from standard input, then runs it on what follows.
_BOOTSTRAP = "import sys;b=sys.stdin.buffer;exec(compile(b.read(int(b.readline())),'far_side','exec'));main()"
# The words after the program are for the ssh gate of the role host_base; Python itself does not look at them.
_FAR_SIDE = ("python3", "-c", _BOOTSTRAP, "kvmops-far-side", str(far_side.PROTOCOL))
_LOCAL: Dict[str, Callable[..., Any]] = {act.__name__: act for act in far_side.SERVED if act is not far_side.receive}


class Sent(NamedTuple):
    """One copy. data: bytes of the image sent now. wire: the same with what the stream needs itself, as handed to ssh.

    kept: bytes that an earlier copy, cut short, had brought already. inode: of the file there, which publishing keeps.
    """

    data: int
    wire: int
    kept: int
    inode: int


def asked_soon(place: Place) -> ContextManager[None]:
    """Inside the block the first question to that host need not wait for ssh: it is under way while other things are done."""
    return soon(_FAR_SIDE, place)


def look(place: Place, paths: Sequence[str]) -> Mapping[str, ImageFacts]:
    """What is at each path there. One round trip for all."""
    if not paths:
        return {}
    return _facts(_ask(place, "look", "look at %s" % ", ".join(paths), paths=sorted(set(paths))))


def survey(
    place: Place, paths: Sequence[str], role: str, uuid: str
) -> Tuple[Mapping[str, ImageFacts], Optional[Dict[str, Any]]]:
    """The same with the note that a move of that guest left there (model/journal.py), and the paths it names."""
    seen = _ask(place, "survey", "look at %s" % ", ".join(paths), paths=sorted(set(paths)), role=role, uuid=uuid)
    return _facts(seen["files"]), seen["note"]


def _facts(seen: Mapping[str, Any]) -> Mapping[str, ImageFacts]:
    return {path: ImageFacts(path=path, **facts) for path, facts in seen.items()}


def note(place: Place, role: str, uuid: str, told: Mapping[str, Any], made: Sequence[str] = ()) -> Dict[str, Any]:
    """Keep a note there, durably. Gives it back, with the inodes of the files `made` just before."""
    return dict(_ask(place, "note", "keep a note of the move", role=role, uuid=uuid, told=dict(told), paths=list(made)))


def forget(place: Place, role: str, uuid: str) -> None:
    """Remove the note there; a missing one is fine."""
    _ask(place, "forget", "remove the note of the move", role=role, uuid=uuid)


def folder(place: Place, path: str, mode: int) -> None:
    """Make a directory there; one that exists is fine."""
    _ask(place, "folder", "make the directory %s" % path, path=path, mode=mode)


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


def send(place: Place, path: str, temporary: str, on_bytes: Callable[[int], None]) -> Sent:
    """Copy the local file `path` into the file `temporary` there, holes kept; go on where an earlier copy was cut short.

    on_bytes is called with the size of every piece handed to ssh. Raises HostError; what came stays there, for the next try.
    """
    attempted = "copy %s to %s" % (path, temporary)
    source = image_source.identity(path)
    have = _ask(place, "received", attempted, path=temporary, source=source)
    head = _program() + _request("receive", path=temporary, source=source)
    wire = [0]

    def feed(write: Callable[[bytes], Any]) -> int:
        write(head)

        def counted(piece: bytes) -> None:
            write(piece)
            wire[0] += len(piece)
            on_bytes(len(piece))

        return image_source.send(path, counted, have)

    sent, answer = pipe_to(_FAR_SIDE, place, feed, attempted)
    made = _unwrap(answer, place, attempted)
    return Sent(sent, wire[0], sum(end - start for start, end in have), int(made["inode"]))


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
