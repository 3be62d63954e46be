# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""libvirt's bulk statistics (flat keys such as `block.0.rd.bytes`) as nested plain data."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

# What libvirt calls it -> what we call it.
_BLOCK = (
    ("name", "target"),
    ("path", "path"),
    ("rd.reqs", "read_requests"),
    ("rd.bytes", "read_bytes"),
    ("wr.reqs", "write_requests"),
    ("wr.bytes", "write_bytes"),
    ("fl.reqs", "flush_requests"),
    ("allocation", "allocation_bytes"),
    ("capacity", "capacity_bytes"),
    ("physical", "physical_bytes"),
)
_NET = (
    ("name", "target"),
    ("rx.bytes", "received_bytes"),
    ("rx.pkts", "received_packets"),
    ("rx.errs", "received_errors"),
    ("rx.drop", "received_dropped"),
    ("tx.bytes", "sent_bytes"),
    ("tx.pkts", "sent_packets"),
    ("tx.errs", "sent_errors"),
    ("tx.drop", "sent_dropped"),
)


def stats_result(record: Mapping[str, Any]) -> Dict[str, Any]:
    """One record of virConnectGetAllDomainStats. Values that libvirt does not give are None."""
    return {
        "cpu_time_ns": record.get("cpu.time"),
        "vcpus_online": record.get("vcpu.current"),
        "memory_current_mib": _mib(record.get("balloon.current")),
        "memory_host_mib": _mib(record.get("balloon.rss")),
        "disks": _group(record, "block", _BLOCK),
        "networks": _group(record, "net", _NET),
    }


def _mib(kib: Optional[int]) -> Optional[int]:
    return None if kib is None else int(kib) // 1024


def _group(record: Mapping[str, Any], group: str, names: Tuple[Tuple[str, str], ...]) -> List[Dict[str, Any]]:
    return [
        {ours: record.get("%s.%d.%s" % (group, index, theirs)) for theirs, ours in names}
        for index in range(int(record.get(group + ".count", 0)))
    ]
