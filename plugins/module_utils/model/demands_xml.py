# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a domain's XML asks of its host, into model/hosting.py's Demands."""

from __future__ import annotations

from typing import Dict, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model import safe_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.hosting import Demands
from ansible_collections.kvmops.fleet.plugins.module_utils.model.safe_xml import Element, attributes
from ansible_collections.kvmops.fleet.plugins.module_utils.model.sizes import in_kib

# What x86 hosts use when nothing else was chosen at boot (default_hugepagesz).
DEFAULT_PAGE_KIB = 2048
_EVERYWHERE = frozenset(["", "0.0.0.0", "::", "::1", "localhost"])


def read_demands(xml: str) -> Demands:
    """Of one <domain>, as libvirt prints it."""
    root = safe_xml.parse(xml, "domain XML")
    topology = root.find("cpu/topology")
    return Demands(
        watchdogs=tuple(attributes(root, "devices/watchdog", "model")),
        hugepages=_hugepages(root),
        secrets=_secrets(root),
        listens=_listens(root),
        threads=int(topology.get("threads", "1")) if topology is not None else 1,
        mirrors=tuple(
            disk.find("target").get("dev") for disk in root.iterfind("devices/disk") if disk.find("mirror") is not None
        ),
        host_tpm="passthrough" in attributes(root, "devices/tpm/backend", "type"),
        shared_memory=tuple(attributes(root, "devices/shmem", "name")),
        cpu_features={
            feature.get("name"): feature.get("policy", "require") for feature in root.iterfind("cpu/feature")
        },
    )


def _hugepages(root: Element) -> Dict[int, int]:
    """Size in KiB -> pages. With several sizes each belongs to some NUMA nodes; then their shares are taken as equal."""
    backing, memory = root.find("memoryBacking/hugepages"), root.find("memory")
    if backing is None or memory is None:
        return {}
    kib = in_kib(memory.text or "0", memory.get("unit")) or 0
    pages = [in_kib(page.get("size", ""), page.get("unit")) for page in backing.iterfind("page")]
    sizes = [size for size in pages if size] or [DEFAULT_PAGE_KIB]
    return {size: -(-kib // len(sizes) // size) for size in sizes}


def _secrets(root: Element) -> Tuple[str, ...]:
    found = attributes(root, "devices//encryption/secret", "uuid") + attributes(root, "devices//auth/secret", "uuid")
    found += attributes(root, "devices/tpm/backend/encryption", "secret")
    return tuple(sorted(set(found)))


def _listens(root: Element) -> Tuple[str, ...]:
    found = attributes(root, "devices/graphics", "listen") + attributes(root, "devices/graphics/listen", "address")
    return tuple(sorted({one for one in found if one not in _EVERYWHERE and not one.startswith("127.")}))
