# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a domain's XML asks of its host."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model.demands_xml import read_demands
from ansible_collections.kvmops.fleet.plugins.module_utils.model.hosting import Demands
from ansible_collections.kvmops.fleet.plugins.module_utils.model.image import ImageFacts, same_image

FOLDER = Path(__file__).parent / "xml"


def demands_of(inner: str) -> Demands:
    return read_demands("<domain type='qemu'><name>x</name><memory unit='MiB'>512</memory>%s</domain>" % inner)


def test_what_libvirt_11_writes_down_and_9_does_not() -> None:
    told = {
        version: read_demands((FOLDER / ("exotic.libvirt-%s.xml" % version)).read_text(encoding="utf-8")).watchdogs
        for version in ("9.0", "11.3")
    }
    assert "itco" in told["11.3"] and "itco" not in told["9.0"]


def test_a_real_domain_with_threads_and_features() -> None:
    demands = read_demands((FOLDER / "many.libvirt-9.0.xml").read_text(encoding="utf-8"))
    assert demands.threads == 2 and demands.cpu_features == {"vmx": "disable"} and not demands.invariant_tsc


@pytest.mark.parametrize(
    ("inner", "pages"),
    [
        ("", {}),
        ("<memoryBacking><hugepages/></memoryBacking>", {2048: 256}),
        ("<memoryBacking><hugepages><page size='1048576' unit='KiB'/></hugepages></memoryBacking>", {1048576: 1}),
        ("<memoryBacking><hugepages><page size='2' unit='M'/></hugepages></memoryBacking>", {2048: 256}),
    ],
)
def test_hugepages(inner: str, pages: dict) -> None:
    assert demands_of(inner).hugepages == pages


def test_secrets_wherever_they_are() -> None:
    inner = """<devices>
    <disk><source><encryption format='luks'><secret type='passphrase' uuid='b'/></encryption></source></disk>
    <disk><source protocol='rbd' name='x'><auth username='u'><secret type='ceph' uuid='a'/></auth></source></disk>
    <tpm model='tpm-crb'><backend type='emulator'><encryption secret='c'/></backend></tpm></devices>"""
    assert demands_of(inner).secrets == ("a", "b", "c")


def test_displays_that_listen_elsewhere() -> None:
    inner = """<devices><graphics type='vnc' listen='127.0.0.1'><listen type='address' address='127.0.0.1'/></graphics>
    <graphics type='spice' listen='10.1.0.1'><listen type='address' address='10.1.0.1'/></graphics>
    <graphics type='vnc' listen='0.0.0.0'/></devices>"""
    assert demands_of(inner).listens == ("10.1.0.1",)


def test_block_jobs_host_tpm_and_shared_memory() -> None:
    inner = """<devices><disk><target dev='vda'/><mirror job='copy'/></disk><disk><target dev='vdb'/></disk>
    <tpm><backend type='passthrough'/></tpm><shmem name='s0'/></devices>"""
    demands = demands_of(inner)
    assert (demands.mirrors, demands.host_tpm, demands.shared_memory) == (("vda",), True, ("s0",))


@pytest.mark.parametrize(
    ("path", "size_there", "same"),
    [
        ("/dev/disk/by-id/wwn-0x60050768", 10, True),
        ("/dev/disk/by-id/wwn-0x60050768", 11, False),
        ("/dev/disk/by-id/dm-uuid-LVM-abc", 10, True),
        ("/dev/disk/by-id/ata-QEMU_HARDDISK_QM1", 10, False),
        ("/dev/sdb", 10, False),
    ],
)
def test_a_device_is_the_same_by_its_own_identity_only(path: str, size_there: int, same: bool) -> None:
    here = ImageFacts(path, exists=True, kind="block", size=10, inode=3)
    assert same_image(here, ImageFacts(path, exists=True, kind="block", size=size_there, inode=3)) is same
