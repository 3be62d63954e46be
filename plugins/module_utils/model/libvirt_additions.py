# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What libvirt adds to a definition by itself, and how it writes values. Seen in dumps of libvirt 9.0 and 11.3.

An addition that is missing here would be shown as "removed" by a task that never gave it.
"""

from __future__ import annotations

import re
from typing import Dict, FrozenSet, Optional, Set

from ansible_collections.kvmops.fleet.plugins.module_utils.model.safe_xml import Element
from ansible_collections.kvmops.fleet.plugins.module_utils.model.sizes import in_kib, whole_number


def _set(words: str) -> FrozenSet[str]:
    return frozenset(words.split())


# Parent -> children that appear without having been given.
ADDED_CHILDREN: Dict[str, FrozenSet[str]] = {
    "domain": _set(
        "uuid currentMemory resource cpu clock on_poweroff on_reboot on_crash seclabel metadata iothreadids vcpu genid"
    ),
    "os": _set("loader nvram firmware"),
    "features": _set("gic smm"),
    "cpu": _set("model vendor"),
    "devices": _set("emulator controller memballoon audio"),
    "disk": _set("driver backingStore"),
    "interface": _set("mac model"),
    "controller": _set("target model"),
    "serial": _set("target"),
    "console": _set("target log"),
    "channel": _set("target"),
    "graphics": _set("listen"),
    "video": _set("model"),
    "target": _set("model"),
    "tpm": _set("backend"),
    "filesystem": _set("driver"),
    "vsock": _set("cid"),
    "audio": _set("input output"),
    "parallel": _set("target"),
    "cell": _set("distances"),
    "distances": _set("sibling"),
    "iothreadids": _set("iothread"),
}

ADDED_ANYWHERE = _set("address backingStore seclabel metadata")
# Of these, whatever stands in them may be libvirt's own.
ADDED_WHOLE = ADDED_ANYWHERE | _set("uuid resource cpu boot firmware controller video input watchdog listen distances")

# What these hold is chosen by libvirt where nothing is given.
ADDED_TEXTS = _set("loader nvram backend genid emulator model")

# Attributes that appear without having been given, by element.
ADDED_ATTRIBUTES: Dict[str, FrozenSet[str]] = {
    "domain": _set("id"),
    "memory": _set("unit dumpCore"),
    "currentMemory": _set("unit"),
    "maxMemory": _set("unit"),
    "cell": _set("id unit discard memAccess"),
    "page": _set("unit"),
    "vcpu": _set("placement"),
    "type": _set("arch machine"),
    "os": _set("firmware"),
    "loader": _set("readonly type secure stateless format"),
    "nvram": _set("template templateFormat format type"),
    "cpu": _set("mode match check migratable"),
    "model": _set("fallback type ram vram vgamem heads primary vram64 name"),
    "feature": _set("policy"),
    "topology": _set("dies clusters"),
    "hyperv": _set("mode"),
    "clock": _set("offset basis adjustment"),
    "disk": _set("device type model snapshot"),
    "host": _set("port"),
    "encryption": _set("engine"),
    "parameters": _set("interfaceid instanceid"),
    "vmcoreinfo": _set("state"),
    "iothread": _set("id"),
    "smm": _set("state"),
    "driver": _set("name type"),
    "target": _set("bus type port state managed chassis busNr name tray"),
    "source": _set("index portid startupPolicy mode"),
    "interface": _set("trustGuestRxFilters"),
    "controller": _set("index model ports vectors"),
    "input": _set("bus"),
    "graphics": _set("port autoport listen tlsPort"),
    "listen": _set("type address"),
    "hostdev": _set("managed mode type model"),
    "filesystem": _set("accessmode type model"),
    "rng": _set("model"),
    "backend": _set("model version persistent_state type"),
    "tpm": _set("model"),
    "memballoon": _set("model"),
    "watchdog": _set("model action"),
    "sound": _set("model"),
    "audio": _set("id type"),
    "vsock": _set("model"),
    "cid": _set("auto"),
    "log": _set("append"),
    "seclabel": _set("type model relabel"),
    "panic": _set("model"),
    "redirdev": _set("bus"),
}

_USERS_ALIAS = "ua-"

# Never shown by a dump without secrets, so a difference cannot be told.
SECRET_ATTRIBUTES = _set("passwd passwdValidTo")
SECRET_CHILDREN = _set("cookies")

_SIZES = _set(
    "size block requested memory currentMemory maxMemory hard_limit soft_limit swap_hard_limit min_guarantee tseg"
    " tb-cache max_size"
)
_SIZED_ATTRIBUTES = {
    "cell": "memory",
    "page": "size",
    "bandwidth": "value",
    "size": "value",
    "line": "value",
    "cache": "size",
}
_BYTES_UNLESS_SAID = _set("max_size")
_VIDEO_MEMORIES = _set("ram vram vgamem vram64")
_OCTALS = _set("fmode dmode")
_UUID = re.compile(r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
_CPU_SETS = _set("cpuset nodeset cpus cpulist vcpus iothreads")
_CPUS = re.compile(r"^(\^?)([0-9]{1,9})(?:-([0-9]{1,9}))?$")
_MOST_CPUS = 65536
_HEXADECIMAL = re.compile(r"^0[xX][0-9a-fA-F]{1,32}$")
_OCTAL = re.compile(r"^0[0-7]{1,20}$")
_LOWER_CASE = {("mac", "address")}


def counts(node: Element) -> bool:
    """Whether the element can be compared. libvirt makes up aliases while a guest runs, and keeps those of users."""
    if node.tag == "alias":
        return str(node.get("name", "")).startswith(_USERS_ALIAS)
    return isinstance(node.tag, str) and node.tag not in SECRET_CHILDREN


def text_value(element: Element) -> str:
    """The element's own text in one spelling."""
    text = (element.text or "").strip()
    if element.tag in _SIZES:
        return _kib(text, element.get("unit", "bytes" if element.tag in _BYTES_UNLESS_SAID else None))
    return text.lower() if _UUID.match(text) else text


