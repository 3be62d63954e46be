# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands in the way of a move before it begins. Each is a context: there on entry, gone on exit."""

from __future__ import annotations

import contextlib
import re
from typing import Callable, ContextManager, Dict, Iterator

from ansible_collections.kvmops.fleet.tests.integration.fleet import IMAGES

from .scene import HOSTS, NAME, WEB, Scene

HERE, THERE = HOSTS
OBSTACLES: Dict[str, Callable[[Scene], ContextManager[None]]] = {}
_DOMAIN = (
    "<domain type='qemu'><name>%s</name><memory>65536</memory><os><type machine='pc-q35-7.2'>hvm</type></os>%s</domain>"
)


def obstacle(act: Callable[[Scene], Iterator[None]]) -> Callable[[Scene], Iterator[None]]:
    OBSTACLES[act.__name__] = contextlib.contextmanager(act)
    return act


def _define(scene: Scene, host: str, xml: str) -> None:
    scene.lab.sh(host, "sh", "-c", "cat > /run/fault.xml <<'END'\n%s\nEND\nvirsh -q define /run/fault.xml" % xml)


@contextlib.contextmanager
def _edited(scene: Scene, before: str, after: str) -> Iterator[None]:
    """The guest's definition with one thing put in the place of another."""
    xml = scene.lab.virsh(HERE, "dumpxml", "--inactive", NAME)
    if before not in xml:
        raise AssertionError("the definition has no %s" % before)
    _define(scene, HERE, xml.replace(before, after, 1))
    try:
        yield
    finally:
        _define(scene, HERE, xml)


@contextlib.contextmanager
def _file(scene: Scene, script: str, path: str) -> Iterator[None]:
    scene.lab.sh(THERE, "sh", "-c", script + " && virsh -q pool-refresh default")
    try:
        yield
    finally:
        scene.lab.sh(THERE, "sh", "-c", f"rm -f {path} && virsh -q pool-refresh default")


@obstacle
def name_taken(scene: Scene) -> Iterator[None]:
    _define(scene, THERE, _DOMAIN % (NAME, ""))
    yield
    scene.lab.virsh(THERE, "undefine", NAME)


@obstacle
def runs_there(scene: Scene) -> Iterator[None]:
    """Paused and without its disk, so that the proof itself harms nothing; libvirt counts it as active."""
    xml = scene.lab.virsh(HERE, "dumpxml", "--inactive", NAME)
    start = xml.index("<disk")
    bare = xml[:start] + xml[xml.rindex("</disk>") + len("</disk>") :]
    # libvirt before 9.1 does not know the model of the watchdog that later ones write down for this board.
    bare = re.sub(
        r"<watchdog model='itco'[^>]*/>|<watchdog model='itco'[^>]*>.*?</watchdog>", "", bare, flags=re.DOTALL
    )
    scene.lab.virsh(HERE, "start", "--paused", NAME)
    scene.lab.sh(
        THERE, "sh", "-c", "cat > /run/fault.xml <<'END'\n%s\nEND\nvirsh -q create --paused /run/fault.xml" % bare
    )
    yield
    scene.lab.virsh(THERE, "destroy", NAME)
    scene.lab.virsh(HERE, "destroy", NAME)


@obstacle
def much_memory(scene: Scene) -> Iterator[None]:
    scene.lab.virsh(HERE, "setmaxmem", NAME, "%dM" % (1024 * 1024), "--config")
    yield
    scene.lab.virsh(HERE, "setmaxmem", NAME, "128M", "--config")


@obstacle
def smaller_disk(scene: Scene) -> Iterator[None]:
    with _file(scene, f"qemu-img create -q -f qcow2 {WEB} 64M", WEB):
        yield


@obstacle
def other_disk(scene: Scene) -> Iterator[None]:
    """As long as the image of the source: only its content tells them apart."""
    size = scene.lab.sh(HERE, "stat", "-c", "%s", WEB).strip()
    with _file(scene, f"head -c {size} /dev/urandom > {WEB}", WEB):
        yield


@obstacle
def not_shared(scene: Scene) -> Iterator[None]:
    scene.args["storage"] = "shared"
    yield
    del scene.args["storage"]


@obstacle
def cpu(scene: Scene) -> Iterator[None]:
    model = "<cpu mode='custom' match='exact' check='none'><model fallback='forbid'>Skylake-Server</model></cpu>"
    xml = scene.lab.virsh(HERE, "dumpxml", "--inactive", NAME)
    own = re.search(r"<cpu\b[^>]*?(?:/>|>.*?</cpu>)", xml, re.DOTALL)
    with _edited(scene, own[0] if own else "</os>", model if own else "</os>" + model):
        yield


@obstacle
def bridge(scene: Scene) -> Iterator[None]:
    with _edited(scene, "<source bridge='br0'/>", "<source bridge='blue'/>"):
        yield


@obstacle
def mac(scene: Scene) -> Iterator[None]:
    xml = scene.lab.virsh(HERE, "dumpxml", "--inactive", NAME)
    address = xml[xml.index("<mac ") : xml.index("/>", xml.index("<mac ")) + 2]
    card = "<devices><interface type='bridge'>%s<source bridge='br0'/></interface></devices>" % address
    _define(scene, THERE, _DOMAIN % ("other", card))
    yield
    scene.lab.virsh(THERE, "undefine", "other")


@obstacle
def same_uuid(scene: Scene) -> Iterator[None]:
    own = scene.lab.sh(
        HERE, "sh", "-c", "virsh -q capabilities | sed -n 's:.*<uuid>\\(.*\\)</uuid>.*:\\1:p' | head -n1"
    ).strip()
    script = (
        "cp -p /etc/libvirt/libvirtd.conf /run/fault.conf && sed -i '/^host_uuid/d' /etc/libvirt/libvirtd.conf"
        " && printf 'host_uuid = \"%s\"\n' >> /etc/libvirt/libvirtd.conf && systemctl restart libvirtd" % own
    )
    scene.lab.sh(THERE, "sh", "-c", script)
    try:
        yield
    finally:
        scene.lab.sh(THERE, "sh", "-c", "mv /run/fault.conf /etc/libvirt/libvirtd.conf && systemctl restart libvirtd")


@obstacle
def snapshot(scene: Scene) -> Iterator[None]:
    scene.lab.virsh(HERE, "snapshot-create-as", NAME, "one")
    yield
    scene.lab.virsh(HERE, "snapshot-delete", NAME, "one")


@obstacle
def iso(scene: Scene) -> Iterator[None]:
    path = f"{IMAGES}/own.iso"
    scene.lab.sh(HERE, "sh", "-c", f"truncate -s 1M {path} && virsh -q pool-refresh default")
    drive = f"<disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='{path}'/><target dev='sda' bus='sata'/><readonly/></disk>"
    with _edited(scene, "</devices>", drive + "</devices>"):
        yield
    scene.lab.sh(HERE, "sh", "-c", f"rm {path} && virsh -q pool-refresh default")
