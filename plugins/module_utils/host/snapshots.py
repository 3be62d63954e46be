# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""libvirt's records of snapshots: list them, and bring them to another host. Their data is inside the images."""

from __future__ import annotations

from typing import Any, List, NamedTuple, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host.domains import side_of
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import flag, said
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError


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
