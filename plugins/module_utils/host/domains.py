# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading domains, on any URI. Nothing here changes one; see host/lifecycle.py for that."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import libvirt_api
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor, flag, is_error, said
from ansible_collections.kvmops.fleet.plugins.module_utils.model import domain as states
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Domain, DomainStatus
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_xml import read_domain

NO_DOMAIN = ["VIR_ERR_NO_DOMAIN"]
_NOT_THERE = ["VIR_ERR_NO_SUPPORT", "VIR_ERR_OPERATION_UNSUPPORTED", "VIR_ERR_OPERATION_INVALID"]

_STATES = {
    "VIR_DOMAIN_NOSTATE": states.NOSTATE,
    "VIR_DOMAIN_RUNNING": states.RUNNING,
    # libvirt's "blocked" is a running domain that waits for a resource.
    "VIR_DOMAIN_BLOCKED": states.RUNNING,
    "VIR_DOMAIN_PAUSED": states.PAUSED,
    "VIR_DOMAIN_SHUTDOWN": states.SHUTTING_DOWN,
    "VIR_DOMAIN_SHUTOFF": states.SHUTOFF,
    "VIR_DOMAIN_CRASHED": states.CRASHED,
    "VIR_DOMAIN_PMSUSPENDED": states.SUSPENDED,
}
_JOBS = {
    "VIR_DOMAIN_JOB_OPERATION_START": "start",
    "VIR_DOMAIN_JOB_OPERATION_SAVE": "save",
    "VIR_DOMAIN_JOB_OPERATION_RESTORE": "restore",
    "VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN": "migration_in",
    "VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT": "migration_out",
    "VIR_DOMAIN_JOB_OPERATION_SNAPSHOT": "snapshot",
    "VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_REVERT": "snapshot_revert",
    "VIR_DOMAIN_JOB_OPERATION_DUMP": "dump",
    "VIR_DOMAIN_JOB_OPERATION_BACKUP": "backup",
}

# Why a guest is in its state, when a migration did it: libvirt's numbers (virDomainPausedReason, virDomainRunningReason).
_REASONS = {
    (states.PAUSED, 2): states.MIGRATION,
    (states.PAUSED, 12): states.POSTCOPY,
    (states.PAUSED, 13): states.POSTCOPY_FAILED,
    (states.RUNNING, 10): states.POSTCOPY,
    (states.RUNNING, 11): states.POSTCOPY_FAILED,
}


def find(hv: Hypervisor, name: str) -> Optional[Any]:
    """The virDomain of that name, or None."""
    with said("look for domain %s" % name, hv.side):
        try:
            return hv.conn.lookupByName(name)
        except libvirt_api.libvirt.libvirtError as error:
            if is_error(error, NO_DOMAIN):
                return None
            raise


def find_by_uuid(hv: Hypervisor, uuid: str) -> Optional[Any]:
    """The virDomain with that UUID, or None."""
    with said("look for the domain with UUID %s" % uuid, hv.side):
        try:
            return hv.conn.lookupByUUIDString(uuid)
        except libvirt_api.libvirt.libvirtError as error:
            if is_error(error, NO_DOMAIN):
                return None
            raise


def every(hv: Hypervisor) -> Tuple[Any, ...]:
    """All virDomains, by name."""
    with said("list domains", hv.side):
        return tuple(sorted(hv.conn.listAllDomains(0), key=lambda handle: handle.name()))


def active(hv: Hypervisor) -> Tuple[Any, ...]:
    """The domains that run or stand still at this moment."""
    with said("list domains", hv.side):
        return tuple(hv.conn.listAllDomains(flag("VIR_CONNECT_LIST_DOMAINS_ACTIVE")))


def read_every(hv: Hypervisor) -> Tuple[Domain, ...]:
    """The configuration of every domain, running ones as they run."""
    found = []
    for dom in every(hv):
        with said("read the configuration of a domain", hv.side), gone_is_fine():
            found.append(read_domain(dom.XMLDesc(0)))
    return tuple(found)


