# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kvm_domain with `domains`: many domains of one host, on one connection."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.kvmops.fleet.plugins.module_utils.host import capabilities
from ansible_collections.kvmops.fleet.plugins.module_utils.host.domains_at_once import remembered
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_found import DomainFound, HostView
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import Wanted
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import KvmError, RequestError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Plan
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain import plan_domain
from ansible_collections.kvmops.fleet.plugins.module_utils.run.domain_hands import take
from ansible_collections.kvmops.fleet.plugins.module_utils.run.domain_observe import look, look_at_host
from ansible_collections.kvmops.fleet.plugins.module_utils.run.sentence import Job, failure

# Of the task as a whole; all others are of a domain.
OF_THE_TASK = ("uri", "domains", "parallel")
# Reading is waiting for the daemon, which answers several at a time.
READERS = 4


@dataclass
class Member:
    """One domain of the set. failed: what stands against it, or went wrong; the others go on."""

    wanted: Wanted
    found: Optional[DomainFound] = None
    plan: Plan = field(default_factory=Plan)
    failed: Optional[KvmError] = None


def read_set(
    params: Mapping[str, Any], options: Mapping[str, Any], wanted_of: Callable[[Mapping[str, Any]], Wanted]
) -> List[Wanted]:
    """What each entry wants; what it does not say, the task says. Raises RequestError with the problems of all entries."""
    spec = {
        name: {key: value for key, value in about.items() if key not in ("default", "required")}
        for name, about in options.items()
        if name not in OF_THE_TASK
    }
    shared = {name: params[name] for name in spec if name != "name"}
    problems, wanted = [], []
    for number, entry in enumerate(params["domains"]):
        checked = ArgumentSpecValidator(spec).validate(entry)
        given = {name: value for name, value in checked.validated_parameters.items() if value is not None}
        where = "domains[%d] (%s)" % (number, given.get("name", "no name"))
        found = list(checked.error_messages) + ([] if given.get("name") else ["name is missing; give one"])
        if not found:
            try:
                wanted.append(wanted_of(dict(shared, **given)))
            except RequestError as error:
                found = list(error.problems)
        problems += ["%s: %s" % (where, problem) for problem in found]
    names = [one.name for one in wanted]
    problems += ["domains names %s more than once" % name for name in sorted(set(names)) if names.count(name) > 1]
    if params["parallel"] < 1:
        problems.append("parallel is %d; give at least 1" % params["parallel"])
    if problems:
        raise RequestError(problems)
    return wanted


class DomainSetJob(Job[List[Member]]):
    """report_of: what one domain's result holds beside what all have."""

    def __init__(
        self,
        hv: Hypervisor,
        wanted: Sequence[Wanted],
        parallel: int,
        report_of: Callable[[Hypervisor, Wanted, Plan, Optional[DomainFound], Any], Mapping[str, Any]],
    ) -> None:
        self.hv, self.wanted, self.parallel, self.report_of = hv, wanted, parallel, report_of
        self._kvm_works: Optional[bool] = None
        self._asking = threading.Lock()
        self._seen = hv

    def observe(self) -> List[Member]:
        host = look_at_host(self.hv)
        self._seen = remembered(self.hv)
        members = [Member(wanted) for wanted in self.wanted]
        self._each(members, READERS, lambda member: self._look(member, host))
        return members

    def _look(self, member: Member, host: HostView) -> None:
        member.found = look(self._seen, member.wanted, host, self._works)
        member.plan = plan_domain(member.wanted, member.found)

    def _works(self) -> bool:
        """Whether guests boot under KVM here, tried once."""
        with self._asking:
            if self._kvm_works is None:
                self._kvm_works = capabilities.kvm_works(self.hv)
            return self._kvm_works

    def plan(self, found: List[Member]) -> Plan:
        steps = [
            replace(step, words="%s: %s" % (member.wanted.name, step.words))
            for member in found
            for step in member.plan.steps
        ]
        changed = [member for member in found if member.plan.changes]
        return Plan(
            tuple(steps),
            before={member.wanted.name: member.plan.before for member in changed},
            after={member.wanted.name: member.plan.after for member in changed},
            warnings=tuple(
                "%s: %s" % (member.wanted.name, words) for member in found for words in member.plan.warnings
            ),
        )

    def apply(self, plan: Plan, found: List[Member]) -> bool:
        """In the order of the task, so many at a time."""
        ready = [member for member in found if member.failed is None and member.plan.changes]
        self._each(ready, self.parallel, self._take)
        return True

    def _take(self, member: Member) -> None:
        if member.found is not None:
            take(self.hv, member.wanted, member.plan, member.found)

    @staticmethod
    def _each(members: Sequence[Member], at_a_time: int, do: Callable[[Member], None]) -> None:
        def one(member: Member) -> None:
            try:
                do(member)
            except KvmError as error:
                member.failed = error

        with ThreadPoolExecutor(max_workers=at_a_time) as pool:
            list(pool.map(one, members))

    def report(self, plan: Plan, found: List[Member], outcome: Any) -> Mapping[str, Any]:
        told: List[Dict[str, Any]] = []
        warnings: List[str] = []
        for member in found:
            result, more = self._result(member, outcome)
            told.append(result)
            warnings += ["%s: %s" % (member.wanted.name, words) for words in more]
        failed = [result for result in told if result["failed"]]
        report: Dict[str, Any] = {"domains": told, "warnings": warnings}
        if failed:
            words = ["%s: %s" % (result["name"], result["msg"]) for result in failed]
            report["failed"] = True
            report["msg"] = "%d of %d domains are not as described. %s" % (len(failed), len(told), " | ".join(words))
        return report

    def _result(self, member: Member, outcome: Any) -> Tuple[Dict[str, Any], Sequence[str]]:
        result: Dict[str, Any] = {
            "name": member.wanted.name,
            "changed": member.plan.changes,
            "steps": list(member.plan.words),
            "failed": member.failed is not None,
        }
        if member.failed is not None:
            result.update(failure(member.failed))
        # Nothing was done to this one, so it is as it was seen.
        hv = self._seen if member.failed is None and not member.plan.changes else self.hv
        done = outcome and member.failed is None
        extra = dict(self.report_of(hv, member.wanted, member.plan, member.found, done))
        more: Sequence[str] = extra.pop("warnings", ())
        result.update(extra)
        return result, more
