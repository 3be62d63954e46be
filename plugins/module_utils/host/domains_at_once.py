# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of all domains in a handful of calls, for whoever then looks at many of them one by one.

Each question to libvirtd takes a turn on the connection; ten for each of a hundred domains are seconds.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any, Dict, FrozenSet, List, Mapping

from ansible_collections.kvmops.fleet.plugins.module_utils.host import libvirt_api
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor, flag

_LISTS = {
    "persistent": "VIR_CONNECT_LIST_DOMAINS_PERSISTENT",
    "autostart": "VIR_CONNECT_LIST_DOMAINS_AUTOSTART",
    "saved": "VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE",
    "snapshots": "VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT",
    "checkpoints": "VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT",
}
_NOWAIT = "VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT"


def remembered(hv: Hypervisor) -> Hypervisor:
    """The same connection, on which a domain that is looked up answers from what was seen now; only to look, and soon.

    hv itself where the driver cannot list like this.
    """
    with contextlib.suppress(libvirt_api.libvirt.libvirtError, AttributeError):
        return replace(hv, conn=_Connection(hv.conn, _see(hv.conn)))
    return hv


def _see(conn: Any) -> Dict[str, Any]:
    having: Dict[str, FrozenSet[str]] = {}
    for what, name in _LISTS.items():
        if flag(name):
            having[what] = frozenset(dom.UUIDString() for dom in conn.listAllDomains(flag(name)))
    records = conn.getAllDomainStats(flag("VIR_DOMAIN_STATS_STATE"), flag(_NOWAIT))
    return {dom.name(): _Domain(dom, record, having) for dom, record in records if "state.state" in record}


class _Connection:
    """A virConnect that remembers domains; whatever else is asked of it, libvirt is asked."""

    def __init__(self, conn: Any, seen: Mapping[str, Any]) -> None:
        self._conn, self._seen = conn, seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)

    def lookupByName(self, name: str) -> Any:
        return self._seen[name] if name in self._seen else self._conn.lookupByName(name)


class _Domain:
    """A virDomain whose state is known; whatever else is asked of it, libvirt is asked."""

    def __init__(self, dom: Any, record: Mapping[str, Any], having: Mapping[str, FrozenSet[str]]) -> None:
        self._dom, self._record, self._having = dom, record, having
        self._xml: Dict[int, str] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dom, name)

    def _is(self, what: str) -> bool:
        return self._dom.UUIDString() in self._having[what]

    def state(self, flags: int = 0) -> List[int]:
        return [int(self._record["state.state"]), int(self._record.get("state.reason", 0))]

    def isPersistent(self) -> int:
        return int(self._is("persistent"))

    def autostart(self) -> int:
        return int(self._is("autostart"))

    def hasManagedSaveImage(self, flags: int = 0) -> int:
        return int(self._is("saved"))

    def snapshotNum(self, flags: int = 0) -> int:
        return int(self._dom.snapshotNum(flags)) if self._is("snapshots") else 0

    def listAllCheckpoints(self, flags: int = 0) -> List[Any]:
        known_to_have_none = "checkpoints" in self._having and not self._is("checkpoints")
        return [] if known_to_have_none else list(self._dom.listAllCheckpoints(flags))

    def XMLDesc(self, flags: int = 0) -> str:
        if flags not in self._xml:
            xml = str(self._dom.XMLDesc(flags))
            if flags & flag("VIR_DOMAIN_XML_SECURE"):
                return xml
            self._xml[flags] = xml
        return self._xml[flags]
