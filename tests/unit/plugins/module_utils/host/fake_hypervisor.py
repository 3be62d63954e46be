# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A hypervisor in memory, for what a real one will not do on demand. test_contract.py keeps it honest."""

from __future__ import annotations

import copy
import threading
import uuid
from typing import Any, Callable, Dict, List, Optional, Tuple

import libvirt

from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor
from ansible_collections.kvmops.fleet.plugins.module_utils.model import safe_xml

_CAPABILITIES = """
<capabilities><host><uuid>00000000-0000-4000-8000-000000000001</uuid><cpu><arch>x86_64</arch></cpu></host>
<guest><os_type>hvm</os_type><arch name='x86_64'><emulator>/usr/bin/qemu-system-x86_64</emulator>
<machine canonical='pc-q35-7.2'>q35</machine><machine>pc-q35-7.2</machine><domain type='qemu'/></arch></guest>
</capabilities>"""


def refuse(code: str, message: str) -> libvirt.libvirtError:
    """A libvirtError as the C library would make it."""
    error = libvirt.libvirtError(message)
    error.err = (getattr(libvirt, code), 0, message, 2, None, None, None, 0, 0)
    return error


class FakeDomain:
    """ignores_shutdown: a guest without ACPI. refuses_start: the host's words when it is to start."""

    def __init__(self, conn: FakeConnection, xml: str) -> None:
        self.conn, self.xml = conn, xml
        self.live_xml: Optional[str] = None
        self.state_number = libvirt.VIR_DOMAIN_SHUTOFF
        self.number = -1
        self.auto = self.saved = self.ignores_shutdown = False
        self.refuses_start: Optional[str] = None
        self.presses = 0

    def _root(self) -> Any:
        return safe_xml.parse(self.xml)

    def name(self) -> str:
        return str(self._root().findtext("name"))

    def UUIDString(self) -> str:
        return str(self._root().findtext("uuid"))

    def ID(self) -> int:
        return self.number

    def connect(self) -> FakeConnection:
        return self.conn

    def state(self, flags: int = 0) -> List[int]:
        self._alive()
        return [self.state_number, 0]

    def info(self) -> List[int]:
        memory = int(self._root().findtext("memory"))
        return [self.state_number, memory, memory, 1, 0]

    def isActive(self) -> int:
        self._alive()
        return int(self.number >= 0)

    def isPersistent(self) -> int:
        return 1

    def autostart(self) -> int:
        return int(self.auto)

    def setAutostart(self, value: int) -> int:
        self._alive()
        self.auto = bool(value)
        return 0

    def hasManagedSaveImage(self, flags: int = 0) -> int:
        return int(self.saved)

    def snapshotNum(self, flags: int = 0) -> int:
        return 0

    def listAllCheckpoints(self, flags: int = 0) -> List[Any]:
        raise refuse("VIR_ERR_NO_SUPPORT", "this function is not supported")

    def interfaceAddresses(self, source: int, flags: int = 0) -> Dict[str, Any]:
        self._active()
        return {}

    def jobStats(self, flags: int = 0) -> Dict[str, int]:
        raise refuse("VIR_ERR_NO_SUPPORT", "this function is not supported")

    def XMLDesc(self, flags: int = 0) -> str:
        self._alive()
        inactive = flags & libvirt.VIR_DOMAIN_XML_INACTIVE or self.live_xml is None
        root = safe_xml.parse(self.xml if inactive else self.live_xml or "")
        if not flags & libvirt.VIR_DOMAIN_XML_SECURE:
            for node in root.iter():
                node.attrib.pop("passwd", None)
        return safe_xml.render(root)

    def setMetadata(self, kind: int, text: str, key: str, uri: str, flags: int = 0) -> int:
        if "xmlns" in text:
            raise refuse("VIR_ERR_INTERNAL_ERROR", "failed to create a new XML namespace")
        return 0

    def createWithFlags(self, flags: int = 0) -> int:
        self._alive()
        if self.number >= 0:
            raise refuse("VIR_ERR_OPERATION_INVALID", "domain is already running")
        if self.refuses_start is not None:
            raise refuse("VIR_ERR_INTERNAL_ERROR", self.refuses_start)
        self.number, self.live_xml, self.saved = self.conn.next_number(), self.xml, False
        paused = flags & libvirt.VIR_DOMAIN_START_PAUSED
        self.state_number = libvirt.VIR_DOMAIN_PAUSED if paused else libvirt.VIR_DOMAIN_RUNNING
        self.conn.tell(self, libvirt.VIR_DOMAIN_EVENT_STARTED)
        return 0

    def suspend(self) -> int:
        self._active()
        self.state_number = libvirt.VIR_DOMAIN_PAUSED
        return 0

    def resume(self) -> int:
        self._active()
        self.state_number = libvirt.VIR_DOMAIN_RUNNING
        return 0

    def shutdown(self) -> int:
        self._active()
        self.presses += 1
        if not self.ignores_shutdown:
            # The guest takes its time: the event comes from another thread, as with a real one.
            threading.Timer(0.02, self._off).start()
        return 0

    def destroy(self) -> int:
        return self.destroyFlags(0)

    def destroyFlags(self, flags: int = 0) -> int:
        self._active()
        self._off()
        return 0

    def managedSave(self, flags: int = 0) -> int:
        self._active()
        self.saved = True
        self._off()
        return 0

    def undefineFlags(self, flags: int = 0) -> int:
        self._alive()
        del self.conn.domains[self.name()]
        self.conn.tell(self, libvirt.VIR_DOMAIN_EVENT_UNDEFINED)
        return 0

    def _off(self) -> None:
        self.number, self.live_xml, self.state_number = -1, None, libvirt.VIR_DOMAIN_SHUTOFF
        self.conn.tell(self, libvirt.VIR_DOMAIN_EVENT_STOPPED)

    def _alive(self) -> None:
        if self.conn.domains.get(self.name()) is not self:
            raise refuse("VIR_ERR_NO_DOMAIN", "Domain not found")

    def _active(self) -> None:
        self._alive()
        if self.number < 0:
            raise refuse("VIR_ERR_OPERATION_INVALID", "domain is not running")


