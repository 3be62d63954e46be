# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The option disks[] into WantedDisks, or every reason why it cannot be meant."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Optional
from urllib.parse import urlsplit

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import WantedBacking, WantedDisk
from ansible_collections.kvmops.fleet.plugins.module_utils.model.names import name_problems
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.disk_image import image_problems, wanted_image

PROTOCOLS = ("nfs", "nbd", "iscsi", "http", "https", "ftp", "ftps", "ssh")
_FLAT = (
    "pool",
    "name",
    "path",
    "source",
    "format",
    "size_mib",
    "device",
    "bus",
    "target",
    "readonly",
    "shareable",
    "cache",
    "discard",
    "serial",
)
_LARGEST_MIB = 2**63 // 1024**2 - 1


def wanted_disk(disk: Mapping[str, Any]) -> WantedDisk:
    below = disk["backing"]
    values: Dict[str, Any] = {field: disk[field] for field in _FLAT}
    backing = WantedBacking(below["format"], below["name"], below["path"]) if below is not None else None
    return WantedDisk(backing=backing, image=wanted_image(disk.get("image")), **values)


def disk_problems(disks: List[Mapping[str, Any]]) -> Iterator[str]:
    """Every problem of every disk, each naming the option."""
    targets: List[str] = []
    places: List[str] = []
    for index, disk in enumerate(disks):
        option = "disks[%d]" % index
        yield from _place(option, disk)
        yield from _size(option, disk)
        yield from _backing(option, disk)
        yield from image_problems(option, disk)
        if disk["target"] is not None:
            if disk["target"] in targets:
                yield "%s.target %s is given twice; give each disk its own" % (option, disk["target"])
            if not disk["target"].isalnum():
                yield "%s.target is %r; give a device name such as vda" % (option, disk["target"])
            targets.append(disk["target"])
        if disk["device"] == "cdrom" and disk["readonly"] is False:
            yield "%s.readonly is false, and a CD-ROM is always read-only; leave it out" % option
        place = disk["source"] or disk["path"] or (disk["name"] and "%s/%s" % (disk["pool"], disk["name"]))
        if place in places:
            yield "%s names %s twice; two disks of one domain cannot share an image" % (option, place)
        places += [place] if place else []


def _place(option: str, disk: Mapping[str, Any]) -> Iterator[str]:
    ways = [way for way in ("name", "path", "source") if disk[way] is not None]
    if len(ways) > 1:
        yield "%s has %s; say one way where the data is" % (option, " and ".join(ways))
    nowhere = disk["path"] == "" if ways else disk["pool"] is None
    if nowhere and disk["device"] not in ("cdrom", "floppy"):
        yield "%s says nowhere where its data is; give pool and name, path, or source" % option
    if (disk["pool"] is None) != (disk["name"] is None):
        yield "%s needs both pool and name; complete it" % option
    if disk["name"] is not None:
        yield from name_problems(option + ".name", disk["name"])
    yield from _path(option + ".path", disk["path"])
    if disk["source"] is not None:
        yield from _source(option + ".source", disk["source"])


def _path(option: str, path: Optional[str]) -> Iterator[str]:
    if path and (not path.startswith("/") or ".." in path.split("/")):
        yield "%s is %r; give an absolute path without '..'" % (option, path)


def _source(option: str, source: str) -> Iterator[str]:
    try:
        place = urlsplit(source)
        complete = bool(place.hostname) and (place.port is None or place.port > 0) and len(place.path) > 1
    except ValueError:
        complete = False
    if not complete or place.scheme not in PROTOCOLS:
        yield "%s is %r; give PROTOCOL://HOST[:PORT]/PATH with one of: %s" % (option, source, ", ".join(PROTOCOLS))
    elif place.username or place.password or place.query:
        yield "%s holds a login or a query; leave it out (use xml with a libvirt secret)" % option


def _size(option: str, disk: Mapping[str, Any]) -> Iterator[str]:
    size = disk["size_mib"]
    if size is None:
        return
    if not 1 <= size <= _LARGEST_MIB:
        yield "%s.size_mib is %d; give at least 1" % (option, size)
    if disk["source"] is not None:
        yield "%s has size_mib and source; only volumes of a pool are created" % option
    if disk["device"] not in ("disk", "lun"):
        yield "%s.size_mib is for disks, the device is a %s; leave it out" % (option, disk["device"])
    if disk["format"] not in (None, "qcow2", "raw"):
        yield "%s.format %s cannot be created; choose qcow2 or raw, or give an existing image" % (
            option,
            disk["format"],
        )


def _backing(option: str, disk: Mapping[str, Any]) -> Iterator[str]:
    below = disk["backing"]
    if below is None:
        return
    if (below["name"] is None) == (below["path"] is None):
        yield "%s.backing needs exactly one of name and path" % option
    if below["name"] is not None:
        yield from name_problems(option + ".backing.name", below["name"])
        if disk["pool"] is None:
            yield "%s.backing.name needs %s.pool; or give backing.path" % (option, option)
    yield from _path(option + ".backing.path", below["path"])
    if disk["size_mib"] is None:
        yield "%s.backing is for a new image; give size_mib, or leave backing out" % option
    if disk["format"] == "raw":
        yield "%s.format raw cannot have a backing image; use qcow2" % option
