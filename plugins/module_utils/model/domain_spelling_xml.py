# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One spelling for elements of a definition that libvirt writes in another way than people and tools do.

Seen in dumps of libvirt 9.0 and 11.3. Single values are in model/libvirt_additions.py.
"""

from __future__ import annotations

import re
from typing import Callable, Dict, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model import edit_xml, safe_xml

Element = safe_xml.Element

# libvirt gives such names itself, and takes them from nobody (libvirt: virNetDevGenerateName).
_MADE_UP = re.compile(r"^(vnet|macvtap|macvlan)[0-9]+$")
_DEFAULTS = (("vcpu", "1"), ("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "destroy"))
_SAID_BY_NOTHING = (("port", "-1"), ("tlsPort", "-1"), ("fullscreen", "no"))
_EMPTY_IS_NONE = ("os/kernel", "os/initrd", "os/cmdline", "os/dtb")


def respell(root: Element) -> None:
    """In place, in both definitions, before they are compared."""
    safe_xml.drop_remarks(root)
    if root.tag == "domain":
        _say_defaults(root)
    for path in _EMPTY_IS_NONE:
        _drop(root, path, lambda node: not (node.text or "").strip())
    _drop(root, "devices/interface/target", lambda node: bool(_MADE_UP.match(node.get("dev", ""))))
    # A socket without a path is what libvirt makes by itself.
    _drop(root, "devices/channel/source", lambda node: node.get("mode") == "bind" and len(node.attrib) == 1)
    for devices in root.iterfind("devices"):
        _one_serial_line(devices)
    for graphics in root.iterfind("devices/graphics"):
        for name, value in _SAID_BY_NOTHING:
            if graphics.get(name) == value:
                del graphics.attrib[name]
    for cpu in root.iterfind("cpu"):
        if cpu.get("mode", "custom") != "custom":
            edit_xml.set_attribute(cpu, "match", None)
    for tune in root.iterfind("cputune"):
        _gather(tune, "vcpusched", "vcpus")
        _gather(tune, "iothreadsched", "iothreads")


def _say_defaults(root: Element) -> None:
    edit_xml.get_or_add(root, "devices")
    for tag, text in _DEFAULTS:
        node = edit_xml.get_or_add(root, tag)
        node.text = (node.text or "").strip() or text
    memory, current = root.find("memory"), root.find("currentMemory")
    if memory is not None and current is None:
        current = edit_xml.add(root, "currentMemory", dict(memory.attrib), memory.text or "")
        edit_xml.set_attribute(current, "dumpCore", None)


def _one_serial_line(devices: Element) -> None:
    """A console without a target is the first serial line once more, or makes it (libvirt: virDomainDefAddConsoleCompat)."""
    for console in devices.findall("console"):
        target = console.find("target")
        if target is not None and target.get("type", "serial") != "serial":
            continue
        if devices.find("serial") is None:
            console.tag = "serial"
            edit_xml.drop(console, "target")
        else:
            devices.remove(console)


def _drop(root: Element, path: str, says_nothing: Callable[[Element], bool]) -> None:
    for node in root.findall(path):
        if len(node) == 0 and says_nothing(node):
            node.getparent().remove(node)


def _gather(tune: Element, tag: str, numbers: str) -> None:
    """libvirt splits a set of numbers into one element for each."""
    alike: Dict[Tuple[str, str], Element] = {}
    for node in tune.findall(tag):
        first = alike.setdefault((node.get("scheduler", ""), node.get("priority", "")), node)
        if first is not node:
            first.set(numbers, "%s,%s" % (first.get(numbers, ""), node.get(numbers, "")))
            tune.remove(node)
