# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a device holds, by blkid's reading of the device itself (its cache may be old)."""

from __future__ import absolute_import, division, print_function

import os
import re

from ansible_collections.kvmops.fleet.plugins.module_utils.p2v_agent import blocks, processes

__metaclass__ = type

WANTED = ("TYPE", "UUID", "LABEL", "PTTYPE", "PART_ENTRY_UUID", "PART_ENTRY_TYPE", "PART_ENTRY_NAME", "VERSION")


def parsed(text):
    """{"type": ...} of `blkid -o export`, which writes a backslash before what a shell would read."""
    found = {}
    for line in text.splitlines():
        name, dummy, value = line.partition("=")
        if name in WANTED:
            found[name.lower()] = re.sub(r"\\(.)", r"\1", value)
    return found


def signature(name):
    """What stands on a device; empty when blkid finds nothing, or two things at once."""
    return parsed(processes.output(["blkid", "-p", "-o", "export", blocks.node(name)], 30))


def in_use(name):
    """Something holds the device: a mount (perhaps in another namespace), a mapping, swap."""
    try:
        os.close(os.open(blocks.node(name), os.O_RDONLY | os.O_EXCL))
        return False
    except OSError:
        return True
