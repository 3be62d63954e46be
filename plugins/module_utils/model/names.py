# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What may be the name of a domain, volume or snapshot."""

from __future__ import annotations

from typing import List

# 255 bytes: the longest file name; libvirt keeps /etc/libvirt/qemu/NAME.xml.
LONGEST = 251


def name_problems(option: str, name: str) -> List[str]:
    """Why `name` cannot be one; an empty list when it can. Each problem names the option and the remedy."""
    shown = "%s is %r" % (option, name[:60] + ("…" if len(name) > 60 else ""))
    if not name.strip():
        return ["%s is empty; give a name" % option]
    if "/" in name or name in (".", "..") or ".." in name.split("/"):
        return ["%s; a name may not hold '/' or be '..': it becomes a file name. Choose another" % shown]
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        return ["%s; a name may not hold control characters. Choose another" % shown]
    if name != name.strip():
        return ["%s; a name may not begin or end with white space. Take it off" % shown]
    if name.startswith("-"):
        return ["%s; a name may not start with '-', tools take it for an option. Choose another" % shown]
    if len(name.encode("utf-8")) > LONGEST:
        return ["%s; a name has at most %d bytes. Shorten it" % (shown, LONGEST)]
    return []
