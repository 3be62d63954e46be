# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a copied system is, read from its images: the facts that plan/fixup.py decides by. Changes nothing but mounts."""

from __future__ import annotations

import posixpath
import re
from typing import Any, Dict, FrozenSet, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host.image_mounts import mount_all, names_of
from ansible_collections.kvmops.fleet.plugins.module_utils.model.fixup import Card, ImageFacts, Kernel

# Read as text, when they are there and not too big to be what they should be.
FILES = (
    "/etc/fstab",
    "/etc/crypttab",
    "/etc/inittab",
    "/etc/default/grub",
    "/etc/default/grub.d/*",
    "/boot/grub/grub.cfg",
    "/boot/grub/menu.lst",
    "/boot/grub/grub.conf",
    "/boot/grub2/grub.cfg",
    "/boot/grub/grubenv",
    "/boot/grub2/grubenv",
    "/boot/loader/entries/*.conf",
    "/boot/extlinux/extlinux.conf",
    "/boot/efi/EFI/*/grub.cfg",
    "/etc/kernel/cmdline",
    "/etc/initramfs-tools/initramfs.conf",
    "/etc/initramfs-tools/modules",
    "/etc/initramfs-tools/conf.d/*",
    "/etc/dracut.conf.d/*.conf",
    "/etc/udev/rules.d/70-persistent-net.rules",
    "/etc/systemd/network/*",
    "/etc/netplan/*.yaml",
    "/etc/NetworkManager/system-connections/*",
    "/etc/sysconfig/network-scripts/ifcfg-*",
    "/etc/network/interfaces",
    "/etc/mdadm.conf",
    "/etc/mdadm/mdadm.conf",
    "/etc/selinux/config",
    "/usr/lib/systemd/system/qemu-guest-agent.service",
    "/lib/systemd/system/qemu-guest-agent.service",
    "/var/cache/debconf/config.dat",
)
LARGEST_BYTES = 4 * 1024 * 1024
# Whether they exist is all that is asked.
PATHS = (
    "/usr/sbin/update-initramfs",
    "/usr/bin/dracut",
    "/usr/sbin/dracut",
    "/sbin/dracut",
    "/sbin/chkconfig",
    "/usr/sbin/update-rc.d",
    "/usr/lib/systemd/systemd",
    "/lib/systemd/systemd",
    "/usr/sbin/qemu-ga",
    "/usr/bin/qemu-ga",
    "/etc/init.d/qemu-ga",
    "/etc/init.d/qemu-guest-agent",
    "/usr/bin/dpkg",
    "/usr/bin/rpm",
    "/bin/rpm",
    "/usr/share/dracut/modules.d",
    "/etc/lvm/devices/system.devices",
    "/boot/grub/device.map",
    "/boot/grub2/device.map",
)
ENABLED = ("/etc/systemd/system/*.wants/*", "/etc/rc[2345].d/S[0-9][0-9]*")
UNITS = "/etc/systemd/system/"
OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
_SHELLS = ("/bin/sh", "/usr/bin/sh", "/bin/bash")
# Debian's folders, then everybody else's.
_SYSTEMD = tuple(folder + "/systemd/libsystemd-shared-*.so" for folder in ("/usr/lib/*", "/lib/*", "/usr/lib", "/lib"))
_INITRAMFS = ("/boot/initrd.img-%s", "/boot/initramfs-%s.img", "/boot/initrd-%s", "/boot/initrd-%s.img")
_LISTERS = ("/usr/bin/lsinitramfs", "/usr/bin/lsinitrd", "/bin/lsinitrd")


def look(handle: Any, root: str, disks: Sequence[str], machine: Mapping[str, Any], cards: Sequence[Card]) -> ImageFacts:
    """Everything, with the system mounted when it returns. disks: the source's names, in the order of the images.

    machine: what the source told of itself (model/p2v_vm.py machine_of); cards: its cards.
    """
    links = {link: "/dev/" + disk["name"] for disk in machine.get("disks") or () for link in disk.get("by_id") or ()}
    unmounted = mount_all(handle, root, disks, links)
    all_disks = [str(disk["name"]) for disk in machine.get("disks") or ()]
    files = _files(handle)
    release = _release(handle)
    names = _names_in(handle, UNITS)
    units = [path for path in (UNITS + name for name in names) if handle.is_file(path)]
    return ImageFacts(
        distribution=release.get("ID", ""),
        version=release.get("VERSION_ID", ""),
        architecture=_architecture(handle),
        systemd=_systemd(handle),
        firmware=str(machine.get("firmware") or "bios"),
        devices=_devices(handle, disks),
        by_id=links,
        left_out=tuple(name for name in all_disks if name not in disks),
        unmounted=tuple(unmounted),
        files=files,
        paths=frozenset([*(path for path in PATHS if handle.exists(path)), *units]),
        kernels=tuple(_kernels(handle)),
        enabled=frozenset(_enabled(handle)),
        masked=frozenset(name for name in names if _is_masked(handle, UNITS + name)),
        esp=tuple(_esp(handle)),
        cards=tuple(cards),
        rescue=bool(machine.get("rescue")),
    )


