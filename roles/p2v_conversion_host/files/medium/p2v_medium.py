#!/usr/bin/python3
# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes boot media of virt-p2v on the conversion host, and takes them back.

    p2v_medium.py build  [--check] < medium.json     one medium, see medium_words; besides kernel, a release, or empty for the newest
    p2v_medium.py remove [--check] NAME              its key is no longer let in, its files are gone
    p2v_medium.py status                             every medium, and what has been delivered

Answers with JSON. Fails with a sentence on stderr. Run as root.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import shutil
import sys
import tempfile
from typing import Any, Dict, Iterator, List, Optional

import medium_parts as parts
import medium_words as words

FORMAT = 1
MEDIA = pathlib.Path("/var/lib/kvmops-p2v-media")
KEYS = pathlib.Path("/etc/ssh/kvmops-p2v.authorized_keys")
KEY = "id_ed25519"
RECORD = "record.json"


def main(argv: List[str]) -> Dict[str, Any]:
    check = "--check" in argv
    order = [word for word in argv if word != "--check"]
    os.umask(0o077)
    if order == ["status"]:
        return {"media": status()}
    if order == ["build"]:
        with one_at_a_time(check):
            return build(json.load(sys.stdin), check)
    if len(order) == 2 and order[0] == "remove":
        with one_at_a_time(check):
            return remove(order[1], check)
    raise parts.PartError((__doc__ or "").strip())


@contextlib.contextmanager
def one_at_a_time(check: bool) -> Iterator[None]:
    """A check leaves nothing behind, not even the lock's file."""
    with open(os.devnull if check else "/run/lock/kvmops-p2v-medium", "w") as file:
        if not check:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(wanted: Dict[str, Any], check: bool) -> Dict[str, Any]:
    told = words.problems(wanted) + parts.missing_tools()
    if told:
        said = "; ".join(told)
        raise parts.PartError("The boot medium of %s was not built, nothing was changed: %s" % (wanted["name"], said))
    kernel = parts.kernel(wanted["kernel"])
    base_of, hosts = parts.fingerprint(kernel), words.known_hosts(parts.host_keys())
    text = words.kernel_words(wanted)
    made_of = words.fingerprint(FORMAT, base_of, text, words.menu(wanted["name"], text), hosts)
    folder = MEDIA / wanted["name"]
    record = read_record(folder)
    # From where and until when the key is let in is no part of the medium: the key stays the same.
    expires = words.expiry(record["born"], wanted["valid_days"]) if record else None
    line = key_line(folder, wanted, expires) if has_key(folder, record) else None
    let_in = line in keys().splitlines() and os.path.isdir(wanted["delivery"])
    has = {"key": line is not None, "files": whole(folder, record), "line": let_in}
    due = words.steps(record, made_of, expires, now(), has)
    done = [said for key, said in SAID.items() if due[key]]
    if check or not done:
        return {"changed": bool(done), "steps": done, "medium": None if check and due["medium"] else about(folder)}
    if due["medium"]:
        medium = {"base": base_of, "made_of": made_of, "hosts": hosts, "words": text}
        record = make(folder, wanted, kernel, medium, None if due["key"] else record)
    parts.delivery_folder(pathlib.Path(wanted["delivery"]), wanted["account"])
    write_keys(wanted["name"], key_line(folder, wanted, words.expiry((record or {})["born"], wanted["valid_days"])))
    return {"changed": True, "steps": done, "medium": about(folder)}


SAID = {
    "key": "make a key",
    "medium": "build the medium",
    "authorize": "let the key in",
}


