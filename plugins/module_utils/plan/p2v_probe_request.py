# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the option `probe` of kvm_p2v_image to a Probe, or all that is wrong with it."""

from __future__ import annotations

import ipaddress
from typing import Any, List, Mapping, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.p2v import FREEZE, POWEROFF, STOP
from ansible_collections.kvmops.fleet.plugins.module_utils.model.probe import Probe
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.probe_request import read_probe

# Two million requests, the most of one prober, are 55 hours of copying.
INTERVAL_MS = 100
ANSWER_TIMEOUT_S = 300.0
HOT = "hot"


def read_p2v_probe(params: Mapping[str, Any]) -> Tuple[Optional[Probe], float, List[str]]:
    """(the probe or None, seconds for which the guest's first answer is awaited, what is wrong)."""
    given = params.get("probe")
    if not given:
        return None, ANSWER_TIMEOUT_S, []
    interval = given.get("interval_ms")
    probe, problems = read_probe(dict(given, interval_ms=INTERVAL_MS if interval is None else interval))
    patience = given.get("answer_timeout_s")
    problems += _senseless(params, patience)
    if probe is not None and _is_here(probe.address or ""):
        problems.append(
            "probe.address is %s, which is the receiving host itself; give the machine's address" % probe.address
        )
    return probe, ANSWER_TIMEOUT_S if patience is None else patience, problems


def _senseless(params: Mapping[str, Any], patience: Optional[float]) -> List[str]:
    found = []
    if params["mode"] != HOT:
        why = "a look changes nothing" if params["mode"] == "gather" else "nothing of the machine serves meanwhile"
        found.append("probe is given and mode is %s: %s. Leave probe out" % (params["mode"], why))
    if patience is not None and patience <= 0:
        found.append("probe.answer_timeout_s is %s; give a number above 0" % patience)
    if patience is not None and not _has_successor(params):
        found.append(
            "probe.answer_timeout_s is given and no guest takes over in this run (cutover %s); leave it out, or start the guest "
            "by takeover or domain.state running" % params["cutover"]
        )
    return found


def _has_successor(params: Mapping[str, Any]) -> bool:
    if params["cutover"] in (FREEZE, STOP):
        return True
    return params["cutover"] == POWEROFF and (params.get("domain") or {}).get("state") == "running"


def _is_here(address: str) -> bool:
    """A loopback address, or none at all. Other names and addresses may be anybody's."""
    if address == "localhost":
        return True
    try:
        told = ipaddress.ip_address(address)
    except ValueError:
        return False
    return told.is_loopback or told.is_unspecified