def _release(handle: Any) -> Dict[str, str]:
    text = next((_text(handle, path) for path in OS_RELEASE if handle.is_file(path, followsymlinks=True)), "")
    return dict(re.findall(r"^(\w+)=[\"']?(.*?)[\"']?$", text, re.M))


def _architecture(handle: Any) -> str:
    for path in _SHELLS:
        if handle.is_file(path, followsymlinks=True):
            return str(handle.file_architecture(handle.realpath(path)))
    return ""


def _systemd(handle: Any) -> int:
    """Its version, by the name of its library; older ones than 231 have none."""
    for pattern in _SYSTEMD:
        for path in handle.glob_expand(pattern):
            found = re.search(r"shared-(\d+)", path)
            if found:
                return int(found.group(1))
    if any(handle.exists(path) for path in ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")):
        return 1
    return 0


def cards_of(interfaces: Sequence[Mapping[str, Any]]) -> Tuple[Card, ...]:
    """The physical cards of a discovery. Of one that serves a bond or a bridge the address is that one's."""
    found = []
    above = {each["name"]: each for each in interfaces}
    for each in interfaces:
        mac = str(each.get("permanent_mac") or each.get("mac") or "").lower()
        if each.get("kind") != "card" or not re.match(r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$", mac) or not mac.strip("0:"):
            continue
        addresses = each.get("addresses") or (above.get(each.get("master")) or {}).get("addresses") or ()
        found.append(Card(str(each["name"]), mac, tuple(addresses), each.get("state") == "up"))
    return tuple(found)


def _devices(handle: Any, disks: Sequence[str]) -> Dict[str, Dict[str, str]]:
    found = {}
    for device, name in names_of(handle, disks).items():
        kind, uuid = handle.vfs_type(device), handle.vfs_uuid(device)
        if kind or uuid:
            found[name] = {"type": kind, "uuid": uuid}
    return found


def _files(handle: Any) -> Dict[str, str]:
    found = {}
    for pattern in FILES:
        for path in handle.glob_expand(pattern) if "*" in pattern else [pattern]:
            # A link is looked through only within the image: libguestfs sees to that.
            if handle.is_file(path, followsymlinks=True) and handle.filesize(path) <= LARGEST_BYTES:
                found[path] = handle.read_file(path).decode("utf-8", "surrogateescape")
    return found


def _names_in(handle: Any, folder: str) -> List[str]:
    return list(handle.ls(folder)) if handle.is_dir(folder) else []


def _enabled(handle: Any) -> Iterator[str]:
    for pattern in ENABLED:
        for path in handle.glob_expand(pattern):
            name = posixpath.basename(path)
            if not path.startswith(UNITS):
                yield re.sub(r"^S\d\d", "", name)
            elif not _is_masked(handle, UNITS + name):
                yield name


def _is_masked(handle: Any, unit: str) -> bool:
    return bool(handle.is_symlink(unit)) and handle.readlink(unit) == "/dev/null"


def _esp(handle: Any) -> Iterator[str]:
    for point in ("/boot/efi", "/efi", "/boot"):
        # FAT knows no upper and lower case, and keeps what it was given.
        for folder in _names_in(handle, point):
            if folder.lower() == "efi" and handle.is_dir(posixpath.join(point, folder)):
                top = posixpath.join(point, folder)
                for path in handle.find(top):
                    if path.lower().endswith(".efi"):
                        yield posixpath.join(top, path.lstrip("/"))


def _kernels(handle: Any) -> Iterator[Kernel]:
    folder = next((path for path in ("/usr/lib/modules", "/lib/modules") if handle.is_dir(path)), "")
    for version in sorted(_names_in(handle, folder)) if folder else ():
        base = posixpath.join(folder, version)
        if not handle.is_file(posixpath.join(base, "modules.dep")):
            continue
        initramfs = next((path % version for path in _INITRAMFS if handle.is_file(path % version)), None)
        yield Kernel(
            version,
            modules=_modules(_text(handle, posixpath.join(base, "modules.dep"))),
            built_in=_modules(_text(handle, posixpath.join(base, "modules.builtin"))),
            initramfs=initramfs,
            loaded=_loaded(handle, initramfs) if initramfs else None,
        )


def _text(handle: Any, path: str) -> str:
    return handle.read_file(path).decode("utf-8", "replace") if handle.is_file(path, followsymlinks=True) else ""


def _modules(listing: str) -> FrozenSet[str]:
    """Names of the modules among the paths at the beginning of each line: kernel/drivers/virtio/virtio_pci.ko.xz."""
    names = re.findall(r"([^/\s:]+)\.ko(?:\.\w+)?(?=[:\s]|$)", "\n".join(re.findall(r"^\S+", listing, re.M)))
    return frozenset(name.replace("-", "_") for name in names)


def _loaded(handle: Any, initramfs: str) -> Optional[FrozenSet[str]]:
    """What is in the initramfs, told by the system's own tool; None when it has none, or that cannot read it."""
    lister = next((path for path in _LISTERS if handle.is_file(path, followsymlinks=True)), None)
    if lister is None:
        return None
    try:
        told = handle.command([lister, initramfs])
    except RuntimeError:
        return None
    # lsinitrd's lines begin with modes and owners.
    return _modules("\n".join(line.split()[-1] for line in told.splitlines() if ".ko" in line and line.split()))