class FakeVolume:
    def __init__(self, pool: FakePool, xml: str) -> None:
        self.pool, self.root = pool, safe_xml.parse(xml)

    def name(self) -> str:
        return str(self.root.findtext("name"))

    def storagePoolLookupByVolume(self) -> FakePool:
        return self.pool

    def XMLDesc(self, flags: int = 0) -> str:
        root = copy.deepcopy(self.root)
        target = root.find("target")
        path = target.makeelement("path")
        path.text = "%s/%s" % (self.pool.path, self.name())
        target.insert(0, path)
        return safe_xml.render(root)

    def delete(self, flags: int = 0) -> int:
        del self.pool.volumes[self.name()]
        return 0


class FakePool:
    """A directory pool."""

    def __init__(self, name: str, path: str) -> None:
        self.pool_name, self.path = name, path
        self.volumes: Dict[str, FakeVolume] = {}

    def name(self) -> str:
        return self.pool_name

    def UUIDString(self) -> str:
        return "00000000-0000-4000-8000-000000000002"

    def isActive(self) -> int:
        return 1

    def autostart(self) -> int:
        return 0

    def info(self) -> List[int]:
        return [2, 100 << 30, 0, 100 << 30]

    def refresh(self, flags: int = 0) -> int:
        return 0

    def XMLDesc(self, flags: int = 0) -> str:
        return "<pool type='dir'><target><path>%s</path></target></pool>" % self.path

    def listAllVolumes(self, flags: int = 0) -> List[FakeVolume]:
        return list(self.volumes.values())

    def storageVolLookupByName(self, name: str) -> FakeVolume:
        if name not in self.volumes:
            raise refuse("VIR_ERR_NO_STORAGE_VOL", "no storage vol with matching name '%s'" % name)
        return self.volumes[name]

    def createXML(self, xml: str, flags: int = 0) -> FakeVolume:
        volume = FakeVolume(self, xml)
        self.volumes[volume.name()] = volume
        return volume


