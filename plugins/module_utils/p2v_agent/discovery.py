# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What this machine is: the answer to `describe`. Sizes are bytes, times are seconds; what cannot be read is empty."""

from __future__ import absolute_import, division, print_function

import glob
import os
import platform
import re
import time

from ansible_collections.kvmops.fleet.plugins.module_utils.p2v_agent import (
    blocks,
    mounts,
    network,
    processes,
    signatures,
)

__metaclass__ = type

DMI = "/sys/class/dmi/id"
EFI = "/sys/firmware/efi"
# The error of a clock that nobody keeps grows to 16 s and stays there (NTP_PHASE_LIMIT in <linux/timex.h>).
UNSYNCHRONISED_US = 16000000
KEPT_FILES = ("/etc/fstab", "/etc/crypttab", "/etc/mdadm/mdadm.conf", "/etc/mdadm.conf", "/etc/default/grub")


def described(layout):
    """Everything. layout: blocks.Layout."""
    asked = (network.interfaces, network.routes, services, lambda: devices(layout), lambda: disks(layout))
    told = dict(zip(("interfaces", "routes", "services", "devices", "disks"), processes.at_once(asked)))
    return {
        "hostname": platform.node(),
        "os": os_release(blocks.word("/etc/os-release")),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "boot_id": boot_id(),
        "time": time.time(),
        "uptime_s": float((blocks.word("/proc/uptime").split() or ["0"])[0]),
        "clock_synchronised": clock(),
        "cpus": os.sysconf("SC_NPROCESSORS_ONLN"),
        "cpu_model": first(r"^model name\s*: (.*)$", blocks.word("/proc/cpuinfo")),
        "memory_bytes": int(first(r"^MemTotal: +(\d+) kB$", blocks.word("/proc/meminfo")) or 0) * 1024,
        "dmi": dict(
            (name, blocks.word(os.path.join(DMI, name))) for name in ("sys_vendor", "product_name", "product_uuid")
        ),
        "disks": told["disks"],
        "devices": told["devices"],
        "mounts": [mounted(mount) for mount in mounts.mounts()],
        "loops": blocks.loops(),
        "swaps": [dict(swap._asdict()) for swap in mounts.swaps()],
        "interfaces": told["interfaces"],
        "routes": told["routes"],
        "services": told["services"],
        "processes": process_names(),
        "boot": boot(),
        "files": dict((path, blocks.word(path)) for path in KEPT_FILES if os.path.exists(path)),
    }


def first(pattern, text):
    found = re.search(pattern, text, re.M)
    return found.group(1) if found else ""


def boot_id():
    return blocks.word("/proc/sys/kernel/random/boot_id")


def os_release(text):
    """id, version_id, pretty_name of os-release."""
    found = dict(re.findall(r"^(\w+)=[\"']?(.*?)[\"']?$", text, re.M))
    return dict((name.lower(), found.get(name, "")) for name in ("ID", "VERSION_ID", "PRETTY_NAME", "ID_LIKE"))


def clock():
    """Whether the clock is kept by NTP, as the kernel knows it from whoever does; None where it does not say so."""
    error = processes.clock_error_us()
    return None if error is None else error < UNSYNCHRONISED_US


def disks(layout):
    return [disk(name) for name in layout.disks]


def devices(layout):
    """Those that are on the disks."""
    return [device(layout, name) for name in blocks.names() if relevant(layout, name)]


def disk(name):
    """One whole disk, with all by which a user may name it."""
    serial, wwn = identity(name)
    return {
        "name": name,
        "size": blocks.size_of(name),
        "sector": int(blocks.fact(name, "queue", "logical_block_size") or 512),
        "physical_sector": int(blocks.fact(name, "queue", "physical_block_size") or 512),
        "serial": serial,
        "wwn": wwn,
        "model": blocks.fact(name, "device", "model"),
        "rotational": blocks.fact(name, "queue", "rotational") == "1",
        "read_only": blocks.fact(name, "ro") == "1",
        "by_id": links("/dev/disk/by-id", name),
        "table": signatures.signature(name).get("pttype", ""),
    }


