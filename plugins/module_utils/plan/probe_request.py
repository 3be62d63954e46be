# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the option `probe` of kvm_migrate to a Probe, or all that is wrong with it."""

from __future__ import annotations

import re
from typing import Any, List, Mapping, Optional, Tuple
from urllib.parse import urlsplit

from ansible_collections.kvmops.fleet.plugins.module_utils.model.probe import AGENT, DESTINATION, HTTP, ICMP, TCP, Probe

# Short enough to see a pause of tens of milliseconds, long enough not to be a load; the agent answers one at a time.
INTERVAL_MS = {ICMP: 20, TCP: 20, HTTP: 50, AGENT: 100}
# Below, the sender's own delays would be what is measured.
LEAST_INTERVAL_MS = 5
# Requests that may wait for an answer at one time.
MOST_WAITING = 500
MOST_TIMEOUT_MS = 60_000
MOST_WINDOW_S = 600
AGENT_TIMEOUT_MS = 1000

_HOST = re.compile(r"^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9])?$|^[0-9a-fA-F:]+(%[A-Za-z0-9._-]+)?$")
# What belongs to which type; the rest of the options belongs to all.
_ONLY = {"port": (TCP,), "send": (TCP,), "expect": (TCP, HTTP), "url": (HTTP,), "address": (TCP, ICMP)}


def read_probe(given: Optional[Mapping[str, Any]]) -> Tuple[Optional[Probe], List[str]]:
    """(the probe, or None when none is wanted or it cannot be meant; what is wrong, each with option, value and remedy)."""
    if not given:
        return None, []
    problems = _strangers(given) + _whom_problems(given) + _number_problems(given)
    if problems:
        return None, problems
    kind = given["type"]
    url = urlsplit(given.get("url") or "")
    path = (url.path or "/") + ("?" + url.query if url.query else "")
    return (
        Probe(
            type=kind,
            address=url.hostname if kind == HTTP else given.get("address"),
            port=(url.port or 80) if kind == HTTP else given.get("port"),
            path=path,
            send=given.get("send"),
            expect=given.get("expect"),
            interval_ms=_said(given, "interval_ms", INTERVAL_MS[kind]),
            timeout_ms=_said(given, "timeout_ms", AGENT_TIMEOUT_MS if kind == AGENT else 1000),
            sender=_said(given, "from", "source"),
            before_s=float(_said(given, "before_s", 2)),
            after_s=float(_said(given, "after_s", 2)),
        ),
        [],
    )


def _said(given: Mapping[str, Any], option: str, otherwise: Any) -> Any:
    return otherwise if given.get(option) is None else given[option]


def _strangers(given: Mapping[str, Any]) -> List[str]:
    """Options of another type: they would be ignored, and the user would not know."""
    kind = given["type"]
    problems = [
        "probe.%s does not go with probe.type %s; it is for %s. Leave it out" % (option, kind, " and ".join(kinds))
        for option, kinds in _ONLY.items()
        if given.get(option) is not None and kind not in kinds
    ]
    if kind == AGENT and given.get("from") == DESTINATION:
        problems.append("probe.from is destination; the agent is asked where the guest is. Leave it out")
    if given.get("send") is not None and given.get("from") == DESTINATION:
        problems.append(
            "probe.send does not go with probe.from destination; its ssh gate passes no text on. Leave it out"
        )
    return problems


def _whom_problems(given: Mapping[str, Any]) -> List[str]:
    kind, problems = given["type"], []
    if kind in (TCP, ICMP):
        address = given.get("address")
        if not address:
            problems.append("probe.address is missing; give the guest's address, or a name that resolves to it")
        elif not _HOST.match(address):
            problems.append("probe.address is %r; give a plain host name or address" % address)
    if kind == TCP and given.get("port") is None:
        problems.append("probe.port is missing; give one that the guest listens on")
    if given.get("port") is not None and not 0 < given["port"] < 65536:
        problems.append("probe.port is %s; give a number from 1 to 65535" % given["port"])
    return problems + (_http_problems(given) if kind == HTTP else [])


def _http_problems(given: Mapping[str, Any]) -> List[str]:
    url, problems = given.get("url"), []
    if not _plain_url(url or ""):
        problems.append(
            "probe.url is %r; give one such as http://10.0.0.5/health. For TLS, probe its port with tcp" % url
        )
    expect = given.get("expect")
    if expect is not None and not re.match(r"^[1-5][0-9][0-9]$", expect):
        problems.append("probe.expect is %r; for http give the status, such as '200'" % expect)
    return problems


def _plain_url(url: str) -> bool:
    """One that fits into a request line as it is."""
    if not re.match(r"^http://[!-~]+$", url):
        return False
    try:
        parts = urlsplit(url)
        return bool(parts.hostname and _HOST.match(parts.hostname)) and not parts.username and parts.port != 0
    except ValueError:
        return False


def _number_problems(given: Mapping[str, Any]) -> List[str]:
    kind, problems = given["type"], []
    interval = _said(given, "interval_ms", INTERVAL_MS[kind])
    timeout = _said(given, "timeout_ms", 1000)
    if not LEAST_INTERVAL_MS <= interval <= 10_000:
        problems.append("probe.interval_ms is %s; give %d to 10000" % (interval, LEAST_INTERVAL_MS))
    elif not 1 <= timeout <= MOST_TIMEOUT_MS:
        problems.append("probe.timeout_ms is %s; give 1 to %d" % (timeout, MOST_TIMEOUT_MS))
    elif timeout > interval * MOST_WAITING:
        problems.append(
            "probe.timeout_ms is %s; give at most %d times interval_ms (%s)" % (timeout, MOST_WAITING, interval)
        )
    if kind == AGENT and timeout % 1000:
        problems.append("probe.timeout_ms is %s; libvirt waits for the agent in whole seconds" % timeout)
    for option in ("before_s", "after_s"):
        length = _said(given, option, 2)
        if not 0.5 <= length <= MOST_WINDOW_S:
            problems.append("probe.%s is %s; give 0.5 to %d" % (option, length, MOST_WINDOW_S))
    return problems
