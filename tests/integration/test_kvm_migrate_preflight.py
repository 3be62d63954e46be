# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kvm_migrate's preflight on real hosts: what it refuses, all at once, and where guests go under other names."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Tuple

import pytest

from ansible_collections.kvmops.fleet.plugins.module_utils.model.domain_xml import read_domain

from .disks import exists, make_disk, records_of, sha256
from .fleet import IMAGES, Lab, answers, guest, until

FAST = "/srv/fast"
DISK: Dict[str, Any] = {"pool": "default", "name": "web1.qcow2", "format": "qcow2"}
WEB = f"{IMAGES}/web1.qcow2"
HOSTS = ("kvm1", "kvm2", "kvm3")

LAN = "<network><name>lan</name><forward mode='bridge'/><bridge name='br0'/></network>"
_MAKE = """
set -e
mkdir -p /srv/fast
virsh -q pool-define-as fast dir --target /srv/fast
virsh -q pool-start fast
printf %s "$1" > /tmp/lan.xml
virsh -q net-define /tmp/lan.xml
virsh -q net-start lan
"""
_DROP = """
virsh -q net-destroy lan; virsh -q net-undefine lan
virsh -q pool-destroy fast; virsh -q pool-undefine fast; rm -rf /srv/fast
"""


@pytest.fixture(name="places")
def fixture_places(clean: Lab) -> Iterator[Lab]:
    """kvm3 has a pool `fast` and a network `lan` on br0; the others have neither."""
    clean.sh("kvm3", "sh", "-c", _MAKE, "sh", LAN)
    yield clean
    clean.sh("kvm3", "sh", "-c", _DROP, check=False)


def sources(lab: Lab, host: str, *how: str) -> Tuple[List[Any], List[Any]]:
    """(disks, interfaces) of web1, as their sources."""
    domain = read_domain(lab.virsh(host, "dumpxml", *how, "web1"))
    return [disk.source for disk in domain.disks], [(nic.kind, nic.source) for nic in domain.nics]


def snapshot_of(lab: Lab, host: str) -> str:
    """All that a move could have changed there."""
    script = (
        "virsh -q list --all; for d in $(virsh -q list --all --name); do virsh -q dumpxml $d; done;"
        "virsh -q net-list --all; virsh -q pool-list --all; virsh -q vol-list default;"
        "find /var/lib/libvirt/images /srv/fast /var/lib/libvirt/qemu/nvram -type f -printf '%p %s %T@ %C@\\n' 2>/dev/null | sort"
    )
    return lab.sh(host, "sh", "-c", script)


def test_live_under_other_names_and_back(places: Lab) -> None:
    lab = places
    make_disk(lab, "kvm1", "web1.qcow2")
    lab.one("kvm1", "kvm_domain", **guest("web1", 101, disks=[DISK]))
    until(lambda: answers(lab, 101), 60, "web1 answers")
    lab.virsh("kvm1", "desc", "web1", "--config", "of the next boot")
    maps = {"network_map": {"br0": "lan", "br9": "nowhere"}, "pool_map": {"default": "fast"}}
    check, real, again, again_check = lab.quartet("kvm1", "kvm_migrate", name="web1", host="kvm3", **maps)

    assert check["changed"] and real["changed"] and not again["changed"] and not again_check["changed"]
    assert check["steps"] == real["steps"] and again["steps"] == again_check["steps"] == []
    said = " ".join(real["steps"])
    assert "bridge br0 becomes network lan" in said and f"{WEB} is {FAST}/web1.qcow2 there" in said
    assert [disk["destination"] for disk in real["disks"]] == [f"{FAST}/web1.qcow2"]
    assert "network-map-unused" in [concern["id"] for concern in real["concerns"]]
    for how in ((), ("--inactive",)):
        assert sources(lab, "kvm3", *how) == ([f"{FAST}/web1.qcow2"], [("network", "lan")])
    assert lab.virsh("kvm3", "desc", "web1", "--config") == "of the next boot"
    assert lab.owners("web1", HOSTS) == ["kvm3"] and answers(lab, 101)
    assert not exists(lab, "kvm1", WEB) and not exists(lab, "kvm3", WEB)

    back = {"network_map": {"lan": "br0"}, "pool_map": {FAST: "default"}}
    assert lab.one("kvm3", "kvm_migrate", name="web1", host="kvm1", **back)["changed"]
    assert lab.owners("web1", HOSTS) == ["kvm1"] and answers(lab, 101)
    for how in ((), ("--inactive",)):
        assert sources(lab, "kvm1", *how) == ([WEB], [("bridge", "br0")])
    assert not exists(lab, "kvm3", f"{FAST}/web1.qcow2")
    lab.virsh("kvm1", "destroy", "web1")
    numbers = records_of(lab, "kvm1", WEB)
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) and len(numbers) > 3, numbers