def identity(name):
    """(serial, WWN), by udev where it runs, else as the kernel tells them."""
    udev = blocks.word("/run/udev/data/b" + blocks.fact(name, "dev"))
    serial = first(r"^E:ID_SERIAL_SHORT=(.*)$", udev) or first(r"^E:ID_SERIAL=(.*)$", udev)
    wwn = first(r"^E:ID_WWN=(.*)$", udev)
    return serial or blocks.fact(name, "device", "serial") or blocks.fact(name, "serial"), wwn or blocks.fact(
        name, "wwid"
    )


def links(folder, name):
    found = []
    for path in sorted(glob.glob(os.path.join(folder, "*"))):
        if os.path.basename(os.path.realpath(path)) == name:
            found.append(path)
    return found


def relevant(layout, name):
    """On one of the disks, however far below it they are."""
    return any(blocks.disk_of(lowest) in layout.disks or lowest in layout.disks for lowest in layout.below(name))


def device(layout, name):
    """A disk, partition or mapping. pieces: where it lies on the disks, None when that is more than parts in order."""
    pieces = layout.pieces(name)
    return {
        "name": name,
        "size": blocks.size_of(name),
        "kind": kind(layout, name),
        "mapping": blocks.fact(name, "dm", "name"),
        "mapping_uuid": blocks.fact(name, "dm", "uuid"),
        "raid": blocks.fact(name, "md", "level"),
        "raid_sync": blocks.fact(name, "md", "sync_action"),
        "below": blocks.listed(name, "slaves"),
        "above": blocks.listed(name, "holders"),
        "pieces": None if pieces is None else [dict(piece._asdict()) for piece in pieces],
        "signature": signatures.signature(name),
    }


def kind(layout, name):
    if name in layout.disks:
        return "disk"
    if blocks.is_partition(name):
        return "partition"
    return "raid" if name.startswith("md") else "mapping"


def mounted(mount):
    found = dict(mount._asdict())
    try:
        room = os.statvfs(mount.point)
    except OSError:
        return found
    found.update(size=room.f_blocks * room.f_frsize, used=(room.f_blocks - room.f_bfree) * room.f_frsize)
    found["inodes_free"] = room.f_favail
    return found


def services():
    """Names of the services that run, where systemd knows them."""
    argv = ["systemctl", "list-units", "--type=service", "--state=running", "--no-legend", "--plain", "--no-pager"]
    return sorted(line.split()[0] for line in processes.output(argv).splitlines() if line.strip())


def process_names():
    """Of everything that runs, once each: so a database is found that is nobody's service."""
    return sorted(set(blocks.word(path) for path in glob.glob("/proc/[0-9]*/comm")) - set([""]))


def boot():
    """firmware, and what is there to boot with."""
    efi = os.path.isdir(EFI)
    secure = glob.glob(EFI + "/efivars/SecureBoot-*")
    state = None
    if secure:
        with open(secure[0], "rb") as variable:
            state = variable.read()[-1:] == b"\1"
    return {
        "firmware": "uefi" if efi else "bios",
        "secure_boot": state,
        "command_line": blocks.word("/proc/cmdline"),
        "loaders": [path for path in ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/etc/lilo.conf", "/boot/loader/loader.conf",
                                      "/boot/efi/loader/loader.conf", "/boot/extlinux/extlinux.conf") if os.path.exists(path)],
        "kernels": sorted(glob.glob("/boot/vmlinu*")),
        "initial_ramdisks": sorted(glob.glob("/boot/init*")),
        "efi_programs": sorted(glob.glob("/boot/efi/EFI/*/*.efi") + glob.glob("/boot/efi/EFI/*/*.EFI")),
        "init": blocks.word("/proc/1/comm"),
    }  # fmt: skip
