# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of this host, and whether a connection is to this host at all."""

from __future__ import annotations

import os
from typing import Dict, Iterable, Optional, Tuple
from urllib.parse import urlsplit

from ansible_collections.kvmops.fleet.plugins.module_utils.host import capabilities
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor

_SYS_NET = "/sys/class/net"


def is_here(hv: Hypervisor) -> bool:
    """Whether the hypervisor sees the same files as this process."""
    return not urlsplit(hv.uri).netloc and not hv.uri.startswith("test:")


def existing(paths: Iterable[str]) -> Dict[str, bool]:
    return {path: os.path.exists(path) for path in paths}


def bridges_of(hv: Hypervisor) -> Optional[Tuple[str, ...]]:
    """The host's bridges: from the kernel on this host, from libvirt elsewhere; None when nobody can tell."""
    return _kernel_bridges() if is_here(hv) else capabilities.list_bridges(hv)


def _kernel_bridges() -> Optional[Tuple[str, ...]]:
    try:
        names = os.listdir(_SYS_NET)
    except OSError:
        return None
    return tuple(sorted(name for name in names if os.path.isdir(os.path.join(_SYS_NET, name, "bridge"))))
