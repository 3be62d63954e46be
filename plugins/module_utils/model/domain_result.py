# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A domain as modules return it: plain data, no secrets, the words of the options."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible_collections.kvmops.fleet.plugins.module_utils.model.cloud_init import shown_metadata
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import (
    SHUTOFF,
    Disk,
    Domain,
    DomainStatus,
    Nic,
    moved_to,
)

SAVED = "saved"


def domain_result(config: Domain, status: DomainStatus) -> Dict[str, Any]:
    """config: the one that will be (or is) running, as the caller chooses."""
    return {
        "name": config.name,
        "uuid": config.uuid,
        **status_result(status),
        "type": config.type,
        "arch": config.arch,
        "machine": config.machine,
        "memory_mib": config.memory_now_mib,
        "max_memory_mib": config.memory_mib,
        "vcpus": config.vcpus_now,
        "max_vcpus": config.vcpus,
        "cpu": {"mode": config.cpu.mode, "model": config.cpu.model, "features": list(config.cpu.features)},
        "firmware": config.firmware.kind,
        "boot": {"kernel": config.boot.kernel, "initrd": config.boot.initrd, "cmdline": config.boot.cmdline},
        "disks": [_disk(disk) for disk in config.disks],
        "networks": [_nic(nic) for nic in config.nics],
        "graphics": list(config.graphics),
        "tpm": config.tpm,
        "serial_log": config.serial_log,
        "metadata": shown_metadata(config.metadata),
        "moved_to": moved_to(config),
    }


def status_result(status: DomainStatus) -> Dict[str, Any]:
    """What it is doing."""
    return {
        "id": status.id,
        "state": state_shown(status),
        "persistent": status.persistent,
        "autostart": status.autostart,
        "job": status.job,
        "snapshots": status.snapshots,
    }


def state_shown(status: DomainStatus) -> str:
    """libvirt's state, and `saved` for a shut off domain whose memory lies on disk."""
    return SAVED if status.state == SHUTOFF and status.managed_save else status.state


def _disk(disk: Disk) -> Dict[str, Any]:
    return {
        "target": disk.target,
        "device": disk.device,
        "bus": disk.bus,
        "kind": disk.kind,
        "source": disk.source,
        "format": disk.format,
        "readonly": disk.readonly,
        "shareable": disk.shareable,
        "cache": disk.cache,
        "discard": disk.discard,
        "serial": disk.serial,
        "backing": list(disk.backing),
    }


def _nic(nic: Nic) -> Dict[str, Optional[str]]:
    return {
        "mac": nic.mac,
        "kind": nic.kind,
        "source": nic.source,
        "model": nic.model,
        "target": nic.target,
        "link": nic.link or "up",
    }