class FakeConnection:
    """events: everything that changed, in order."""

    def __init__(self) -> None:
        self.domains: Dict[str, FakeDomain] = {}
        self.pools = {"default": FakePool("default", "/pool")}
        self.events: List[str] = []
        self._listeners: Dict[int, Tuple[FakeDomain, Callable[..., None]]] = {}
        self._number = 0

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def tell(self, domain: FakeDomain, event: int) -> None:
        self.events.append("%s %d" % (domain.name(), event))
        for target, callback in list(self._listeners.values()):
            if target is domain:
                callback(self, domain, event, 0, None)

    def getURI(self) -> str:
        return "fake:///"

    def getLibVersion(self) -> int:
        return 9000000

    def getVersion(self) -> int:
        return 7002000

    def getHostname(self) -> str:
        return "fake"

    def getInfo(self) -> List[Any]:
        return ["x86_64", 4096, 2, 0, 1, 1, 2, 1]

    def getMemoryStats(self, cell: int, flags: int = 0) -> Dict[str, int]:
        return {"total": 4096 << 10, "free": 1024 << 10, "buffers": 0, "cached": 1024 << 10}

    def getCapabilities(self) -> str:
        return _CAPABILITIES

    def getDomainCapabilities(self, *args: Any) -> str:
        raise refuse("VIR_ERR_NO_SUPPORT", "this function is not supported")

    def listAllNetworks(self, flags: int = 0) -> List[Any]:
        return []

    def listAllInterfaces(self, flags: int = 0) -> List[Any]:
        raise refuse("VIR_ERR_NO_SUPPORT", "this function is not supported")

    def listAllStoragePools(self, flags: int = 0) -> List[FakePool]:
        return list(self.pools.values())

    def storagePoolLookupByName(self, name: str) -> FakePool:
        if name not in self.pools:
            raise refuse("VIR_ERR_NO_STORAGE_POOL", "no storage pool with matching name '%s'" % name)
        return self.pools[name]

    def storageVolLookupByPath(self, path: str) -> FakeVolume:
        for pool in self.pools.values():
            for volume in pool.volumes.values():
                if path == "%s/%s" % (pool.path, volume.name()):
                    return volume
        raise refuse("VIR_ERR_NO_STORAGE_VOL", "no storage vol with matching path '%s'" % path)

    def listAllDomains(self, flags: int = 0) -> List[FakeDomain]:
        found = list(self.domains.values())
        if flags & libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE:
            found = [domain for domain in found if domain.number >= 0]
        if flags & libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART:
            found = [domain for domain in found if domain.auto]
        if flags & libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE:
            found = [domain for domain in found if domain.saved]
        if flags & libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT:
            found = []
        return found

    def getAllDomainStats(self, stats: int = 0, flags: int = 0) -> List[Any]:
        return [(domain, {"state.state": domain.state_number}) for domain in self.domains.values()]

    def lookupByName(self, name: str) -> FakeDomain:
        if name not in self.domains:
            raise refuse("VIR_ERR_NO_DOMAIN", "Domain not found")
        return self.domains[name]

    def lookupByUUIDString(self, wanted: str) -> FakeDomain:
        for domain in self.domains.values():
            if domain.UUIDString() == wanted:
                return domain
        raise refuse("VIR_ERR_NO_DOMAIN", "Domain not found")

    def defineXMLFlags(self, xml: str, flags: int = 0) -> FakeDomain:
        root = safe_xml.parse(xml)
        name = root.findtext("name")
        old = self.domains.get(name)
        if root.find("uuid") is None:
            node = root.makeelement("uuid")
            node.text = str(uuid.uuid4())
            root.insert(1, node)
        if old is not None and root.findtext("uuid") != old.UUIDString():
            raise refuse(
                "VIR_ERR_OPERATION_FAILED", "domain '%s' already exists with uuid %s" % (name, old.UUIDString())
            )
        memory = root.find("memory")
        memory.text = str(int(memory.text) * (1024 if memory.get("unit") == "MiB" else 1))
        memory.set("unit", "KiB")
        if old is None:
            self.domains[name] = FakeDomain(self, safe_xml.render(root))
        else:
            old.xml = safe_xml.render(root)
        self.events.append("%s defined" % name)
        return self.domains[name]

    def domainEventRegisterAny(self, domain: FakeDomain, event: int, callback: Callable[..., None], opaque: Any) -> int:
        number = self.next_number()
        self._listeners[number] = (domain, callback)
        return number

    def domainEventDeregisterAny(self, number: int) -> None:
        del self._listeners[number]


def hypervisor() -> Hypervisor:
    return Hypervisor("fake://host/", "the fake", FakeConnection())