def test_offline_under_other_names(places: Lab) -> None:
    lab = places
    make_disk(lab, "kvm1", "web1.qcow2")
    lab.one("kvm1", "kvm_domain", **dict(guest("web1", 101, disks=[DISK]), state="present"))
    before = sha256(lab, "kvm1", WEB)
    maps = {"network_map": {"br0": "lan"}, "pool_map": {IMAGES: "fast"}}
    check, real, again, again_check = lab.quartet("kvm1", "kvm_migrate", name="web1", host="kvm3", **maps)

    assert check["changed"] and real["changed"] and not again["changed"] and not again_check["changed"]
    assert check["steps"] == real["steps"] and again["steps"] == again_check["steps"] == []
    assert f"to kvm3 as {FAST}/web1.qcow2" in " ".join(real["steps"])
    assert real["hashes"] == {WEB: before} and sha256(lab, "kvm3", f"{FAST}/web1.qcow2") == before
    assert sources(lab, "kvm3") == ([f"{FAST}/web1.qcow2"], [("network", "lan")])
    assert lab.state("kvm1", "web1") is None and not exists(lab, "kvm1", WEB) and not exists(lab, "kvm3", WEB)
    lab.virsh("kvm3", "start", "web1")
    until(lambda: answers(lab, 101), 60, "web1 answers on kvm3")


def test_shared_and_copied_disks_in_one_move(clean: Lab) -> None:
    image = "/srv/images/shared.raw"
    clean.sh("nas", "sh", "-c", "rm -f %s; truncate -s 16M %s; chmod 666 %s" % (image, image, image))
    make_disk(clean, "kvm1", "web1.qcow2")
    shared = {"source": "nfs://10.77.0.10%s" % image, "format": "raw", "bus": "virtio", "target": "vdb"}
    clean.one("kvm1", "kvm_domain", **guest("web1", 101, disks=[DISK, shared]))
    until(lambda: answers(clean, 101), 60, "web1 answers")
    real = clean.one("kvm1", "kvm_migrate", name="web1", host="kvm2")
    assert {disk["target"]: disk["storage"] for disk in real["disks"]} == {"vda": "copy", "vdb": "shared"}
    assert clean.owners("web1", HOSTS) == ["kvm2"] and answers(clean, 101)
    assert not exists(clean, "kvm1", WEB)


