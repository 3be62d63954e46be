# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a running guest does not have yet, since it takes effect at its next boot."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.model.cloud_init import RECORD
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Disk, Domain, Nic
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_fields import cpu_text

_PLAIN = ("type", "memory_mib", "vcpus", "machine", "tpm", "serial_log")
_OF_A_DISK = ("device", "bus", "source", "format", "readonly", "shareable", "cache", "discard", "serial")
_OF_A_CARD = ("kind", "source", "model")


def pending_changes(config: Domain, live: Optional[Domain]) -> List[Dict[str, Any]]:
    """config: the next boot's. live: None unless it runs. [{what: option, running: value, next_boot: value}]; null: not there."""
    if live is None:
        return []
    now, then = _told(live, config), _told(config, config)
    found = [
        {"what": what, "running": now.get(what), "next_boot": then.get(what)}
        for what in sorted(set(now) | set(then))
        if now.get(what) != then.get(what)
    ]
    if config.metadata.get(RECORD) != live.metadata.get(RECORD):
        # What it remembers of a seed is for comparing alone.
        found.append({"what": "cloud_init", "running": "another seed", "next_boot": "the seed as it is now"})
    return found


def _told(domain: Domain, config: Domain) -> Dict[str, Any]:
    told: Dict[str, Any] = {name: getattr(domain, name) for name in _PLAIN}
    # libvirt writes host-model out when a guest starts.
    told["cpu"] = cpu_text(domain.cpu if domain.cpu.mode == config.cpu.mode else config.cpu)
    told["firmware"] = domain.firmware.kind
    told["graphics"] = ", ".join(domain.graphics) or None
    for part in ("kernel", "initrd", "cmdline"):
        told["boot." + part] = getattr(domain.boot, part)
    for disk in domain.disks:
        told.update(_values("disks." + disk.target, disk, _OF_A_DISK))
    for nic in domain.nics:
        told.update(_values("networks.%s" % nic.mac, nic, _OF_A_CARD))
    return told


def _values(name: str, device: Any, fields: Tuple[str, ...]) -> Mapping[str, Any]:
    assert isinstance(device, (Disk, Nic))
    return {"%s.%s" % (name, field): getattr(device, field) for field in fields}
