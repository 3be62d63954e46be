# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kvm_domain_info: read domains."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, Iterator, Mapping, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host.domain_list import Seen, see_all, with_addresses
from ansible_collections.kvmops.fleet.plugins.module_utils.host.guest_addresses import AGENT, ARP, LEASE
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor, connect
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_result import domain_result, status_result
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_stats import stats_result
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.pending import pending_changes
from ansible_collections.kvmops.fleet.plugins.module_utils.run.sentence import Job, Sentence, tell

CONFIG = "config"
STATS = "stats"
ADDRESSES = "addresses"
PENDING = "pending"
# An agent may take its time, and nobody else has to wait for it.
READERS = 8

OPTIONS: Dict[str, Any] = {
    "names": {"type": "list", "elements": "str"},
    "gather": {"type": "list", "elements": "str", "choices": [CONFIG, STATS, ADDRESSES, PENDING], "default": [CONFIG]},
    "address_sources": {
        "type": "list",
        "elements": "str",
        "choices": [AGENT, LEASE, ARP],
        "default": [AGENT, LEASE, ARP],
    },
}


class DomainInfoJob(Job[Tuple[Seen, ...]]):
    """Reads; there is never a step."""

    def __init__(self, hv: Hypervisor, params: Mapping[str, Any]) -> None:
        self.hv, self.names, self.gather = hv, params["names"], params["gather"]
        self.sources = params["address_sources"]

    def observe(self) -> Tuple[Seen, ...]:
        live = PENDING in self.gather or ADDRESSES in self.gather
        config = CONFIG in self.gather or PENDING in self.gather
        seen = see_all(self.hv, self.names, config, STATS in self.gather, live)
        if ADDRESSES not in self.gather:
            return seen
        with ThreadPoolExecutor(max_workers=READERS) as pool:
            return tuple(pool.map(lambda each: with_addresses(self.hv, each, self.sources), seen))

    def plan(self, found: Tuple[Seen, ...]) -> Plan:
        return Plan()

    def report(self, plan: Plan, found: Tuple[Seen, ...], outcome: Any) -> Mapping[str, Any]:
        there = {seen.name for seen in found}
        return {
            "domains": [self._result(seen) for seen in found],
            "missing": sorted(set(self.names or ()) - there),
        }

    def _result(self, seen: Seen) -> Dict[str, Any]:
        result = dict(name=seen.name, uuid=seen.uuid, **status_result(seen.status))
        if seen.config is not None and CONFIG in self.gather:
            result.update(domain_result(seen.config, seen.status))
        if STATS in self.gather:
            result["stats"] = stats_result(seen.figures)
        if ADDRESSES in self.gather:
            result["addresses"] = [dict(address) for address in seen.addresses]
        if PENDING in self.gather and seen.config is not None:
            result["pending"] = pending_changes(seen.config, seen.live)
        return result


@contextlib.contextmanager
def _open(params: Mapping[str, Any]) -> Iterator[DomainInfoJob]:
    with connect(params["uri"]) as hv:
        yield DomainInfoJob(hv, params)


def main() -> None:
    tell(Sentence(options=OPTIONS, open=_open))
