# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The domain of a copied machine: the options of kvm_domain, filled in from the source, and kvm_domain's own plan and hands."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import domains, echoes, here
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_result import domain_result
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_wanted import PRESENT, Wanted
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.fixup import Card
from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v_vm import VmFound, VmWish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.steps import Step
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain import plan_domain
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_request import wanted_domain
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.p2v_vm import addresses_of, domain_params, is_flat
from ansible_collections.kvmops.fleet.plugins.module_utils.run.domain_hands import take
from ansible_collections.kvmops.fleet.plugins.module_utils.run.domain_observe import look

AGENT_CHANNEL = "org.qemu.guest_agent.0"
LISTEN_S = 1.0
# The source was seen to go off, or was left long ago: whoever answers for longer than this is there to stay.
SILENT_WITHIN_S = 15.0


class VmDomain:
    """cards: of the source. bridges: of this host."""

    def __init__(self, wish: VmWish, hv: Optional[Hypervisor]) -> None:
        self.wish, self._hv = wish, hv
        self.cards: Tuple[Card, ...] = ()
        self.bridges: Tuple[str, ...] = (here.bridges_of(hv) or ()) if hv is not None else ()
        self.warnings: Tuple[str, ...] = ()

    def config(self) -> Optional[Domain]:
        """Of the domain of that name; None when there is none."""
        dom = domains.find(self._hv, self.wish.domain_name) if self._hv is not None else None
        return domains.read(dom)[0] if dom is not None else None

    def has_channel(self) -> bool:
        """Whether it can talk with a guest agent; a domain that is still to be made can."""
        wanted = self._hv is not None and self.wish.domain is not None
        dom = domains.find(self._hv, self.wish.domain_name) if wanted else None
        return dom is None or AGENT_CHANNEL in domains.read(dom)[1]

    def is_foreign(self, found: VmFound) -> bool:
        """Whether a domain of that name is there that is none of ours: it has other disks."""
        config = self.config() if self.wish.domain is not None else None
        ours = {path for disk in found.disks for path in (disk.overlay, disk.image)}
        return config is not None and not ours.intersection(disk.source or "" for disk in config.disks)

    def wanted(self, found: VmFound, state: str = PRESENT, anew: bool = False) -> Wanted:
        """The domain as kvm_domain would be asked for it. anew: as if there were none yet."""
        config = None if anew else self.config()
        params = domain_params(
            self.wish.domain or {},
            self.wish.name,
            found.disks,
            found.machine,
            (found.record or {}).get("equipment") or {},
            self.cards,
            self.bridges,
            is_flat(found),
            config is not None,
        )
        wanted = replace(wanted_domain(params), state=state)
        if config is not None and {disk.path for disk in wanted.disks or ()} <= {disk.source for disk in config.disks}:
            # It has them; which others it has is its owner's affair.
            return replace(wanted, disks=None)
        return wanted

    def steps(self, found: VmFound, known: bool) -> List[Step]:
        """kvm_domain's own. known: the disks are there as they will be. Raises PreflightError."""
        if self.wish.domain is None or self._hv is None:
            return []
        wanted = self.wanted(found, "running" if self.wish.starts else PRESENT)
        if known:
            plan = plan_domain(wanted, look(self._hv, wanted))
            self.warnings = plan.warnings
            return list(plan.steps)
        # What can be refused without the disks is refused before the copy begins. Their fix-up decides on the rest.
        plan = plan_domain(replace(wanted, disks=()), look(self._hv, replace(wanted, disks=())))
        self.warnings = plan.warnings
        defined = any(step.action == "define" for step in plan.steps)
        told = [Step("define", "define domain %s over them" % wanted.name)] if defined else []
        return told + [step for step in plan.steps if step.action == "start"]

    def define(self, found: VmFound) -> None:
        self._converge(self.wanted(found))

    def start(self, found: VmFound) -> None:
        """Raises HostError when somebody has its addresses."""
        dom = domains.find(self._hv, self.wish.domain_name) if self._hv is not None else None
        config = self.config()
        if config is not None and dom is not None and not domains.status(dom).active:
            self._insist_on_silence(addresses_of(self.cards, [nic.mac for nic in config.nics]))
        self._converge(self.wanted(found, "running"))

    def _insist_on_silence(self, addresses: Sequence[str]) -> None:
        latest = time.monotonic() + SILENT_WITHIN_S
        answering = echoes.answering(addresses, LISTEN_S)
        while answering and time.monotonic() < latest:
            answering = echoes.answering(answering, LISTEN_S)
        if answering:
            raise HostError(
                "start domain %s" % self.wish.domain_name,
                "this host",
                "somebody answers at %s, which the domain is to have" % ", ".join(answering),
                "Look whether the source was switched on again, or who else it is, and switch it off. Then run again: the "
                "images are finished, and the domain is defined.",
            )

    def _converge(self, wanted: Wanted) -> None:
        if self._hv is None:
            return
        seen = look(self._hv, wanted)
        plan = plan_domain(wanted, seen)
        take(self._hv, wanted, plan, seen)

    def result(self) -> Optional[Dict[str, Any]]:
        """As kvm_domain returns it; None when there is none."""
        wanted = self._hv is not None and self.wish.domain is not None
        dom = domains.find(self._hv, self.wish.domain_name) if wanted else None
        return None if dom is None else domain_result(domains.read(dom)[0], domains.status(dom))
