# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""fstab, crypttab and what else names disks: by UUID, and patient with disks that were left out."""

from __future__ import annotations

import re
from typing import Iterator, List, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.concern import Concern
from ansible_collections.kvmops.fleet.plugins.module_utils.model.fixup import REMOVE, WRITE, Change, ImageFacts
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.fixup_concerns import concern
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.fixup_devices import (
    by_uuid,
    changes_with_hardware,
    fields_of,
    is_left_out,
    replaced,
)

FSTAB, CRYPTTAB = "/etc/fstab", "/etc/crypttab"
RESUME = "/etc/initramfs-tools/conf.d/resume"
LVM_DEVICES = "/etc/lvm/devices/system.devices"
MDADM_CONF = ("/etc/mdadm.conf", "/etc/mdadm/mdadm.conf")
DEVICE_MAPS = ("/boot/grub/device.map", "/boot/grub2/device.map")
# Without them the system is not itself.
_ESSENTIAL = ("/", "/usr", "/boot", "/var", "none", "swap")
_PATIENT = "nofail"


def mount_changes(facts: ImageFacts) -> Tuple[List[Change], List[Concern]]:
    changes: List[Change] = []
    concerns: List[Concern] = []
    fstab = _fstab(facts, concerns)
    crypttab = _crypttab(facts, concerns)
    changes += _written(facts, FSTAB, *fstab)
    changes += _written(facts, CRYPTTAB, *crypttab)
    changes += _resume(facts)
    changes += _arrays(facts)
    changes += _by_hardware(facts)
    return changes, concerns


def _fstab(facts: ImageFacts, concerns: List[Concern]) -> Tuple[str, List[str]]:
    lines, words = [], []
    for line in facts.files.get(FSTAB, "").splitlines():
        fields = fields_of(line)
        if len(fields) >= 2:
            line, said = _mount(line, fields, facts, concerns)
            words += said
        lines.append(line)
    return "\n".join(lines) + "\n", words


def _mount(line: str, fields: List[str], facts: ImageFacts, concerns: List[Concern]) -> Tuple[str, List[str]]:
    spec, point = fields[0], fields[1]
    if not changes_with_hardware(spec):
        return line, []
    new = by_uuid(spec, facts)
    if new is not None:
        what = "swap space is found" if fields[2:3] == ["swap"] else "%s is mounted" % point
        return replaced(line, spec, new), ["%s by %s, no longer by %s" % (what, new, spec)]
    if is_left_out(spec, facts) and point not in _ESSENTIAL:
        if len(fields) < 4 or _PATIENT in fields[3].split(","):
            return line, []
        new_line = _with_option(line, fields)
        return new_line, ["%s on %s, which was left out, no longer stops the boot (nofail)" % (point, spec)]
    if spec.startswith(("/dev/sr", "/dev/fd")):
        return line, []
    concerns.append(concern("p2v-fixup-unknown-device", "%s has %s for %s" % (FSTAB, spec, point)))
    return line, []


def _with_option(line: str, fields: List[str]) -> str:
    head, dummy, tail = line.partition(fields[1])
    return head + fields[1] + replaced(tail, fields[3], fields[3] + "," + _PATIENT)


def _crypttab(facts: ImageFacts, concerns: List[Concern]) -> Tuple[str, List[str]]:
    lines, words = [], []
    for line in facts.files.get(CRYPTTAB, "").splitlines():
        fields = fields_of(line)
        if len(fields) >= 2 and changes_with_hardware(fields[1]):
            new = by_uuid(fields[1], facts)
            if new is not None:
                line = replaced(line, fields[1], new)
                words.append("%s is opened by %s, no longer by %s" % (fields[0], new, fields[1]))
            elif not is_left_out(fields[1], facts):
                concerns.append(concern("p2v-fixup-unknown-device", "%s has %s" % (CRYPTTAB, fields[1])))
        lines.append(line)
    return "\n".join(lines) + "\n", words


def _written(facts: ImageFacts, path: str, content: str, words: List[str]) -> Iterator[Change]:
    if words:
        yield Change(WRITE, "%s: %s" % (path, "; ".join(words)), path, content)


def _resume(facts: ImageFacts) -> Iterator[Change]:
    """Where initramfs-tools looks for a hibernated system; it waits half a minute for a device that is not there."""
    text = facts.files.get(RESUME, "")
    spec = text.strip().partition("=")[2]
    if spec and changes_with_hardware(spec):
        new = by_uuid(spec, facts) or "none"
        yield Change(WRITE, "%s: RESUME=%s, no longer %s" % (RESUME, new, spec), RESUME, "RESUME=%s\n" % new)


def _arrays(facts: ImageFacts) -> Iterator[Change]:
    """mdadm looks for members of arrays everywhere, unless it is told where: then it finds none on the guest's disks."""
    for path in MDADM_CONF:
        old = facts.files.get(path, "")
        new = re.sub(r"^DEVICE\s.*/dev/.*$", "DEVICE partitions", old, flags=re.M | re.I)
        new = re.sub(r"^(ARRAY\s.*?)\s+devices=\S+", r"\1", new, flags=re.M | re.I)
        if new != old:
            words = "%s: members of arrays are looked for on all disks, no longer by their names" % path
            yield Change(WRITE, words, path, new)


def _by_hardware(facts: ImageFacts) -> Iterator[Change]:
    if LVM_DEVICES in facts.paths:
        yield Change(REMOVE, "%s: removed; it knows LVM's disks by their hardware" % LVM_DEVICES, LVM_DEVICES)
    for path in DEVICE_MAPS:
        if path in facts.paths:
            yield Change(REMOVE, "%s: removed; it names the disks of the physical machine" % path, path)