def test_everything_is_told_at_once_and_nothing_is_changed(places: Lab) -> None:
    """From trixie to bookworm, with about everything in the way that can be in the way of one guest."""
    lab = places
    make_disk(lab, "kvm3", "web1.qcow2")
    make_disk(lab, "kvm1", "web1.qcow2", mib=64)
    lab.sh("kvm3", "sh", "-c", "truncate -s 1M %s/a.iso; virsh -q pool-refresh default" % IMAGES)
    nic = {"network": "lan", "model": "virtio", "mac": "52:54:00:00:00:a1"}
    lab.one("kvm3", "kvm_domain", **guest("web1", 101, machine="q35", disks=[DISK], networks=[nic]))
    lab.virsh(
        "kvm3", "attach-disk", "web1", f"{IMAGES}/a.iso", "sda", "--type", "cdrom", "--mode", "readonly", "--config"
    )
    lab.virsh("kvm3", "destroy", "web1")
    lab.virsh("kvm3", "start", "web1")
    until(lambda: answers(lab, 101), 60, "web1 answers")
    other = {"bridge": "br0", "model": "virtio", "mac": "52:54:00:00:00:a1"}
    lab.one("kvm1", "kvm_domain", **dict(guest("web9", 109, networks=[other]), state="present"))
    lab.one("kvm1", "kvm_domain", **dict(guest("web1", 102), state="present"))
    lab.virsh("kvm3", "checkpoint-create-as", "web1", "one")
    lab.virsh("kvm3", "suspend", "web1")
    try:
        before = {host: snapshot_of(lab, host) for host in ("kvm1", "kvm3")}
        refused = lab.one("kvm3", "kvm_migrate", name="web1", host="kvm1", pool_map={"default": "slow"}, may_fail=True)
        after = {host: snapshot_of(lab, host) for host in ("kvm1", "kvm3")}
    finally:
        lab.virsh("kvm3", "checkpoint-delete", "web1", "one", check=False)

    assert refused["failed"] and "refused before anything was changed" in refused["msg"]
    assert sorted(concern["id"] for concern in refused["concerns"]) == sorted(
        ["checkpoints", "file-missing", "mac-taken", "machine-missing", "name-taken", "network-missing"]
        + ["pool-map-unknown", "target-disk-exists"]
    )
    assert all(concern["detail"] and concern["remedy"] for concern in refused["concerns"])
    assert after == before


def test_trixie_to_bookworm_with_a_machine_that_both_know(clean: Lab) -> None:
    """libvirt 11.3 writes the q35 board's watchdog down and does not send it; one with settings of its own it sends."""
    lab = clean
    lab.one("kvm3", "kvm_domain", **guest("web1", 101))
    until(lambda: answers(lab, 101), 60, "web1 answers")
    assert "itco" in lab.virsh("kvm3", "dumpxml", "web1")
    assert lab.one("kvm3", "kvm_migrate", name="web1", host="kvm1")["mode"] == "live"
    assert lab.owners("web1", HOSTS) == ["kvm1"]
    until(lambda: answers(lab, 101), 60, "web1 answers on kvm1")

    lab.virsh("kvm1", "destroy", "web1")
    assert lab.one("kvm1", "kvm_migrate", name="web1", host="kvm3")["mode"] == "offline"
    assert lab.one("kvm3", "kvm_migrate", name="web1", host="kvm1")["mode"] == "offline"
    assert lab.one("kvm1", "kvm_migrate", name="web1", host="kvm3")["mode"] == "offline"

    own = "virsh -q dumpxml --inactive web1 | sed \"s/model='itco' action='reset'/model='itco' action='poweroff'/\" > /tmp/web1.xml"
    lab.sh("kvm3", "sh", "-c", own + " && virsh -q define /tmp/web1.xml && virsh -q start --paused web1")
    refused = lab.one("kvm3", "kvm_migrate", name="web1", host="kvm1", may_fail=True)
    assert [concern["id"] for concern in refused["concerns"]] == ["watchdog-unknown"]
    assert lab.owners("web1", HOSTS) == ["kvm3"]


def test_a_cpu_that_is_not_there_is_refused_with_what_it_lacks(clean: Lab) -> None:
    cpu = {"mode": "custom", "model": "Skylake-Server"}
    clean.one("kvm1", "kvm_domain", **dict(guest("web1", 101), state="present", cpu=cpu))
    refused = clean.one("kvm1", "kvm_migrate", name="web1", host="kvm2", may_fail=True)
    assert [concern["id"] for concern in refused["concerns"]] == ["cpu-missing"]
    assert "required features" in refused["concerns"][0]["detail"], refused["concerns"]
    assert clean.state("kvm1", "web1") == "shut off" and clean.state("kvm2", "web1") is None