def state_word(number: int) -> str:
    """libvirt's state number as one of the words of model/domain.py."""
    for constant, word in _STATES.items():
        if getattr(libvirt_api.libvirt, constant, None) == number:
            return word
    return states.NOSTATE


def status(dom: Any) -> DomainStatus:
    """What the domain is doing now. Raises HostError when it is gone."""
    with said("read the state of domain %s" % dom.name(), side_of(dom)):
        state, why = _state(dom)
        persistent = bool(dom.isPersistent())
        number = dom.ID()
        return DomainStatus(
            state=state,
            persistent=persistent,
            autostart=bool(dom.autostart()) if persistent else False,
            managed_save=bool(_or_zero(lambda: dom.hasManagedSaveImage(0))),
            snapshots=int(_or_zero(lambda: dom.snapshotNum(0))),
            checkpoints=len(_or_zero(lambda: dom.listAllCheckpoints(0)) or ()),
            job=job(dom) if number >= 0 else None,
            id=number if number >= 0 else None,
            reason=why,
        )


def _state(dom: Any) -> Tuple[str, Optional[str]]:
    number, why = dom.state()[:2]
    word = state_word(number)
    return word, _REASONS.get((word, why))


def reason(dom: Any) -> Optional[str]:
    """DomainStatus.reason alone, without waiting for a job that keeps the domain; None too when it is gone."""
    try:
        return _state(dom)[1]
    except libvirt_api.libvirt.libvirtError:
        return None


def _or_zero(call: Any) -> Any:
    """The call's answer, or 0 where this driver does not have such things."""
    try:
        return call()
    except libvirt_api.libvirt.libvirtError as error:
        if is_error(error, _NOT_THERE):
            return 0
        raise


def job(dom: Any) -> Optional[str]:
    """Name of the libvirt job that runs on an active domain, or None."""
    stats = _or_zero(lambda: dom.jobStats(0)) or {}
    if stats.get("type", 0) == flag("VIR_DOMAIN_JOB_NONE"):
        return None
    for constant, word in _JOBS.items():
        if getattr(libvirt_api.libvirt, constant, None) == stats.get("operation"):
            return word
    return "unknown"


def read(dom: Any, inactive: bool = True) -> Tuple[Domain, str]:
    """The configuration and its XML: the next boot's, or the live one. Without secrets.

    A transient domain has no inactive configuration; its live one is given.
    """
    with said("read the configuration of domain %s" % dom.name(), side_of(dom)):
        flags = flag("VIR_DOMAIN_XML_INACTIVE") if inactive and dom.isPersistent() else 0
        xml = dom.XMLDesc(flags)
    return read_domain(xml, "XML of domain %s" % dom.name()), xml


def live_xml(dom: Any, as_given: bool = False) -> str:
    """The XML of the running domain. as_given: in the terms of a definition, fit to be given back to libvirt.

    For a card on a network, say, the running one shows the bridge that the network came to.
    """
    with said("read the running configuration of domain %s" % dom.name(), side_of(dom)):
        return str(dom.XMLDesc(flag("VIR_DOMAIN_XML_MIGRATABLE") if as_given else 0))


def read_with_secrets(dom: Any) -> str:
    """The inactive XML with its passwords, only to be defined again: never into a diff, a log or a result."""
    with said("read the configuration of domain %s" % dom.name(), side_of(dom)):
        return str(dom.XMLDesc(flag("VIR_DOMAIN_XML_INACTIVE", "VIR_DOMAIN_XML_SECURE")))


def side_of(dom: Any) -> str:
    """The URI the domain lives on, for messages."""
    with contextlib.suppress(libvirt_api.libvirt.libvirtError):
        return str(dom.connect().getURI())
    return "the hypervisor"


@contextlib.contextmanager
def gone_is_fine() -> Iterator[None]:
    """Inside the block a domain that ceased to exist is no error."""
    try:
        yield
    except libvirt_api.libvirt.libvirtError as error:
        if not is_error(error, NO_DOMAIN):
            raise
