# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a running guest does not have yet, since it takes effect at its next boot."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

from ansible_collections.kvmops.fleet.plugins.module_utils.model.cloud_init import RECORD
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import Cpu, Domain
from ansible_collections.kvmops.fleet.plugins.module_utils.plan.domain_fields import cpu_text

_PLAIN = ("type", "memory_mib", "vcpus", "machine", "tpm", "serial_log")
_OF_A_DISK = ("device", "bus", "source", "format", "readonly", "shareable", "cache", "discard", "serial")
_OF_A_CARD = ("kind", "source", "model")


def pending_changes(config: Domain, live: Optional[Domain]) -> List[Dict[str, Any]]:
    """config: the next boot's. live: None unless it runs. [{what: option, running: value, next_boot: value}].

    A disk or card that only one of both has is told by its source; None: it is not there.
    """
    if live is None:
        return []
    now, then = _told(live), _told(config)
    if _same_cpu(config.cpu, live.cpu):
        now["cpu"] = then["cpu"]
    found = [_change(what, now.get(what), then.get(what)) for what in then if now.get(what) != then.get(what)]
    for name, fields, running, coming in (
        ("disks", _OF_A_DISK, _by_name(live.disks, "target"), _by_name(config.disks, "target")),
        ("networks", _OF_A_CARD, _by_name(live.nics, "mac"), _by_name(config.nics, "mac")),
    ):
        found += _of_devices(name, fields, running, coming)
    if config.metadata.get(RECORD) != live.metadata.get(RECORD):
        # What it remembers of a seed is for comparing alone.
        found.append({"what": "cloud_init", "running": "another seed", "next_boot": "the seed as it is now"})
    return found


def _told(domain: Domain) -> Dict[str, Any]:
    told: Dict[str, Any] = {name: getattr(domain, name) for name in _PLAIN}
    told["cpu"] = cpu_text(domain.cpu)
    told["firmware"] = domain.firmware.kind
    told["graphics"] = ", ".join(domain.graphics) or None
    for part in ("kernel", "initrd", "cmdline"):
        told["boot." + part] = getattr(domain.boot, part)
    return told


def _same_cpu(config: Cpu, live: Cpu) -> bool:
    """When a guest starts libvirt writes host-model out, and adds the features that QEMU has given beside those asked for."""
    if config.mode != live.mode:
        return config.mode != "custom"
    return config.model == live.model and set(config.features) <= set(live.features)


def _by_name(devices: Sequence[Any], name: str) -> Dict[str, Any]:
    return {str(getattr(device, name)): device for device in devices}


def _of_devices(
    kind: str, fields: Sequence[str], running: Mapping[str, Any], coming: Mapping[str, Any]
) -> Iterator[Dict[str, Any]]:
    for name in sorted(set(running) | set(coming)):
        what = "%s.%s" % (kind, name)
        now, then = running.get(name), coming.get(name)
        if now is None or then is None:
            yield _change(what, now.source if now is not None else None, then.source if then is not None else None)
            continue
        for field in fields:
            if getattr(now, field) != getattr(then, field):
                yield _change("%s.%s" % (what, field), getattr(now, field), getattr(then, field))


def _change(what: str, running: Any, next_boot: Any) -> Dict[str, Any]:
    return {"what": what, "running": running, "next_boot": next_boot}
