# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A hypervisor in memory, for what a real one will not do on demand. test_contract.py keeps it honest."""

from __future__ import annotations

import copy
import threading
import time
import uuid
from typing import Any, Callable, Dict, List, Optional, Tuple

import libvirt

from ansible_collections.kvmops.fleet.plugins.module_utils.host.libvirt_api import Hypervisor
from ansible_collections.kvmops.fleet.plugins.module_utils.model import edit_xml, safe_xml
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_xml import read_domain

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
    """ignores_shutdown: a guest without ACPI, which lets no device go either. refuses_start: the host's words when it is to start.

    agent: None when it is not connected, else what it does when it is asked to shut down: obeys, refuses or hangs.
    spare_mib: what its balloon driver reports; None: it has none, and gives nothing back. refuses_release: it says no.
    """

    def __init__(self, conn: FakeConnection, xml: str) -> None:
        self.conn, self.xml = conn, xml
        self.live_xml: Optional[str] = None
        self.state_number = libvirt.VIR_DOMAIN_SHUTOFF
        self.number = -1
        self.auto = self.saved = self.ignores_shutdown = self.refuses_release = False
        self.spare_mib: Optional[int] = 1 << 20
        self.polled = self.transient = False
        self.refuses_start: Optional[str] = None
        self.agent: Optional[str] = None
        self.presses = 0

    def _root(self) -> Any:
        return safe_xml.parse((self.live_xml or "") if self.transient else self.xml)

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
        root = safe_xml.parse(self.live_xml or self.xml)
        memory = int(root.findtext("memory"))
        return [self.state_number, memory, int(root.findtext("currentMemory") or memory), 1, 0]

    def setMemoryFlags(self, kib: int, flags: int = 0) -> int:
        self._active()
        if self.spare_mib is not None:
            self._change_live(lambda root: edit_xml.set_text(root, "currentMemory", str(kib)))
            self.conn.tell(self, libvirt.VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE, kib)
        return 0

    def setMemoryStatsPeriod(self, period: int, flags: int = 0) -> int:
        self._active()
        self.polled = period > 0
        return 0

    def memoryStats(self, flags: int = 0) -> Dict[str, int]:
        self._active()
        if self.spare_mib is None or not self.polled:
            return {"actual": self.info()[2]}
        return {"actual": self.info()[2], "usable": self.spare_mib * 1024, "last_update": int(time.time())}

    def vcpusFlags(self, flags: int = 0) -> int:
        self._active()
        return read_domain(self.live_xml or "").vcpus_now

    def setVcpusFlags(self, count: int, flags: int = 0) -> int:
        self._active()
        self._change_live(lambda root: root.find("vcpu").set("current", str(count)))
        return 0

    def attachDeviceFlags(self, xml: str, flags: int = 0) -> int:
        """A card gets a MAC address, and everything the next PCI port, as from libvirt."""
        self._active()
        device = safe_xml.parse(xml)
        number = self.conn.next_number()
        if device.tag == "interface" and device.find("mac") is None:
            device.insert(0, edit_xml.new(device, "mac", {"address": "52:54:00:00:00:%02x" % number}))
        edit_xml.add(device, "alias", {"name": "%s-%d" % (device.tag, number)})
        edit_xml.add(device, "address", {"type": "pci", "domain": "0x0000", "bus": "0x%02x" % number, "slot": "0x00"})
        self._change_live(lambda root: root.find("devices").append(device))
        return 0

    def updateDeviceFlags(self, xml: str, flags: int = 0) -> int:
        self._active()
        device = safe_xml.parse(xml)
        key = {"disk": "target/@dev", "interface": "mac/@address"}[device.tag]

        def replaced(root: Any) -> None:
            for node in root.findall("devices/%s" % device.tag):
                if node.xpath(key) == device.xpath(key):
                    node.getparent().replace(node, device)

        self._change_live(replaced)
        return 0

    def detachDeviceAlias(self, alias: str, flags: int = 0) -> int:
        self._active()
        if self.refuses_release:
            self.conn.tell(self, libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, alias)
        elif not self.ignores_shutdown:
            # As with a real one, from another thread and later.
            threading.Timer(0.02, self._let_go, [alias]).start()
        return 0

    def _let_go(self, alias: str) -> None:
        def without(root: Any) -> None:
            for node in root.xpath("devices/*[alias/@name='%s']" % alias):
                node.getparent().remove(node)

        self._change_live(without)
        self.conn.tell(self, libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, alias)

    def blockResize(self, target: str, size: int, flags: int = 0) -> int:
        self._active()
        path = safe_xml.parse(self.live_xml or "").xpath("devices/disk[target/@dev='%s']/source/@file" % target)[0]
        return self.conn.storageVolLookupByPath(path).resize(size)

    def _change_live(self, change: Callable[[Any], Any]) -> None:
        root = safe_xml.parse(self.live_xml or "")
        change(root)
        self.live_xml = safe_xml.render(root)

    def isActive(self) -> int:
        self._alive()
        return int(self.number >= 0)

    def isPersistent(self) -> int:
        return int(not self.transient)

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
        inactive = (flags & libvirt.VIR_DOMAIN_XML_INACTIVE and not self.transient) or self.live_xml is None
        root = safe_xml.parse(self.xml if inactive else self.live_xml or "")
        if not inactive and self.agent:
            for node in root.iterfind("devices/channel/target[@name='org.qemu.guest_agent.0']"):
                node.set("state", "connected")
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
        self._change_live(_name_devices)
        paused = flags & libvirt.VIR_DOMAIN_START_PAUSED
        self.state_number = libvirt.VIR_DOMAIN_PAUSED if paused else libvirt.VIR_DOMAIN_RUNNING
        self.conn.tell_state(self, libvirt.VIR_DOMAIN_EVENT_STARTED)
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

    def shutdownFlags(self, flags: int = 0) -> int:
        if not flags & libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT:
            return self.shutdown()
        self._active()
        if self.agent == "refuses":
            raise refuse("VIR_ERR_AGENT_UNRESPONSIVE", "guest agent command failed")
        if self.agent == "obeys":
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
        self.conn.tell_state(self, libvirt.VIR_DOMAIN_EVENT_UNDEFINED)
        return 0

    def _off(self) -> None:
        self.number, self.live_xml, self.state_number = -1, None, libvirt.VIR_DOMAIN_SHUTOFF
        self.conn.tell_state(self, libvirt.VIR_DOMAIN_EVENT_STOPPED)

    def _alive(self) -> None:
        if self.conn.domains.get(self.name()) is not self:
            raise refuse("VIR_ERR_NO_DOMAIN", "Domain not found")

    def _active(self) -> None:
        self._alive()
        if self.number < 0:
            raise refuse("VIR_ERR_OPERATION_INVALID", "domain is not running")


