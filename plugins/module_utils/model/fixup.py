# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A copied system that is to boot as a guest: what is found in it, what is wanted of it, what has to be changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, Mapping, Optional, Tuple

WRITE, REMOVE, COPY, LINK, RUN, INSTALL = "write", "remove", "copy", "link", "run", "install"
KINDS = (WRITE, REMOVE, COPY, LINK, RUN, INSTALL)


@dataclass(frozen=True)
class Card:
    """A network card of the physical machine. mac: the one that it was made with."""

    name: str
    mac: str
    addresses: Tuple[str, ...] = ()
    up: bool = False


@dataclass(frozen=True)
class Kernel:
    """One kernel of the image. modules: all it has, by name, built in or not. initramfs: None when none was found.

    loaded: names of the modules in its initramfs; None when that could not be read.
    """

    version: str
    modules: FrozenSet[str] = frozenset()
    built_in: FrozenSet[str] = frozenset()
    initramfs: Optional[str] = None
    loaded: Optional[FrozenSet[str]] = None


@dataclass(frozen=True)
class ImageFacts:
    """What a look into the image shows. All paths are the image's own.

    devices: as the source called them ("/dev/sda2") -> {"uuid", "type"} of what is on them. left_out: disks of the source
    that are not among the images ("sdb"). unmounted: what fstab has, and could not be mounted. files: the texts that
    decisions need. paths: which of the asked paths exist. enabled: services that start at boot; masked: units of systemd
    that must not. by_id: other names of disks
    ("/dev/disk/by-id/ata-X") -> "/dev/sda". systemd: its version, 0 when it has none. esp: files of the EFI partition, by
    path ("/boot/efi/EFI/debian/grubx64.efi"). firmware: bios or uefi, of the source. rescue: the names of the cards are
    those that another system gave them.
    """

    distribution: str = ""
    version: str = ""
    architecture: str = "x86_64"
    systemd: int = 0
    firmware: str = "bios"
    devices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    by_id: Mapping[str, str] = field(default_factory=dict)
    left_out: Tuple[str, ...] = ()
    unmounted: Tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    paths: FrozenSet[str] = frozenset()
    kernels: Tuple[Kernel, ...] = ()
    enabled: FrozenSet[str] = frozenset()
    masked: FrozenSet[str] = frozenset()
    esp: Tuple[str, ...] = ()
    cards: Tuple[Card, ...] = ()
    rescue: bool = False


@dataclass(frozen=True)
class FixupWish:
    """services_off: names in addition to those that we know of. keep_services: names that stay as they are.

    guest_agent: it is there and starts. guest_agent_packages: files of this host that it is installed of where it is missing.
    """

    serial_console: bool = False
    services_off: Tuple[str, ...] = ()
    keep_services: Tuple[str, ...] = ()
    guest_agent: bool = False
    guest_agent_packages: Tuple[str, ...] = ()
    timeout_s: float = 900.0

    def as_dict(self) -> Dict[str, Any]:
        """By which an earlier fix-up is known to be of the same wish."""
        told: Dict[str, Any] = {
            "serial_console": self.serial_console,
            "services_off": sorted(self.services_off),
            "keep_services": sorted(self.keep_services),
        }
        # Not in the records of a time that did not know it.
        return dict(told, guest_agent=sorted(self.guest_agent_packages)) if self.guest_agent else told


@dataclass(frozen=True)
class Change:
    """One change of the image, in words and for the hand that makes it.

    write: path, content; its mode and owner stay, a new file is 0644. remove: path. copy: path from source. link: path to
    source. run: argv, within the image, without a network. install: the same, with files of this host behind it.
    """

    kind: str
    words: str
    path: str = ""
    content: str = ""
    source: str = ""
    argv: Tuple[str, ...] = ()
    files: Tuple[str, ...] = ()