def make(
    folder: pathlib.Path, wanted: Dict[str, Any], kernel: str, text: Dict[str, Any], old: Optional[Dict[str, Any]]
) -> Dict[str, Any]:
    """The medium, under a temporary name until all of it has been verified; its record. old: that of the key that is kept."""
    base = parts.base(kernel, text["base"])
    MEDIA.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".%s." % wanted["name"], dir=str(MEDIA)) as scratch:
        new = pathlib.Path(scratch) / "new"
        new.mkdir()
        if old:
            for name in (KEY, KEY + ".pub"):
                shutil.copy(str(folder / name), str(new / name))
        else:
            parts.make_key(new / KEY, words.key_comment(wanted["name"]))
        secret = {KEY: (new / KEY).read_text(), "known_hosts": text["hosts"]}
        programs = {tool: words.ssh_wrapper("/usr/bin/" + tool) for tool in ("ssh", "scp")}
        parts.initrd(base, secret, programs, new / "initrd.img")
        shutil.copy(kernel, str(new / "vmlinuz"))
        (new / "cmdline").write_text(" ".join(text["words"]) + "\n")
        menu = words.menu(wanted["name"], text["words"])
        parts.iso(new, menu, words.label(wanted["name"]), "%s.iso" % wanted["name"])
        record = {
            "name": wanted["name"], "delivery": wanted["delivery"], "made_of": text["made_of"], "born": old["born"] if old else now(),
            "files": {path.name: parts.sha256(path) for path in sorted(new.iterdir())},
        }  # fmt: skip
        (new / RECORD).write_text(json.dumps(record, indent=1) + "\n")
        parts.put_in_place(new, folder)
    return record


def remove(name: str, check: bool) -> Dict[str, Any]:
    """First the key: a medium that cannot be found any more is of no use to anybody."""
    if not words.is_name(name):
        raise parts.PartError("Nothing was removed: %r is no name of a medium" % name)
    folder = MEDIA / name
    listed = words.keys_with(keys(), name, None) != keys()
    done = [said for said, due in (("let the key in no longer", listed), ("remove the medium", folder.exists())) if due]
    if done and not check:
        write_keys(name, None)
        if folder.exists():
            shutil.rmtree(str(folder))
    return {"changed": bool(done), "steps": done, "medium": None}


def status() -> List[Dict[str, Any]]:
    names = sorted(path.name for path in MEDIA.glob("[!.]*")) if MEDIA.exists() else []
    return [told for told in (about(MEDIA / name) for name in names) if told]


def about(folder: pathlib.Path) -> Optional[Dict[str, Any]]:
    """What a user is shown of a medium. No secret: where it lies, until when its key is let in, what has been delivered."""
    record = read_record(folder)
    if not record:
        return None
    iso = folder / ("%s.iso" % record["name"])
    expires, listed = words.let_in(keys(), record["name"])
    return {
        "name": record["name"], "iso": str(iso), "bytes": iso.stat().st_size, "sha256": record["files"][iso.name],
        "pxe": [str(folder / name) for name in ("vmlinuz", "initrd.img", "cmdline")],
        "expires": expires, "key_is_in": listed and not (expires and expires <= now()),
        "delivered": parts.delivered(pathlib.Path(record["delivery"]), record["name"]),
    }  # fmt: skip


def read_record(folder: pathlib.Path) -> Optional[Dict[str, Any]]:
    try:
        record: Dict[str, Any] = json.loads((folder / RECORD).read_text())
    except FileNotFoundError:
        return None
    return record


def has_key(folder: pathlib.Path, record: Optional[Dict[str, Any]]) -> bool:
    """Whether the key is there, and is the one that was made."""
    return bool(record) and all(same(folder, record or {}, name) for name in (KEY, KEY + ".pub"))


def whole(folder: pathlib.Path, record: Optional[Dict[str, Any]]) -> bool:
    return bool(record) and all(same(folder, record or {}, name) for name in (record or {})["files"])


def same(folder: pathlib.Path, record: Dict[str, Any], name: str) -> bool:
    path = folder / name
    return path.is_file() and path.stat().st_mode & 0o077 == 0 and parts.sha256(path) == record["files"][name]


def key_line(folder: pathlib.Path, wanted: Dict[str, Any], expires: Optional[str]) -> str:
    return words.key_line(wanted, (folder / (KEY + ".pub")).read_text(), expires)


def keys() -> str:
    return KEYS.read_text() if KEYS.exists() else ""


def write_keys(name: str, line: Optional[str]) -> None:
    """sshd reads it as the account, which may not write it."""
    parts.write(KEYS, words.keys_with(keys(), name, line), 0o644)


def now() -> str:
    """As sshd compares expiry-time: the host's own time."""
    return datetime.datetime.now().strftime(words.TIME)


if __name__ == "__main__":
    try:
        print(json.dumps(main(sys.argv[1:])))
    except parts.PartError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
