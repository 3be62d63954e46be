# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A definition that is kept says where the guest is, and keeps everything else."""

from __future__ import annotations

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain import MOVED_TO, moved_to
from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_xml import read_domain
from ansible_collections.kvmops.fleet.plugins.module_utils.model.kept_xml import kept

XML = """<domain type='qemu'><name>web1</name><uuid>11111111-2222-3333-4444-555555555555</uuid>%s
<memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><disk type='file' device='disk'><source file='/x'/><target dev='%s' bus='virtio'/></disk><strange kept='yes'/></devices>
</domain>"""
METADATA = (
    "<metadata><a:b xmlns:a='urn:a'/><k:fleet xmlns:k='urn:kvmops:fleet:1'><k:group>shop</k:group></k:fleet></metadata>"
)


def test_it_is_marked_and_guarded() -> None:
    for metadata in ("", METADATA):
        xml = kept(XML % (metadata, "vda"), "kvm2")
        domain = read_domain(xml)
        assert domain.metadata[MOVED_TO] == moved_to(domain) == "kvm2"
        guard = [disk for disk in domain.disks if disk.source == "/var/lib/kvmops/web1-has-moved-to-kvm2"]
        assert len(guard) == 1 and guard[0].readonly and guard[0] not in domain.images
        assert '<strange kept="yes"/>' in xml
        assert not metadata or ("urn:a" in xml and domain.metadata["group"] == "shop")


def test_the_guard_takes_a_free_name() -> None:
    domain = read_domain(kept(XML % ("", "vdz"), "kvm2"))
    assert sorted(disk.target for disk in domain.disks) == ["vdy", "vdz"]


def test_kept_twice_is_kept_once() -> None:
    once = kept(XML % ("", "vda"), "kvm2")
    assert read_domain(kept(once, "kvm3")).metadata[MOVED_TO] == "kvm3"
    assert kept(once, "kvm2") == once
