# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images that were made elsewhere, and disks that are attached to this host: what is asked for, and whether it may be copied."""

from __future__ import annotations

import re
from typing import Any, Collection, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import NONE
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_import import (
    Identity,
    ImportDisk,
    ImportSeen,
)
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_concerns import concern

_DISK = re.compile(r"^[a-z][a-z0-9]*$")
# What nothing but the machine itself tells, and a domain cannot do without.
_OF_THE_MACHINE = ("memory_mib", "vcpus", "firmware", "networks")
_ELSEWHERE = ("disks", "receiver")
_HOT = "hot"


def imports_of(params: Mapping[str, Any]) -> Tuple[ImportDisk, ...]:
    """Of options that were checked."""
    given = params.get("import_from") or ()
    return tuple(ImportDisk(str(each["path"]), str(each["format"]), str(each["disk"])) for each in given)


def import_problems(params: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the request as far as it is about import_from."""
    given = params.get("import_from")
    if given is None:
        if not params.get("source"):
            yield "source is missing; give the inventory name of the physical machine, or import_from with images of its disks"
        return
    if params.get("source"):
        yield "source and import_from are given; choose one"
    if not given:
        yield "import_from is empty; give the machine's disks"
    yield from _disk_problems(given)
    yield from _option_problems(params)
    yield from _domain_problems(params)


def _disk_problems(given: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for index, each in enumerate(given):
        if not str(each["path"]).startswith("/") or "\0" in str(each["path"]):
            yield "import_from[%d].path is %r; give the whole path of a file or block device" % (index, each["path"])
        if not _DISK.match(str(each["disk"])):
            yield "import_from[%d].disk is %r; give the name that the machine had for it, such as sda" % (
                index,
                each["disk"],
            )
    for option in ("path", "disk"):
        words = [str(each[option]) for each in given]
        for word in sorted({word for word in words if words.count(word) > 1}):
            yield "import_from has the %s %s twice; give each disk once" % (option, word)


def _option_problems(params: Mapping[str, Any]) -> Iterator[str]:
    names = [str(each["disk"]) for each in params["import_from"]]
    if params["mode"] == _HOT:
        yield "mode is hot and import_from is given; no machine runs there: choose cold, or gather for a look"
    if params["cutover"] != NONE:
        yield (
            "cutover is %s and import_from is given; there is no machine to leave: leave cutover out"
            % params["cutover"]
        )
    for option in _ELSEWHERE:
        if params.get(option):
            yield "%s is given and import_from too, which names its own disks here: leave %s out" % (option, option)
    for name in params.get("serials") or {}:
        if name not in names:
            yield "serials has %s; import_from has %s" % (name, ", ".join(names) or "none")


def _domain_problems(params: Mapping[str, Any]) -> Iterator[str]:
    domain = params.get("domain")
    if params.get("fixup") and domain is None:
        yield (
            "fixup is given and domain is not; with import_from only domain tells the firmware and the cards that the fix-up "
            "needs. Give domain, or leave fixup out"
        )
    missing = [option for option in _OF_THE_MACHINE if domain is not None and domain.get(option) is None]
    if missing:
        yield (
            "domain lacks %s; an image does not tell them: give them (networks: [] is a guest without cards)"
            % ", ".join(missing)
        )
    if (params.get("boot_test") or {}).get("port") is not None:
        yield "boot_test.port is given; with import_from the guest's address is not known: wait for console or agent"
    for index, nic in enumerate((domain or {}).get("networks") or ()):
        if nic.get("interface") and not nic.get("mac"):
            yield (
                "domain.networks[%d] has interface and no mac; only you can tell the MAC of that card: give it" % index
            )


def machine_told(domain: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    """What the user tells of the machine, as the facts of a discovery."""
    firmware = {"efi": "uefi"}.get(str((domain or {}).get("firmware")), (domain or {}).get("firmware"))
    cards = [
        {"name": nic["interface"], "mac": nic["mac"], "kind": "card", "state": "up", "addresses": []}
        for nic in (domain or {}).get("networks") or ()
        if nic.get("interface")
    ]
    return {"interfaces": cards, "boot": {"firmware": firmware}, "rescue": True}


def import_concerns(
    seen: Sequence[ImportSeen], formats: Collection[str], targets: Mapping[Identity, str]
) -> List[Concern]:
    """Why nothing of it may be read. formats: those that qemu-img knows. targets: files that the run would write to."""
    told: List[Concern] = []
    for each in seen:
        told += _of_one(each, formats)
        told += [
            concern("p2v-import-target", "%s is %s" % (each.wanted.path, targets[identity]))
            for identity in sorted(each.identities)
            if identity in targets
        ]
    for index, each in enumerate(seen):
        for other in seen[:index]:
            if each.identities & other.identities:
                told.append(concern("p2v-import-twice", "%s is %s" % (each.wanted.path, other.wanted.path)))
    return told


def _of_one(seen: ImportSeen, formats: Collection[str]) -> Iterator[Concern]:
    path, wanted = seen.wanted.path, seen.wanted.format
    if wanted not in formats:
        yield concern("p2v-import-no-format", "%s: %s" % (path, wanted))
    if seen.error:
        yield concern("p2v-import-path", "%s: %s" % (path, seen.error))
        return
    if seen.contains not in (None, wanted):
        yield concern("p2v-import-other-format", "%s begins like %s, not %s" % (path, seen.contains, wanted))
    for what in seen.refers:
        yield concern("p2v-import-chain", "%s needs %s" % (path, what))
    for what in seen.busy:
        yield concern("p2v-import-in-use", "%s: %s" % (path, what))
    if seen.domains:
        yield concern("p2v-import-in-use", "%s is a disk of %s, which runs" % (path, ", ".join(seen.domains)))
    if not (seen.size or seen.unreadable or seen.refers or seen.contains not in (None, wanted)):
        yield concern("p2v-import-unreadable", "%s has no bytes" % path)
    if seen.unreadable and wanted in formats:
        yield concern("p2v-import-unreadable", "%s: %s" % (path, seen.unreadable))
