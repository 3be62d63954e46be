# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the options of kvm_migrate to a Wish, or all that is wrong with them."""

from __future__ import annotations

import re
from typing import Any, List, Mapping
from urllib.parse import urlsplit

from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import RequestError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.migration import Wish
from ansible_collections.kvmops.fleet.plugins.module_utils.model.names import name_problems
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.policies import said
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.probe_request import read_probe
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.redirect import map_problems
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.schedule_request import (
    MAX_DOWNTIME_MS,
    schedule_problems,
)

# A host name or address as it may stand in a URI; nothing that ssh could take for an option.
_HOST = re.compile(r"^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9])?$|^\[?[0-9a-fA-F:]+\]?$")
_POSITIVE = ("max_downtime_ms", "bandwidth_mib_s", "timeout_s", "link_mib_s")


def read_wish(params: Mapping[str, Any]) -> Wish:
    """Raises RequestError with every problem at once."""
    problems = name_problems("name", params["name"])
    host, dest_uri = params.get("host"), params.get("dest_uri")
    if not host and not dest_uri:
        problems.append("host and dest_uri are both missing; name the destination with one of them")
    problems += _host_problems(host) + _uri_problems(dest_uri)
    problems += _host_problems(params.get("tls_destination"), "tls_destination")
    problems += [
        "%s is %s; give a number above 0" % (option, params[option])
        for option in _POSITIVE
        if params.get(option) is not None and params[option] <= 0
    ]
    if (params.get("max_downtime_ms") or 0) > MAX_DOWNTIME_MS:
        problems.append("max_downtime_ms is %s; QEMU takes at most %s" % (params["max_downtime_ms"], MAX_DOWNTIME_MS))
    else:
        problems += schedule_problems(params["policy"], params.get("schedule"), params.get("max_downtime_ms"))
    probe, probe_problems = read_probe(params.get("probe"))
    problems += probe_problems
    problems += map_problems("network_map", params.get("network_map")) + map_problems(
        "pool_map", params.get("pool_map")
    )
    if problems:
        raise RequestError(problems)
    plain = "qemu+tls://%s/system" if params.get("tls") else "qemu+ssh://root@%s/system"
    uri = dest_uri or plain % _bracketed(host or "")
    return Wish(
        name=params["name"],
        host=host or urlsplit(uri).hostname or uri,
        dest_uri=uri,
        migrate_uri=params.get("migrate_uri") or _data_uri(uri),
        mode=params["mode"],
        storage=params["storage"],
        max_downtime_ms=params.get("max_downtime_ms"),
        bandwidth_mib_s=params.get("bandwidth_mib_s"),
        timeout_s=params.get("timeout_s"),
        on_timeout=params["on_timeout"],
        tls=params.get("tls"),
        # By that name libvirt itself is reached, and its certificate was checked against it.
        tls_destination=params.get("tls_destination") or urlsplit(uri).hostname,
        keep_source=params.get("keep_source") or "nothing",
        snapshots=params.get("snapshots") or "refuse",
        probe=probe,
        network_map=dict(params.get("network_map") or {}),
        pool_map=dict(params.get("pool_map") or {}),
        policy=params["policy"],
        schedule=said(params.get("schedule")),
        allow_postcopy=params["allow_postcopy"],
        link_mib_s=params.get("link_mib_s"),
    )


def _host_problems(host: Any, option: str = "host") -> List[str]:
    if host and not _HOST.match(host):
        return ["%s is %r; give a plain host name or address, or a whole URI in dest_uri" % (option, host)]
    return []


def _uri_problems(uri: Any) -> List[str]:
    if not uri:
        return []
    parts = urlsplit(uri)
    if not parts.scheme.startswith("qemu") or not parts.hostname:
        return ["dest_uri is %r; give one that names another host, such as qemu+ssh://root@kvm2/system" % uri]
    return _host_problems(parts.hostname)


def _bracketed(host: str) -> str:
    return "[%s]" % host if ":" in host and not host.startswith("[") else host


def _data_uri(uri: str) -> str:
    """Memory and disks go to the same name that the destination is reached by, not to what it calls itself."""
    return "tcp://%s" % _bracketed(urlsplit(uri).hostname or "")