def attribute_value(element: Element, name: str) -> Optional[str]:
    """The attribute in one spelling; None when it is not there."""
    value: Optional[str] = element.get(name)
    if value is None:
        return None
    if _SIZED_ATTRIBUTES.get(element.tag) == name:
        return _kib(value, element.get("unit"))
    if name in _CPU_SETS:
        return _cpu_set(value)
    if (element.tag, name) in _LOWER_CASE:
        return value.lower()
    if name in _OCTALS:
        return _place("0" + value)
    if element.tag == "model" and name in _VIDEO_MEMORIES:
        return _power_of_two(value)
    if _UUID.match(value):
        return value.lower()
    return _place(value) if element.tag == "address" else _number(value)


def units_are_values(element: Element) -> bool:
    """Whether `unit` is part of a value that is compared already."""
    return element.tag in _SIZES or element.tag in _SIZED_ATTRIBUTES


def _kib(text: str, unit: Optional[str]) -> str:
    size = in_kib(text, unit)
    return text if size is None else "%d KiB" % size


def _cpu_set(text: str) -> str:
    """`0,1,2` and `0-2` are the same, and so are `0-3,^2` and `0-1,3`."""
    numbers: Set[int] = set()
    for part in text.split(","):
        matched = _CPUS.match(part.strip())
        if matched is None:
            return text
        without, first, last = matched.groups()
        if int(last or first) - int(first) > _MOST_CPUS:
            return text
        those = range(int(first), int(last or first) + 1)
        numbers = numbers.difference(those) if without else numbers.union(those)
    return ",".join(str(number) for number in sorted(numbers))


def _power_of_two(text: str) -> str:
    """libvirt rounds the memories of a video card up."""
    number = whole_number(text)
    return text if not number else str(1 << (number - 1).bit_length())


def _number(text: str) -> str:
    """Hexadecimal numbers come back with another count of zeros."""
    return str(int(text, 16)) if _HEXADECIMAL.match(text) else text


def _place(text: str) -> str:
    """Numbers of addresses, which libvirt reads as C does: 0x1f, 31, and 037 are the same."""
    if _OCTAL.match(text):
        return str(int(text, 8))
    return _number(text)
