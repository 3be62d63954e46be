# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A new disk as a copy of an image of the host: what may be meant, what stands against it, and the step."""

from __future__ import annotations

import re
from typing import Any, Iterator, List, Mapping, Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import ERROR, Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_found import DomainFound
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import Wanted, WantedDisk
from ansible_collections.kvmops.fleet.plugins.module_utils.model.source_image import CHECKSUMS, SourceImage, WantedImage
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Step
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_disks import MIB, default_format, place_of

DIRECTORY_POOLS = ("dir", "fs", "netfs")
_CHECKSUM = re.compile(r"^([a-z0-9]+):([0-9a-f]+)$")


def image_problems(option: str, disk: Mapping[str, Any]) -> Iterator[str]:
    given = disk.get("image")
    if given is None:
        return
    if not given["path"].startswith("/") or ".." in given["path"].split("/"):
        yield "%s.image.path is %r; give an absolute path without '..'" % (option, given["path"])
    if disk["backing"] is not None:
        yield "%s has image and backing; copy an image, or build on one" % option
    if disk["source"] is not None or disk["device"] != "disk":
        yield "%s.image is for a new disk in a pool; leave it out" % option
    if disk["format"] not in (None, "qcow2", "raw"):
        yield "%s.format %s cannot be made from an image; choose qcow2 or raw" % (option, disk["format"])
    told = _CHECKSUM.match((given["checksum"] or "").lower())
    if given["checksum"] is not None and (told is None or CHECKSUMS.get(told.group(1)) != len(told.group(2))):
        yield "%s.image.checksum is %r; give sha256: or sha512: and its digits" % (option, given["checksum"])


def wanted_image(given: Optional[Mapping[str, Any]]) -> Optional[WantedImage]:
    if given is None:
        return None
    return WantedImage(given["path"], given["format"], (given["checksum"] or "").lower() or None)


def needed(disk: WantedDisk, found: DomainFound) -> bool:
    """Whether the image is copied: never over a volume that is there."""
    place = place_of(disk, found.host)
    return disk.image is not None and place.volume is not None and place.source not in found.volumes


def image_concerns(wanted: Wanted, found: DomainFound) -> Iterator[Concern]:
    for index, disk in enumerate(wanted.disks or ()):
        if disk.image is None or not needed(disk, found):
            continue
        option = "disks[%d].image" % index
        pool = found.host.pool(place_of(disk, found.host).pool or "")
        if pool is not None and pool.type not in DIRECTORY_POOLS:
            detail = "%s: pool %s holds no files" % (option, pool.name)
            yield Concern("image-pool", ERROR, detail, "choose a directory pool")
        if found.source_images is None:
            detail = "%s is a file of the host, and %s is another machine" % (option, found.host.facts.hostname)
            yield Concern("image-elsewhere", ERROR, detail, "run the task on that host, with uri qemu:///system")
        else:
            yield from _against(option, disk, found.source_images.get(disk.image.path))


def _against(option: str, disk: WantedDisk, seen: Optional[SourceImage]) -> Iterator[Concern]:
    if seen is None or disk.image is None:
        return
    what = "%s %s" % (option, disk.image.path)
    if seen.refers:
        detail = "%s needs %s" % (what, ", ".join(seen.refers))
        yield Concern("image-incomplete", ERROR, detail, "make one file of it where you trust it (qemu-img convert)")
    elif seen.contains not in (None, disk.image.format):
        detail = "%s begins like %s, and its format is said to be %s" % (what, seen.contains, disk.image.format)
        yield Concern("image-format-differs", ERROR, detail, "give the format that it has")
    elif seen.error:
        detail = "%s cannot be read: %s" % (what, seen.error)
        yield Concern("image-unreadable", ERROR, detail, "fetch it to the host first (ansible.builtin.get_url)")
    elif disk.image.checksum is not None and seen.checksum != disk.image.checksum:
        detail = "%s has the checksum %s" % (what, seen.checksum)
        yield Concern("image-checksum", ERROR, detail, "fetch it anew, or correct the checksum")
    elif disk.size_mib is not None and seen.size > disk.size_mib * MIB:
        least = -(-seen.size // MIB)
        detail = "%s is of %d MiB, more than size_mib %d" % (what, least, disk.size_mib)
        yield Concern("image-larger", ERROR, detail, "give size_mib %d or more" % least)


def image_steps(wanted: Wanted, found: DomainFound) -> List[Step]:
    steps = []
    for disk in wanted.disks or ():
        seen = (found.source_images or {}).get(disk.image.path) if disk.image is not None else None
        if seen is None or not needed(disk, found):
            continue
        place = place_of(disk, found.host)
        size = disk.size_mib * MIB if disk.size_mib is not None else seen.size
        form = default_format(disk)
        words = "copy image %s to new volume %s (%d MiB, %s) in pool %s" % (
            seen.wanted.path,
            place.volume,
            -(-size // MIB),
            form,
            place.pool,
        )
        args = {"image": seen, "path": place.source, "pool": place.pool, "format": form, "capacity_bytes": size}
        steps.append(Step("copy_image", words, args))
    return steps
