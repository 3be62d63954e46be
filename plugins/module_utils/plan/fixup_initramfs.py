# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The drivers that a guest boots with, in every initramfs, and what else an initramfs carries a copy of."""

from __future__ import annotations

import re
from typing import Iterator, List, NamedTuple, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.fixup import RUN, WRITE, Change, ImageFacts, Kernel
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.fixup_concerns import concern

# The root's disk.
NEEDED = ("virtio_pci", "virtio_blk")
# Taken along where the kernel has them.
WANTED = (*NEEDED, "virtio_scsi", "virtio_net")
UPDATE_INITRAMFS = "/usr/sbin/update-initramfs"
DRACUT = ("/usr/bin/dracut", "/usr/sbin/dracut", "/sbin/dracut")
# Of versions before 014 (RHEL 6 has 004), which do it for any hardware and start arrays and volumes unless told otherwise.
OLD_DRACUT = "/usr/share/dracut/modules.d"
# What dracut sees while it runs is neither the physical machine nor the guest. One that is made for any hardware starts no array
# and no volume group but those on the kernel's command line, unless it is told to; LUKS is left to the system.
_FOR_ANY_HARDWARE = ("--no-hostonly", "--kernel-cmdline", "rd.auto=1 rd.luks=0")
MODULES = "/etc/initramfs-tools/modules"
DRACUT_CONF = "/etc/dracut.conf.d/90-kvmops-virtio.conf"
# Of what an initramfs has a copy, so that a change of it is a change of the initramfs.
COPIED = (
    "/etc/udev/rules.d/",
    "/etc/lvm/",
    "/etc/mdadm",
    "/etc/crypttab",
    "/etc/initramfs-tools/",
    "/etc/dracut",
)


# Its udev gives an interface another name although the initramfs gave it one (naming scheme v240). An older one does not,
# so the initramfs must know the name.
RENAMES_AGAIN = 241
LINKS = "/etc/systemd/network/"


class Drivers(NamedTuple):
    """virtio: False when some kernel cannot have virtio disks."""

    changes: List[Change]
    concerns: List[Concern]
    virtio: bool


def initramfs_changes(facts: ImageFacts, others: Sequence[Change]) -> Drivers:
    """others: what is changed besides, to know whether an initramfs would have an old copy of it."""
    booted = [kernel for kernel in facts.kernels if kernel.initramfs is not None]
    without = [kernel.version for kernel in booted if not set(NEEDED) <= kernel.modules | kernel.built_in]
    if without:
        return Drivers([], [concern("p2v-fixup-no-virtio", ", ".join(without))], False)
    if not booted and not any(set(NEEDED) <= kernel.built_in for kernel in facts.kernels):
        return Drivers([], [concern("p2v-fixup-no-initramfs", _listed(facts))], True)
    lacking = [kernel for kernel in booted if _missing(kernel)]
    copied = COPIED if facts.systemd >= RENAMES_AGAIN else (*COPIED, LINKS)
    stale = any(change.path.startswith(copied) for change in others)
    if not lacking and not stale:
        return Drivers([], [], True)
    dracut = next((path for path in DRACUT if path in facts.paths), None)
    if UPDATE_INITRAMFS in facts.paths:
        settings = list(_initramfs_tools(facts, lacking))
        runs = [_run(kernel, (UPDATE_INITRAMFS, "-u", "-k", kernel.version)) for kernel in booted]
    elif dracut is not None:
        settings = list(_dracut(facts, lacking))
        argv = (dracut, "--force", "--mdadmconf", *(() if OLD_DRACUT in facts.paths else _FOR_ANY_HARDWARE))
        runs = [_run(kernel, (*argv, str(kernel.initramfs), kernel.version)) for kernel in booted]
    elif lacking:
        detail = "; ".join("%s lacks %s" % (each.initramfs, ", ".join(_missing(each))) for each in lacking)
        return Drivers([], [concern("p2v-fixup-cannot-rebuild", detail)], True)
    else:
        return Drivers([], [], True)
    return Drivers(settings + runs, [], True)


def _listed(facts: ImageFacts) -> str:
    return "kernels: %s" % (", ".join(kernel.version for kernel in facts.kernels) or "none")


def _missing(kernel: Kernel) -> Tuple[str, ...]:
    """Of the needed drivers. An initramfs that cannot be read lacks all."""
    return tuple(name for name in NEEDED if name not in kernel.built_in and name not in (kernel.loaded or ()))


def _run(kernel: Kernel, argv: Tuple[str, ...]) -> Change:
    missing = _missing(kernel)
    why = "it lacked %s" % ", ".join(missing) if missing else "it had copies of what was changed"
    return Change(RUN, "%s: made anew, %s" % (kernel.initramfs, why), argv=argv)


def _initramfs_tools(facts: ImageFacts, lacking: Sequence[Kernel]) -> Iterator[Change]:
    if not lacking:
        return
    text = facts.files.get(MODULES, "")
    there = {line.split()[0] for line in text.splitlines() if line.strip() and not line.startswith("#")}
    new = [name for name in WANTED if name not in there]
    if new:
        lines = text if not text or text.endswith("\n") else text + "\n"
        yield Change(WRITE, "%s: %s" % (MODULES, ", ".join(new)), MODULES, lines + "".join(name + "\n" for name in new))
    for path, text in sorted(facts.files.items()):
        if path.startswith("/etc/initramfs-tools/") and re.search(r"^MODULES=dep[ \t]*$", text, re.M):
            # "dep" asks the machine it runs on, which is neither the physical one nor the guest.
            content = re.sub(r"^MODULES=dep[ \t]*$", "MODULES=most", text, flags=re.M)
            yield Change(WRITE, "%s: MODULES=most, no longer dep" % path, path, content)


def _dracut(facts: ImageFacts, lacking: Sequence[Kernel]) -> Iterator[Change]:
    if not lacking:
        return
    have = [name for name in WANTED if any(name in kernel.modules for kernel in facts.kernels)]
    content = 'add_drivers+=" %s "\n' % " ".join(have)
    if have and facts.files.get(DRACUT_CONF) != content:
        yield Change(WRITE, "%s: %s" % (DRACUT_CONF, ", ".join(have)), DRACUT_CONF, content)
