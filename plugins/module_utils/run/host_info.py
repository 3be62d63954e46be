# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kvm_host_info: read a host's capacity, capabilities, storage, networks and versions."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, Mapping

from ansible_collections.kvmops.fleet.plugins.module_utils.host import capabilities, here, pools
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor, connect
from ansible_collections.kvmops.fleet.plugins.module_utils.model import host_result
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan
from ansible_collections.kvmops.fleet.plugins.module_utils.run.sentence import Job, Sentence, tell

CAPACITY = "capacity"
CAPABILITIES = "capabilities"
POOLS = "pools"
VOLUMES = "volumes"
NETWORKS = "networks"

OPTIONS: Dict[str, Any] = {
    "gather": {
        "type": "list",
        "elements": "str",
        "choices": [CAPACITY, CAPABILITIES, POOLS, VOLUMES, NETWORKS],
        "default": [CAPACITY, CAPABILITIES, POOLS, NETWORKS],
    },
}


class HostInfoJob(Job[Dict[str, Any]]):
    """Reads; there is never a step."""

    def __init__(self, hv: Hypervisor, params: Mapping[str, Any]) -> None:
        self.hv, self.gather = hv, params["gather"]

    def observe(self) -> Dict[str, Any]:
        facts = capabilities.host_facts(self.hv)
        found = host_result.identity_result(facts)
        if CAPACITY in self.gather:
            found.update(host_result.capacity_result(facts))
        if CAPABILITIES in self.gather:
            works = capabilities.kvm_works(self.hv)
            offer = capabilities.domain_offer(self.hv, "kvm" if works else "qemu")
            found.update(host_result.capabilities_result(facts, offer, works))
        if POOLS in self.gather or VOLUMES in self.gather:
            found["pools"] = self._pools()
        if NETWORKS in self.gather:
            found["networks"] = host_result.listed(capabilities.list_networks(self.hv))
            found["bridges"] = list(here.bridges_of(self.hv) or ())
        return found

    def _pools(self) -> Any:
        listed = host_result.listed(pools.list_pools(self.hv))
        if VOLUMES in self.gather:
            for pool in listed:
                volumes = pools.list_volumes(self.hv, pool["name"]) if pool["active"] else ()
                pool["volumes"] = host_result.listed(volumes)
        return listed

    def plan(self, found: Dict[str, Any]) -> Plan:
        return Plan()

    def report(self, plan: Plan, found: Dict[str, Any], outcome: Any) -> Mapping[str, Any]:
        return {"host": found}


@contextlib.contextmanager
def _open(params: Mapping[str, Any]) -> Iterator[HostInfoJob]:
    with connect(params["uri"]) as hv:
        yield HostInfoJob(hv, params)


def main() -> None:
    tell(Sentence(options=OPTIONS, open=_open))
