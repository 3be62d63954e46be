# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guest that a physical machine becomes: what is wanted of it, what an earlier run has made, where it lies."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.fixup import FixupWish

CONSOLE, AGENT, PORT, AUTO = "console", "agent", "port", "auto"
SIGNS = (AUTO, CONSOLE, AGENT, PORT)
FORMAT = "qcow2"
# What a record says of overlays that are put into their images.
BEGUN, DONE = "begun", "done"
# A record of another number is one that we cannot read: what it speaks of is made anew.
RECORD = 1


@dataclass(frozen=True)
class BootTest:
    """timeout_s: how long the boot may take. wait_for: what shows that it is done; auto takes what the image has.

    port: of TCP, at the guest's own address.
    """

    timeout_s: float = 300.0
    wait_for: str = AUTO
    port: Optional[int] = None


@dataclass(frozen=True)
class Neighbour:
    """Where a probe reaches a guest. mac: of the guest's card; guest: its address; own: the probe's; prefix: its length."""

    mac: str
    guest: str
    own: str
    prefix: int


@dataclass(frozen=True)
class VmWish:
    """fixup: None leaves the copy as it is. domain: the options of kvm_domain that were given, or None.

    final: the source is powered off behind it, so that the image need not stay what the source was.
    """

    name: str
    fixup: Optional[FixupWish] = None
    domain: Optional[Mapping[str, Any]] = None
    boot_test: Optional[BootTest] = None
    final: bool = False

    @property
    def wanted(self) -> bool:
        return self.fixup is not None or self.domain is not None

    @property
    def domain_name(self) -> str:
        return str((self.domain or {}).get("name") or self.name)

    @property
    def starts(self) -> bool:
        return (self.domain or {}).get("state") == "running"


@dataclass(frozen=True)
class VmDisk:
    """An image of the copy, and the overlay over it that the guest gets. name: the source's name of the disk.

    published: the image's marks when it was finished, for a source that was left.
    """

    name: str
    image: str
    format: str
    serial: Optional[str] = None
    published: Optional[Mapping[str, int]] = None

    @property
    def overlay(self) -> str:
        return overlay_of(self.image)

    @property
    def unfinished(self) -> str:
        return hidden(self.overlay, "part")

    @property
    def trial(self) -> str:
        return hidden(self.overlay, "boot-test")


@dataclass(frozen=True)
class VmFound:
    """record: of the last fix-up; None when there is none that can be read. marks: of the files that are there, by path.

    machine: what the source told of itself when it was copied. running: active domains that have an overlay, by path.
    foreign: a domain of the wanted name is there that has none of the overlays. no_packages: package files that are not there.
    """

    disks: Tuple[VmDisk, ...] = ()
    record: Optional[Mapping[str, Any]] = None
    marks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    running: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)
    cannot_open: str = ""
    no_packages: Tuple[str, ...] = ()
    foreign: bool = False


def overlay_of(image: str) -> str:
    return posixpath.splitext(image)[0] + ".vm." + FORMAT


def record_of(folder: str, name: str) -> str:
    return posixpath.join(folder, "%s.vm.json" % name)


def hidden(path: str, word: str) -> str:
    return posixpath.join(posixpath.dirname(path), ".%s.%s" % (posixpath.basename(path), word))


def machine_of(facts: Mapping[str, Any]) -> Dict[str, Any]:
    """What is kept of a discovery beside the images, for the day on which the source cannot be asked any more."""
    return {
        "memory_bytes": facts.get("memory_bytes"),
        "cpus": facts.get("cpus"),
        "root": _root_of(facts),
        "firmware": (facts.get("boot") or {}).get("firmware"),
        "rescue": bool(facts.get("rescue")),
        "disks": [{key: disk.get(key) for key in ("name", "by_id")} for disk in facts.get("disks") or ()],
        "interfaces": [
            {key: each.get(key) for key in ("name", "mac", "permanent_mac", "kind", "state", "master", "addresses")}
            for each in facts.get("interfaces") or ()
        ],
    }


def _root_of(facts: Mapping[str, Any]) -> Dict[str, Any]:
    """By what the filesystem that is mounted as / is known again."""
    name = next((mount.get("device") for mount in facts.get("mounts") or () if mount.get("point") == "/"), None)
    device: Mapping[str, Any] = next(
        (each for each in facts.get("devices") or () if name and each.get("name") == name), {}
    )
    return {"mapping": device.get("mapping"), "uuid": (device.get("signature") or {}).get("uuid")}
