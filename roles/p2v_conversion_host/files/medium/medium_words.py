# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a boot medium of virt-p2v says: its kernel's command line, its menu, its key's line. No I/O here.

`wanted` is a dict, one medium: name, server, port, account, delivery (folder on the conversion host), disks (list), network (of
libvirt), ip (of initramfs-tools), from (list of addresses), valid_days, after, after_failure, kernel_args.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

HOST_ALIAS = "kvmops-conversion-host"
# virt-p2v needs a shell with a terminal, and ports on the loopback that lead back to its disks.
KEY_OPTIONS = 'restrict,pty,port-forwarding,permitlisten="localhost:*"'
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
TIME = "%Y%m%d%H%M%S"
WORD = r"[^\s\"'\\]+"


def is_name(word: str) -> bool:
    return re.fullmatch(NAME, word) is not None


def problems(wanted: Mapping[str, Any]) -> List[str]:
    """Everything that is wrong with the request, in words."""
    told = []
    if not is_name(wanted["name"]):
        told.append("the name %r must be letters, digits and . _ - only" % wanted["name"])
    if not re.fullmatch(r"[A-Za-z0-9.:_-]+", wanted["server"]):
        told.append("the server %r is no address and no host name" % wanted["server"])
    for disk in wanted["disks"]:
        # A stick that boots is a disk too, and is sda when it is found first.
        if not re.fullmatch(r"/dev/disk/by-(id|path)/[A-Za-z0-9._:+-]+", disk):
            told.append("the disk %r is no name that stays, such as /dev/disk/by-id/ata-ST3000_Z1F0" % disk)
    for key in ("ip", "network"):
        if not re.fullmatch(WORD, wanted[key]):
            told.append("%s %r must be one word" % (key, wanted[key]))
    for word in wanted["kernel_args"]:
        if not re.fullmatch(r"[!-~]+", word) or re.match(r"(p2v[.]|kvmops[.]|boot=|ip=)", word):
            told.append("the kernel argument %r is no word, or has an option of its own here" % word)
    for source in wanted["from"]:
        if not re.fullmatch(r"[0-9A-Fa-f.:/]+", source):
            told.append("%r of from is no address and no network" % source)
    return told


def label(name: str) -> str:
    """The volume's name, by which the medium knows itself: 32 characters of ISO 9660, its own for every machine."""
    return "KVMOPS_P2V_%s" % hashlib.sha256(name.encode()).hexdigest()[:12].upper()


def kernel_words(wanted: Mapping[str, Any]) -> List[str]:
    """The kernel's command line. Raw images, as those can name no other file that would be read in their place. p2v.post is empty, as virt-p2v would else call a poweroff that needs an init."""
    words = ["boot=kvmops-p2v", "raid=noautodetect", "panic=0", "ip=%s" % wanted["ip"]]
    words += ["p2v.server=%s" % wanted["server"], "p2v.port=%d" % wanted["port"], "p2v.username=%s" % wanted["account"]]
    words += ["p2v.identity=file:///kvmops-p2v/id_ed25519", "p2v.name=%s" % wanted["name"], "p2v.post="]
    words += ["p2v.o=local", "p2v.os=%s" % wanted["delivery"], "p2v.of=raw", "p2v.oa=sparse"]
    words += ["p2v.network=%s" % wanted["network"]]
    words += ["p2v.disks=%s" % ",".join(wanted["disks"])] if wanted["disks"] else []
    words += ["kvmops.label=%s" % label(wanted["name"])]
    words += ["kvmops.after=%s" % wanted["after"], "kvmops.after_failure=%s" % wanted["after_failure"]]
    return words + list(wanted["kernel_args"])


def menu(name: str, words: Sequence[str]) -> str:
    """grub.cfg. A serial line is used where there is one; the entry can be edited with e."""
    return "\n".join(
        [
            "insmod serial",
            "serial --unit=0 --speed=115200",
            "terminal_input console serial",
            "terminal_output console serial",
            "set timeout=10",
            'menuentry "Convert this machine: it becomes %s" {' % name,
            "\tlinux /boot/vmlinuz %s" % " ".join(words),
            "\tinitrd /boot/initrd.img",
            "}",
            'menuentry "Convert nothing: the firmware goes on to its next device" {',
            "\texit",
            "}",
            "",
        ]
    )


def key_comment(name: str) -> str:
    return "kvmops-p2v-medium:%s" % name


def key_line(wanted: Mapping[str, Any], public: str, expires: Optional[str]) -> str:
    """The key's line in authorized_keys. expires: YYYYMMDDHHMMSS in the host's time, see sshd(8)."""
    options = [KEY_OPTIONS]
    options += ['from="%s"' % ",".join(wanted["from"])] if wanted["from"] else []
    options += ['expiry-time="%s"' % expires] if expires else []
    kind, body = public.split()[:2]
    return "%s %s %s %s" % (",".join(options), kind, body, key_comment(wanted["name"]))


def keys_with(text: str, name: str, line: Optional[str]) -> str:
    """authorized_keys with that line for the medium, or without any. Lines of others stay as they are, in their order."""
    kept = [one for one in text.splitlines() if one.split()[-1:] != [key_comment(name)]]
    return "".join("%s\n" % one for one in [*kept, *([line] if line else [])])


def let_in(text: str, name: str) -> Tuple[Optional[str], bool]:
    """Until when the key of that medium is let in, and whether it is listed at all."""
    listed = [line for line in text.splitlines() if line.split()[-1:] == [key_comment(name)]]
    until = re.search(r'expiry-time="(\d+)"', listed[0]) if listed else None
    return until.group(1) if until else None, bool(listed)


def expiry(born: str, days: int) -> Optional[str]:
    """born: as TIME. None for ever, when there are 0 days."""
    return (datetime.datetime.strptime(born, TIME) + datetime.timedelta(days=days)).strftime(TIME) if days else None


def known_hosts(public_keys: Sequence[str]) -> str:
    """All host keys of the conversion host, under the name that the medium's ssh asks for."""
    return "".join("%s %s\n" % (HOST_ALIAS, " ".join(key.split()[:2])) for key in sorted(public_keys))


def ssh_wrapper(tool: str) -> str:
    """virt-p2v says StrictHostKeyChecking=no; ssh takes what it is told first."""
    options = {
        "StrictHostKeyChecking": "yes", "UserKnownHostsFile": "/kvmops-p2v/known_hosts", "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": HOST_ALIAS, "CheckHostIP": "no", "UpdateHostKeys": "no", "BatchMode": "yes", "IdentitiesOnly": "yes",
    }  # fmt: skip
    words = " ".join("-o %s=%s" % pair for pair in options.items())
    return '#!/bin/sh\nexec %s -F none %s "$@"\n' % (tool, words)


def fingerprint(*parts: Any) -> str:
    """Of all that a medium is made of: the same when nothing has changed."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def steps(
    record: Optional[Mapping[str, Any]], made_of: str, expires: Optional[str], now: str, has: Mapping[str, bool]
) -> Dict[str, bool]:
    """What is to be done. record: of the medium that is there. expires: its key, as TIME. has: key, files (those of the record), line."""
    new_key = not record or not has["key"] or bool(expires and expires <= now)
    medium = new_key or not record or record["made_of"] != made_of or not has["files"]
    return {"key": new_key, "medium": medium, "authorize": new_key or not has["line"]}
