# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kvm_domain_info: read domains."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, Mapping, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host.domain_list import Seen, see_all
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor, connect
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_result import domain_result, status_result
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_stats import stats_result
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan
from ansible_collections.kvmops.fleet.plugins.module_utils.run.sentence import Job, Sentence, tell

CONFIG = "config"
STATS = "stats"

OPTIONS: Dict[str, Any] = {
    "names": {"type": "list", "elements": "str"},
    "gather": {"type": "list", "elements": "str", "choices": [CONFIG, STATS], "default": [CONFIG]},
}


class DomainInfoJob(Job[Tuple[Seen, ...]]):
    """Reads; there is never a step."""

    def __init__(self, hv: Hypervisor, params: Mapping[str, Any]) -> None:
        self.hv, self.names, self.gather = hv, params["names"], params["gather"]

    def observe(self) -> Tuple[Seen, ...]:
        return see_all(self.hv, self.names, CONFIG in self.gather, STATS in self.gather)

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
        if seen.config is not None:
            result.update(domain_result(seen.config, seen.status))
        if STATS in self.gather:
            result["stats"] = stats_result(seen.figures)
        return result


@contextlib.contextmanager
def _open(params: Mapping[str, Any]) -> Iterator[DomainInfoJob]:
    with connect(params["uri"]) as hv:
        yield DomainInfoJob(hv, params)


def main() -> None:
    tell(Sentence(options=OPTIONS, open=_open))
