# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A domain's definition into that of its copy, which shares nothing with it that one of them could write to."""

from __future__ import annotations

from typing import Iterator

from ansible_collections.kvmops.fleet.plugins.module_utils.model import edit_xml, safe_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.clone import Clone
from ansible_collections.kvmops.fleet.plugins.module_utils.model.cloud_init import RECORD
from ansible_collections.kvmops.fleet.plugins.module_utils.model.device_patch_xml import set_serial_log
from ansible_collections.kvmops.fleet.plugins.module_utils.model.disk_patch_xml import drop_disk, set_disk
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import METADATA_NS, MOVED_TO

_ODD = (
    ("devices/hostdev", "it has a device of the host (hostdev)"),
    ("devices/shmem", "it shares memory with others (shmem)"),
    ("devices/interface[@type='hostdev']", "it has a network card of the host (hostdev)"),
    ("devices/interface[@type='vdpa']", "it has a network card of the host (vdpa)"),
    ("devices/tpm/backend[@type='passthrough']", "it has the TPM of the host"),
    ("devices/memory/source/path", "it has memory that is a file of the host (nvdimm)"),
    ("devices/lease", "it holds a lease"),
    ("{http://libvirt.org/schemas/domain/qemu/1.0}commandline", "it has words of its own for QEMU (qemu:commandline)"),
)
_LINES = ("serial", "parallel", "console", "channel")


def clone_xml(xml: str, clone: Clone) -> str:
    """xml: the source's inactive XML, with its secrets."""
    root = safe_xml.parse(xml, "domain XML")
    root.find("name").text = clone.name
    _identity(root, clone)
    _metadata(root)
    for target in clone.dropped:
        drop_disk(root, target)
    for disk in clone.disks:
        set_disk(root, disk.target, "source", disk.path, kind="file")
    for card, mac in zip(root.findall("devices/interface"), clone.macs):
        edit_xml.drop(card, "mac")
        edit_xml.drop(card, "target")
        card.insert(0, edit_xml.new(card, "mac", {"address": mac}))
    _nvram(root, clone)
    set_serial_log(root, clone.serial_log)
    for vsock in root.iterfind("devices/vsock/cid"):
        vsock.set("auto", "yes")
        edit_xml.set_attribute(vsock, "address", None)
    for screen in root.iterfind("devices/graphics[@autoport='no']"):
        # Both may run at the same time, and only one could listen there.
        screen.set("autoport", "yes")
        for name in ("port", "tlsPort"):
            edit_xml.set_attribute(screen, name, None)
    return safe_xml.render(root)


def _identity(root: safe_xml.Element, clone: Clone) -> None:
    edit_xml.drop(root, "uuid")
    if clone.uuid:
        edit_xml.get_or_add(root, "uuid", ("title", "description", "metadata", "memory")).text = clone.uuid
    if root.find("genid") is not None:
        # Empty: libvirt makes one up.
        root.find("genid").text = None
    for entry in root.findall("sysinfo/system/entry[@name='uuid']"):
        entry.getparent().remove(entry)


def _metadata(root: safe_xml.Element) -> None:
    """The user's values for planning stay; what we remember of this very domain goes."""
    fleet = root.find("metadata/{%s}fleet" % METADATA_NS)
    if fleet is not None:
        for key in (RECORD, MOVED_TO):
            edit_xml.drop(fleet, "{%s}%s" % (METADATA_NS, key))


def _nvram(root: safe_xml.Element, clone: Clone) -> None:
    nvram = root.find("os/nvram")
    if nvram is None:
        return
    edit_xml.drop(nvram, "source")
    edit_xml.set_attribute(nvram, "type", None)
    nvram.text = clone.nvram


def with_nvram(xml: str, path: str) -> str:
    """The same with its UEFI variables there, where it says where they are at all."""
    root = safe_xml.parse(xml, "domain XML")
    nvram = root.find("os/nvram")
    if nvram is not None and nvram.find("source") is not None:
        nvram.find("source").set("file", path)
    elif nvram is not None and (nvram.text or "").strip():
        nvram.text = path
    return safe_xml.render(root)


def oddities(xml: str) -> Iterator[str]:
    """What cannot be had by two domains, or not be copied by us: in words, each naming the element."""
    root = safe_xml.parse(xml, "domain XML")
    for disk in root.iterfind("devices/disk"):
        target = disk.find("target").get("dev") if disk.find("target") is not None else "?"
        if disk.find("encryption") is not None or disk.find("source/encryption") is not None:
            yield "disk %s is encrypted" % target
        if disk.find("source/dataStore") is not None:
            yield "disk %s has its data in a file of its own" % target
    for path, words in _ODD:
        if root.find(path) is not None:
            yield words
    for tag in _LINES:
        for line in root.iterfind("devices/%s" % tag):
            source = line.find("source")
            if line.get("type") in ("file", "unix", "pipe", "dev") and source is not None and source.get("path"):
                yield "its %s is %s of the host" % (tag, source.get("path"))