def _name_devices(root: Any) -> None:
    """A running device has a name."""
    for number, node in enumerate(root.xpath("devices/disk|devices/interface")):
        edit_xml.add(node, "alias", {"name": "%s%d" % (node.tag, number)})


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

    def resize(self, size: int, flags: int = 0) -> int:
        capacity = self.root.find("capacity")
        capacity.text = str(size)
        capacity.attrib.pop("unit", None)
        return 0

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
        self._listeners: Dict[int, Tuple[FakeDomain, int, Callable[..., None]]] = {}
        self._number = 0

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def tell_state(self, domain: FakeDomain, event: int) -> None:
        self.events.append("%s %d" % (domain.name(), event))
        self.tell(domain, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, event, 0)

    def tell(self, domain: FakeDomain, kind: int, *told: Any) -> None:
        for target, listened_for, callback in list(self._listeners.values()):
            if target is domain and listened_for == kind:
                callback(self, domain, *told, None)

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
        for memory in root.findall("memory") + root.findall("currentMemory"):
            memory.text = str(int(memory.text) * (1024 if memory.get("unit") == "MiB" else 1))
            memory.set("unit", "KiB")
        if old is None:
            self.domains[name] = FakeDomain(self, safe_xml.render(root))
        else:
            old.xml, old.transient = safe_xml.render(root), False
        self.events.append("%s defined" % name)
        return self.domains[name]

    def domainEventRegisterAny(self, domain: FakeDomain, event: int, callback: Callable[..., None], opaque: Any) -> int:
        number = self.next_number()
        self._listeners[number] = (domain, event, callback)
        return number

    def domainEventDeregisterAny(self, number: int) -> None:
        del self._listeners[number]


def hypervisor() -> Hypervisor:
    return Hypervisor("fake://host/", "the fake", FakeConnection())
