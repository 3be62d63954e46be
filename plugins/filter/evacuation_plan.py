# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Sequence

from ansible.errors import AnsibleFilterError

from ansible_collections.kvmops.fleet.plugins.module_utils.plan.placement import Guest, evacuation, room_of

DOCUMENTATION = r"""
name: evacuation_plan
short_description: Plan where the guests of a host go
version_added: 0.1.0
description:
  - Takes the domains of a host that is to be emptied, and what other hosts can hold.
  - The largest guest goes first, to the host with the most room left. Memory is the measure.
  - Nothing is read and nothing is changed.
positional: _input, hosts
options:
  _input:
    description: The C(domains) of P(kvmops.fleet.kvm_domain_info#module).
    type: list
    elements: dict
    required: true
  hosts:
    description: Host name to the C(host) of P(kvmops.fleet.kvm_host_info#module).
    type: dict
    required: true
  reserve_mib:
    description: Memory that stays free on every host, in MiB.
    type: int
    default: 512
author:
  - kvmops.fleet contributors (@kvmops)
"""

EXAMPLES = r"""
- name: Show where the guests would go
  ansible.builtin.debug:
    msg: "{{ guests.domains | kvmops.fleet.evacuation_plan({'kvm2': kvm2_info.host, 'kvm3': kvm3_info.host}) }}"
"""

RETURN = r"""
_value:
  description:
    - C(moves), a list of guests with C(name), C(to), C(mode), C(memory_mib) and C(reason), in the order to take them.
    - C(stays), a list of guests that fit nowhere, with C(name), C(memory_mib) and C(reason).
  type: dict
"""


def evacuation_plan(
    domains: Sequence[Mapping[str, Any]], hosts: Mapping[str, Mapping[str, Any]], reserve_mib: int = 512
) -> Dict[str, List[Dict[str, Any]]]:
    try:
        # A definition that was kept when its guest left is no guest.
        here = [domain for domain in domains if not domain.get("moved_to")]
        guests = [Guest(domain["name"], domain["state"], _most_mib(domain)) for domain in here]
        rooms = [
            room_of(
                name,
                int(host["memory_total_mib"]),
                int(host["memory_free_mib"]),
                int(host["memory_guests_max_mib"]),
                reserve_mib,
            )
            for name, host in hosts.items()
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise AnsibleFilterError(
            "evacuation_plan takes the domains of kvm_domain_info and {host: result of kvm_host_info}: %r" % error
        )
    plan: Dict[str, List[Dict[str, Any]]] = {"moves": [], "stays": []}
    for move in evacuation(guests, rooms):
        told = {"name": move.guest.name, "memory_mib": move.guest.memory_mib, "reason": move.reason}
        if move.to is None:
            plan["stays"].append(told)
        else:
            plan["moves"].append(dict(told, to=move.to, mode=move.guest.mode))
    return plan


def _most_mib(domain: Mapping[str, Any]) -> int:
    """It may claim all of it at any time."""
    return int(domain.get("max_memory_mib") or domain["memory_mib"])


class FilterModule:
    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"evacuation_plan": evacuation_plan}
