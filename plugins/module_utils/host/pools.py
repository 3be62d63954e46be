# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Storage pools and volumes, through libvirt only, so that it works on remote URIs too."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Iterator, Optional, Tuple

from ansible_collections.kvmops.fleet.plugins.module_utils.host import libvirt_api
from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor, flag, is_error, said
from ansible_collections.kvmops.fleet.plugins.module_utils.model import storage_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.errors import HostError
from ansible_collections.kvmops.fleet.plugins.module_utils.model.storage import NewVolume, Pool, Volume

_MIB = 1024 * 1024
REFRESH_WITHIN_S = 30.0
# libvirt has no number of its own for this.
_POOL_BUSY = "has asynchronous jobs running"
_GONE = ["VIR_ERR_NO_STORAGE_VOL", "VIR_ERR_NO_STORAGE_POOL", "VIR_ERR_OPERATION_INVALID"]
_NO_STORAGE_DRIVER = ["VIR_ERR_NO_SUPPORT"]


def list_pools(hv: Hypervisor) -> Tuple[Pool, ...]:
    """Every pool, active or not, by name. Empty where the hypervisor has no storage driver."""
    with said("list storage pools", hv.side):
        try:
            pools = hv.conn.listAllStoragePools(0)
        except libvirt_api.libvirt.libvirtError as error:
            if is_error(error, _NO_STORAGE_DRIVER):
                return ()
            raise
        return tuple(sorted((pool_of(pool) for pool in pools), key=lambda pool: pool.name))


def pool_of(handle: Any) -> Pool:
    """A virStoragePool as a value. Its sizes are libvirt's last count: `refresh` brings them up to date."""
    active = bool(handle.isActive())
    xml = handle.XMLDesc(0)
    capacity, available = (handle.info()[1], handle.info()[3]) if active else (0, 0)
    return Pool(
        name=handle.name(),
        uuid=handle.UUIDString(),
        type=storage_xml.pool_type(xml),
        path=storage_xml.pool_path(xml),
        active=active,
        autostart=bool(handle.autostart()),
        capacity_mib=capacity // _MIB,
        available_mib=available // _MIB,
    )


def refresh(hv: Hypervisor, pool: str) -> None:
    """Let libvirt read the pool again: files that came from elsewhere, and free space.

    It refuses while a volume of the pool is being made; that is waited for, REFRESH_WITHIN_S at most.
    """
    deadline = time.monotonic() + REFRESH_WITHIN_S
    with said("refresh pool %s" % pool, hv.side):
        while True:
            try:
                hv.conn.storagePoolLookupByName(pool).refresh(0)
                return
            except libvirt_api.libvirt.libvirtError as error:
                if _POOL_BUSY not in (error.get_error_message() or "") or time.monotonic() > deadline:
                    raise
            time.sleep(0.1)


def list_volumes(hv: Hypervisor, pool: str) -> Tuple[Volume, ...]:
    """The volumes of an active pool, by name."""
    with said("list the volumes of pool %s" % pool, hv.side, "Check that the pool is active."):
        handles = hv.conn.storagePoolLookupByName(pool).listAllVolumes(0)
    found = []
    for handle in handles:
        with _vanished(hv, "read a volume of pool %s" % pool):
            found.append(_volume_of(handle, pool))
    return tuple(sorted(found, key=lambda volume: volume.name))


def find_volume(hv: Hypervisor, pool: str, name: str) -> Optional[Volume]:
    """The volume of that name as it is now, or None. Files that came or went after libvirt's last look count."""
    with said("look for volume %s in pool %s" % (name, pool), hv.side, "Check that the pool is active."):
        handle = hv.conn.storagePoolLookupByName(pool)
        for refreshed in (False, True):
            try:
                if refreshed:
                    handle.refresh(0)
                return _volume_of(handle.storageVolLookupByName(name), pool)
            except libvirt_api.libvirt.libvirtError as error:
                if not is_error(error, ["VIR_ERR_NO_STORAGE_VOL"]):
                    raise
    return None


def find_volume_by_path(hv: Hypervisor, path: str) -> Optional[Volume]:
    """The volume at that path in any active pool, or None. Does not refresh pools."""
    with said("look for a volume at %s" % path, hv.side):
        try:
            handle = hv.conn.storageVolLookupByPath(path)
            return _volume_of(handle, handle.storagePoolLookupByVolume().name())
        except libvirt_api.libvirt.libvirtError as error:
            if is_error(error, _GONE + _NO_STORAGE_DRIVER):
                return None
            raise


def _volume_of(handle: Any, pool: str) -> Volume:
    return storage_xml.read_volume(handle.XMLDesc(0), pool)


@contextlib.contextmanager
def _vanished(hv: Hypervisor, attempted: str) -> Iterator[None]:
    """A volume deleted between listing and reading is no error."""
    with said(attempted, hv.side):
        try:
            yield
        except libvirt_api.libvirt.libvirtError as error:
            if not is_error(error, ["VIR_ERR_NO_STORAGE_VOL"]):
                raise


def create_volume(
    hv: Hypervisor,
    pool: str,
    name: str,
    capacity_bytes: int,
    image_format: str = "qcow2",
    backing: Optional[str] = None,
    backing_format: Optional[str] = None,
) -> Volume:
    """Create a sparse volume. An existing one of that name is an error: data is never overwritten."""
    attempted = "create volume %s (%s, %d MiB) in pool %s" % (name, image_format, capacity_bytes // _MIB, pool)
    if find_volume(hv, pool, name) is not None:
        raise HostError(attempted, hv.side, "a volume of that name exists", "Remove it or choose another name.")
    with said(attempted, hv.side, "Check the pool's free space and that it is active."):
        handle = hv.conn.storagePoolLookupByName(pool)
        owner = storage_xml.pool_owner(handle.XMLDesc(0))
        wanted = NewVolume(pool, name, image_format, capacity_bytes, backing, backing_format, owner)
        return _volume_of(handle.createXML(storage_xml.volume_xml(wanted), 0), pool)


def grow_volume(hv: Hypervisor, pool: str, name: str, capacity_bytes: int) -> None:
    """Make a volume larger that nobody has open. Never smaller: libvirt refuses that without a flag of its own."""
    attempted = "grow volume %s in pool %s to %d MiB" % (name, pool, capacity_bytes // _MIB)
    with said(attempted, hv.side, "Check the pool's free space, and that no running domain uses the volume."):
        hv.conn.storagePoolLookupByName(pool).storageVolLookupByName(name).resize(capacity_bytes, 0)


def delete_volume(hv: Hypervisor, pool: str, name: str) -> bool:
    """Delete the volume and its data. False when there was none."""
    if find_volume(hv, pool, name) is None:
        return False
    with said("delete volume %s of pool %s" % (name, pool), hv.side, "Check that no domain uses it."):
        handle = hv.conn.storagePoolLookupByName(pool).storageVolLookupByName(name)
        handle.delete(flag("VIR_STORAGE_VOL_DELETE_NORMAL"))
    return True
