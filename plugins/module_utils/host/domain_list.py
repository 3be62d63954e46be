# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many domains at once: a handful of calls for all of them instead of a handful for each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Collection, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import domains, guest_addresses, libvirt_api
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor, flag, is_error, said
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import ACTIVE_STATES, Domain, DomainStatus
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_xml import read_domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.snapshot_xml import agent_is_connected

_STATE = ("VIR_DOMAIN_STATS_STATE",)
_FIGURES = (
    "VIR_DOMAIN_STATS_CPU_TOTAL",
    "VIR_DOMAIN_STATS_BALLOON",
    "VIR_DOMAIN_STATS_VCPU",
    "VIR_DOMAIN_STATS_INTERFACE",
    "VIR_DOMAIN_STATS_BLOCK",
)
# A domain whose monitor is busy must not hold up the others: its figures are left out.
_NOWAIT = "VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT"


@dataclass(frozen=True)
class Seen:
    """One domain. config: the next boot's, None when not asked for. figures: libvirt's flat statistics.

    live: what runs, None when it does not run or was not asked for. agent: whether the guest agent is connected, as far as live
    was asked for. addresses: as host/guest_addresses.py tells them.
    """

    name: str
    uuid: str
    status: DomainStatus
    config: Optional[Domain]
    figures: Mapping[str, Any]
    live: Optional[Domain] = None
    agent: bool = False
    addresses: Tuple[Mapping[str, Any], ...] = ()


def see_all(
    hv: Hypervisor,
    names: Optional[Collection[str]] = None,
    config: bool = True,
    figures: bool = False,
    live: bool = False,
) -> Tuple[Seen, ...]:
    """The domains of those names (None: every one), by name."""
    with said("list domains", hv.side):
        records = _records(hv, figures)
        flags = _Flags.read(hv)
    found: List[Seen] = []
    for dom, record in records:
        if names is not None and dom.name() not in names:
            continue
        with said("read domain %s" % dom.name(), hv.side), domains.gone_is_fine():
            found.append(_seen(dom, record, flags, config, live))
    return tuple(sorted(found, key=lambda seen: seen.name))


def _records(hv: Hypervisor, figures: bool) -> List[Tuple[Any, Mapping[str, Any]]]:
    wanted = flag(*(_STATE + _FIGURES if figures else _STATE))
    try:
        return list(hv.conn.getAllDomainStats(wanted, flag(_NOWAIT)))
    except libvirt_api.libvirt.libvirtError as error:
        if not is_error(error, ["VIR_ERR_NO_SUPPORT"]):
            raise
        return [(dom, {"state.state": dom.state()[0]}) for dom in hv.conn.listAllDomains(0)]


@dataclass(frozen=True)
class _Flags:
    """UUIDs of the domains that have a property: one list call for each property."""

    persistent: FrozenSet[str]
    autostart: FrozenSet[str]
    saved: FrozenSet[str]
    snapshot: FrozenSet[str]

    @classmethod
    def read(cls, hv: Hypervisor) -> _Flags:
        def having(name: str) -> FrozenSet[str]:
            return frozenset(dom.UUIDString() for dom in hv.conn.listAllDomains(flag(name)))

        return cls(
            persistent=having("VIR_CONNECT_LIST_DOMAINS_PERSISTENT"),
            autostart=having("VIR_CONNECT_LIST_DOMAINS_AUTOSTART"),
            saved=having("VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE"),
            snapshot=having("VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT"),
        )


def with_addresses(hv: Hypervisor, seen: Seen, sources: Sequence[str]) -> Seen:
    """The same with the addresses of a guest that runs. An agent that is not connected is not asked: it would be waited for."""
    asked = [source for source in sources if source != guest_addresses.AGENT or seen.agent]
    if seen.status.state not in ACTIVE_STATES or not asked:
        return seen
    with said("read domain %s" % seen.name, hv.side), domains.gone_is_fine():
        dom = hv.conn.lookupByUUIDString(seen.uuid)
        return replace(seen, addresses=tuple(guest_addresses.addresses_of(dom, asked)))
    return seen


def _seen(dom: Any, record: Mapping[str, Any], flags: _Flags, config: bool, live: bool) -> Seen:
    uuid = dom.UUIDString()
    state = domains.state_word(int(record.get("state.state", 0)))
    number = dom.ID()
    status = DomainStatus(
        state=state,
        persistent=uuid in flags.persistent,
        autostart=uuid in flags.autostart,
        managed_save=uuid in flags.saved,
        snapshots=dom.snapshotNum(0) if uuid in flags.snapshot else 0,
        job=domains.job(dom) if state in ACTIVE_STATES else None,
        id=number if number >= 0 else None,
    )
    read: Optional[Domain] = None
    if config:
        inactive = flag("VIR_DOMAIN_XML_INACTIVE") if status.persistent else 0
        read = read_domain(dom.XMLDesc(inactive), "XML of domain %s" % dom.name())
    running = dom.XMLDesc(0) if live and state in ACTIVE_STATES else None
    return Seen(
        dom.name(),
        uuid,
        status,
        read,
        dict(record),
        read_domain(running, "XML of domain %s" % dom.name()) if running is not None else None,
        running is not None and agent_is_connected(running),
    )
