# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The disk that a block job of QEMU is about, by the alias that libvirt gave it."""

from __future__ import annotations

from typing import Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.model.safe_xml import parse


def disk_of_job(xml: str, job: str) -> Optional[str]:
    """The target (vda) of the disk whose job this is; None when no disk of the running domain has that alias.

    libvirt names the job that copies a disk after its drive: drive-virtio-disk0 (qemu_alias.c, qemuAliasDiskDriveFromDisk).
    """
    for disk in parse(xml, "the domain's XML").iterfind("devices/disk"):
        alias, target = disk.find("alias"), disk.find("target")
        if alias is not None and target is not None and job == "drive-%s" % alias.get("name"):
            return str(target.get("dev"))
    return None
