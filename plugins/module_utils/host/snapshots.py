# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Snapshots: list, take, go back, delete; and bring libvirt's records of them to another host."""

from __future__ import annotations

import os
from typing import Any, List, NamedTuple, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host.domains import side_of
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import flag, said
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.snapshot import Snapshot
from ansible_collections.kvmops.fleet.plugins.module_utils.model.snapshot_xml import new_files, read_snapshot


class Record(NamedTuple):
    """xml: the whole record with its secrets, only to be defined again. current: the one that the guest builds on."""

    name: str
    xml: str
    current: bool


def names(dom: Any) -> Tuple[Tuple[str, ...], Tuple[str, ...]]:
    """(all, parents first; those whose data or memory is outside of the images)."""
    with said("list the snapshots of domain %s" % dom.name(), side_of(dom)):
        every = dom.listAllSnapshots(flag("VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL"))
        outside = dom.listAllSnapshots(flag("VIR_DOMAIN_SNAPSHOT_LIST_EXTERNAL"))
    return tuple(one.getName() for one in every), tuple(sorted(one.getName() for one in outside))


def records(dom: Any) -> List[Record]:
    """Every record, parents first."""
    with said("read the snapshots of domain %s" % dom.name(), side_of(dom)):
        return [
            Record(one.getName(), one.getXMLDesc(flag("VIR_DOMAIN_SNAPSHOT_XML_SECURE")), bool(one.isCurrent()))
            for one in dom.listAllSnapshots(flag("VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL"))
        ]


def redefine(dom: Any, wanted: List[Record]) -> None:
    """Give the domain these records. Raises HostError unless all are there afterwards, with the same current one."""
    attempted = "define the snapshots of domain %s" % dom.name()
    with said(attempted, side_of(dom)):
        for one in wanted:
            how = ["VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE"]
            how += ["VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT"] if one.current else []
            dom.snapshotCreateXML(one.xml, flag(*how))
    there = [(one.name, one.current) for one in records(dom)]
    if sorted(there) != sorted((one.name, one.current) for one in wanted):
        raise HostError(attempted, side_of(dom), "there are %s afterwards" % there, "Run again.")


def read_all(dom: Any) -> Tuple[Snapshot, ...]:
    """Parents first."""
    with said("read the snapshots of domain %s" % dom.name(), side_of(dom)):
        every = dom.listAllSnapshots(flag("VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL"))
        return tuple(read_snapshot(one.getXMLDesc(0), bool(one.isCurrent())) for one in every)


def take(dom: Any, xml: str, external: bool, quiesce: bool) -> None:
    """All disks or none. Nobody else may read the files that the guest writes to afterwards (CVE-2025-13193)."""
    flags = ["VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC"]
    flags += ["VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY"] if external else []
    flags += ["VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE"] if quiesce else []
    with said("take a snapshot of domain %s" % dom.name(), side_of(dom)):
        made = dom.snapshotCreateXML(xml, flag(*flags)).getXMLDesc(0)
    for path in new_files(made):
        # Not there: the daemon is on another machine.
        if os.path.isfile(path):
            os.chmod(path, 0o600)


def revert(dom: Any, name: str) -> None:
    with said("revert domain %s to snapshot %s" % (dom.name(), name), side_of(dom)):
        dom.revertToSnapshot(dom.snapshotLookupByName(name, 0), 0)


def delete(dom: Any, name: str) -> None:
    """Those that build on it build on its parent then."""
    with said("delete snapshot %s of domain %s" % (name, dom.name()), side_of(dom)):
        dom.snapshotLookupByName(name, 0).delete(0)
