"""What a machine is: pure values, nothing is touched here."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kvmlab.cache import read_list
from kvmlab.errors import LabError
from kvmlab.paths import LAB_DIR
from kvmlab.shape import NETWORK, RELEASES, Host

FIRST, LAST = 51, 99
NETWORKS = ("networkd", "ifupdown")
TABLES = ("gpt", "mbr")
FIRMWARES = ("bios", "uefi")
# lvm: as an installer would do it today. The others are those of tests/lab/machine/plain.
LAYOUTS = ("lvm", "ext4", "xfs", "btrfs")
MAX_NICS = 8
MAX_DISKS = 4
# The first slot that no other device of the machine takes; Linux names the card after it.
FIRST_SLOT = 16
LISTS = LAB_DIR / "machine-lists"


@dataclass(frozen=True)
class Image:
    """What a machine's disk begins as: everything that is decided when it is built."""

    release: str = "bookworm"
    packages: tuple[str, ...] = ()
    network: str = "networkd"
    table: str = "gpt"
    firmware: str = "bios"
    disk_gib: int = 8
    layout: str = "lvm"

    @property
    def common(self) -> list[str]:
        """What every machine of the release has."""
        lists = ("bare-packages.txt", "machine-packages.txt")
        return [name for path in lists for name in read_list(LAB_DIR / path, self.release)]

    @property
    def special(self) -> list[str]:
        """What this one has on top of it."""
        names = ["grub-efi-amd64", "dosfstools"] if self.firmware == "uefi" else []
        names += ["ifupdown"] if self.network == "ifupdown" else []
        return list(dict.fromkeys([*names, *self.packages]))


@dataclass(frozen=True)
class Machine:
    """One machine: its name, address, image and hardware."""

    name: str
    address: str
    image: Image
    memory_mib: int = 1024
    cpus: int = 2
    nics: int = 1
    # Those behind the first one are empty.
    disks: int = 1

    @property
    def release(self) -> str:
        """Its Debian release."""
        return self.image.release

    @property
    def host(self) -> Host:
        """The machine as a host among others."""
        return Host(self.name, self.release, self.address)

    def mac(self, nic: int) -> str:
        """Hardware address of a card."""
        return f"02:4b:56:00:{nic:02x}:{int(self.address.rpartition('.')[2]):02x}"

    def port(self, nic: int) -> str:
        """Name of the switch's port that a card is plugged in to."""
        return self.name if nic == 0 else f"{self.name}.{nic}"

    def interface(self, nic: int) -> str:
        """What Linux calls the card in the machine."""
        return f"enp0s{FIRST_SLOT + nic}"


def check_image(image: Image) -> Image:
    """LabError unless such an image can be built."""
    if image.release not in RELEASES:
        raise LabError(f"--os {image.release!r}: unknown release", f"known: {', '.join(RELEASES)}")
    if image.table == "mbr" and image.firmware == "uefi":
        raise LabError("--table mbr --firmware uefi: UEFI boots from GPT here", "leave one of them out")
    if not 4 <= image.disk_gib <= 128:
        raise LabError(f"--disk-gib {image.disk_gib}: between 4 and 128")
    if image.layout != "lvm" and (image.firmware, image.table) != ("bios", "mbr"):
        raise LabError(f"--layout {image.layout}: boots by BIOS from MBR", "add --table mbr, without --firmware")
    wrong = [name for name in image.packages if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", name)]
    if wrong:
        raise LabError(f"--packages: {', '.join(map(repr, wrong))} cannot be the name of a package")
    return image


def check_machine(machine: Machine) -> Machine:
    """LabError unless such a machine can be started."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,11}", machine.name):
        raise LabError(f"machine {machine.name!r}: lower-case letters, digits and '-', at most 12, a letter first")
    if not 256 <= machine.memory_mib <= 8192:
        raise LabError(f"--memory-mib {machine.memory_mib}: between 256 and 8192")
    if not 1 <= machine.cpus <= 4:
        raise LabError(f"--cpus {machine.cpus}: between 1 and 4")
    if not 1 <= machine.nics <= MAX_NICS:
        raise LabError(f"--nics {machine.nics}: between 1 and {MAX_NICS}")
    if not 1 <= machine.disks <= MAX_DISKS:
        raise LabError(f"--disks {machine.disks}: between 1 and {MAX_DISKS}")
    check_image(machine.image)
    return machine


def free_address(taken: Iterable[str]) -> str:
    """The first address that no machine of the lab has."""
    used = set(taken)
    for number in range(FIRST, LAST + 1):
        if f"{NETWORK}.{number}" not in used:
            return f"{NETWORK}.{number}"
    raise LabError(f"all {LAST - FIRST + 1} addresses for machines are taken", "remove a machine first")


def read_packages(given: str, release: str) -> tuple[str, ...]:
    """Packages named one by one, or by lists: files, or those in tests/lab/machine-lists."""
    names: list[str] = []
    for word in given.split(","):
        word = word.strip()
        path = Path(word) if "/" in word else LISTS / f"{word}.txt"
        if path.is_file():
            names += read_list(path, release)
        elif "/" in word:
            raise LabError(f"--packages {word}: there is no such file")
        elif word:
            names.append(word)
    return tuple(sorted(set(names)))
