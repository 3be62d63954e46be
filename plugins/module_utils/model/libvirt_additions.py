# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What libvirt adds to a definition by itself, and how it writes values. Seen in dumps of libvirt 9.0 and 11.3.

An addition that is missing here would be shown as "removed" by a task that never gave it.
"""

from __future__ import annotations

from typing import Dict, FrozenSet, Optional, Set

from ansible_collections.kvmops.fleet.plugins.module_utils.model.safe_xml import Element


def _set(words: str) -> FrozenSet[str]:
    return frozenset(words.split())


# Added below any element. Addresses and aliases name the guest's own board, which libvirt lays out.
ANYWHERE = _set("alias address")

# Parent -> children that appear without having been given.
ADDED_CHILDREN: Dict[str, FrozenSet[str]] = {
    "domain": _set(
        "uuid currentMemory resource cpu clock on_poweroff on_reboot on_crash seclabel metadata iothreadids vcpu genid"
    ),
    "os": _set("boot loader nvram firmware"),
    "features": _set("gic smm"),
    "cpu": _set("model vendor"),
    "devices": _set("emulator controller input memballoon audio"),
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
}

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
    "disk": _set("device type model"),
    "driver": _set("name type"),
    "target": _set("bus type port state managed chassis busNr name tray"),
    "source": _set("index portid startupPolicy"),
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

# Never shown by a dump without secrets, so a difference cannot be told.
SECRET_ATTRIBUTES = _set("passwd passwdValidTo")

_IN_KIB = {
    "b": 1 / 1024,
    "bytes": 1 / 1024,
    "kb": 1000 / 1024,
    "k": 1,
    "kib": 1,
    "mb": 1000**2 / 1024,
    "m": 1024,
    "mib": 1024,
    "gb": 1000**3 / 1024,
    "g": 1024**2,
    "gib": 1024**2,
    "tb": 1000**4 / 1024,
    "t": 1024**3,
    "tib": 1024**3,
}
_SIZES = _set(
    "size block requested memory currentMemory maxMemory hard_limit soft_limit swap_hard_limit min_guarantee tseg"
)
_SIZED_ATTRIBUTES = {"cell": "memory", "page": "size"}
_CPU_SETS = _set("cpuset nodeset cpus cpulist")
_LOWER_CASE = {("mac", "address")}


def text_value(element: Element) -> str:
    """The element's own text in one spelling."""
    text = (element.text or "").strip()
    if element.tag in _SIZES:
        return _kib(text, element.get("unit"))
    if element.tag == "uuid":
        return text.lower()
    return text


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
    return _number(value)


def units_are_values(element: Element) -> bool:
    """Whether `unit` is part of a value that is compared already."""
    return element.tag in _SIZES or element.tag in _SIZED_ATTRIBUTES


def _kib(text: str, unit: Optional[str]) -> str:
    if not text.isdigit() or (unit or "KiB").lower() not in _IN_KIB:
        return text
    return "%d KiB" % size_in_kib(text, unit)


def size_in_kib(text: str, unit: Optional[str]) -> int:
    """libvirt keeps KiB and rounds up; a size without a unit is KiB."""
    return int(-(-int(text) * _IN_KIB[(unit or "KiB").lower()] // 1))


def _cpu_set(text: str) -> str:
    """`0,1,2` and `0-2` are the same."""
    numbers: Set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) - int(first) > 65536):
            return text
        numbers.update(range(int(first), int(last if dash else first) + 1))
    return ",".join(str(number) for number in sorted(numbers))


def _number(text: str) -> str:
    """Hexadecimal numbers come back with another count of zeros."""
    if text.lower().startswith("0x"):
        try:
            return str(int(text, 16))
        except ValueError:
            return text
    return text
