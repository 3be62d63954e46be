# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventory plugin kvm: many hypervisors read at once."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import domain_list, guest_addresses, libvirt_api
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor, connect
from ansible_collections.kvmops.fleet.plugins.module_utils.model import safe_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import ACTIVE_STATES
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_result import domain_result
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import KvmError

Records = List[Dict[str, Any]]


@dataclass(frozen=True)
class Ask:
    """How to read. addresses: sources in order of trust, none for no addresses."""

    timeout_s: float
    addresses: Sequence[str] = ()


def missing_libraries() -> List[str]:
    """Names of Python packages that the controller lacks."""
    missing = []
    if libvirt_api.libvirt is None:
        missing.append("libvirt-python")
    if safe_xml.etree is None:
        missing.append("lxml")
    return missing


def read_all(uris: Mapping[str, str], ask: Ask) -> Tuple[Dict[str, Records], Dict[str, str]]:
    """The domains of each host that answers, and the reason of each that does not.

    All are asked at the same time, and none is waited for longer than ask.timeout_s: an ssh that finds no way would take
    minutes to say so.
    """
    libvirt_api.start_event_loop()
    records: Dict[str, Records] = {}
    failures: Dict[str, str] = {}

    def read(host: str, uri: str) -> None:
        try:
            records[host] = _read(host, uri, ask)
        except KvmError as error:
            failures[host] = str(error)
        except Exception as error:  # A thread has nobody else to tell.
            failures[host] = "Could not read the domains of %s: %s: %s" % (host, type(error).__name__, error)

    threads = {
        host: threading.Thread(target=read, args=(host, uri), name="read-%s" % host, daemon=True)
        for host, uri in uris.items()
    }
    for thread in threads.values():
        thread.start()
    end = time.monotonic() + ask.timeout_s
    for thread in threads.values():
        thread.join(max(0.0, end - time.monotonic()))
    answered, refused = dict(records), dict(failures)
    for host in uris:
        if host not in answered and host not in refused:
            words = "Could not read the domains of %s: no answer within %g s. Check that it is up, or raise timeout_s."
            refused[host] = words % (host, ask.timeout_s)
    return answered, refused


def _read(host: str, uri: str, ask: Ask) -> Records:
    # The agent is the one that needs a connection which may write.
    readonly = guest_addresses.AGENT not in ask.addresses
    with connect(without_questions(uri), side=host, readonly=readonly) as hv:
        seen = domain_list.see_all(hv)
        found = [domain_result(each.config, each.status) for each in seen if each.config is not None]
        if ask.addresses:
            for record in found:
                record["addresses"] = _addresses(hv, record, ask.addresses)
        return found


def without_questions(uri: str) -> str:
    """The URI, with ssh told to fail where it would ask on the terminal: many are asked at the same time."""
    if "+ssh:" not in uri or "no_tty=" in uri:
        return uri
    return uri + ("&" if "?" in uri else "?") + "no_tty=1"


def _addresses(hv: Hypervisor, record: Mapping[str, Any], sources: Sequence[str]) -> Sequence[Mapping[str, Any]]:
    if record["state"] not in ACTIVE_STATES:
        return []
    try:
        dom = hv.conn.lookupByUUIDString(record["uuid"])
    except libvirt_api.libvirt.libvirtError:
        return []
    return guest_addresses.addresses_of(dom, sources)
