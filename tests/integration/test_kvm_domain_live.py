# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kvm_domain on guests that run: what changes at once, as the guest and libvirt see it, and what waits for a boot."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

import pytest

from .fleet import GET, IMAGES, KERNEL, Lab, answers, guest, until

NUMBER = 111
MAC, MORE_MAC = "52:54:00:77:00:01", "52:54:00:77:00:02"
SYSTEM = {"pool": "default", "name": "web1.qcow2", "size_mib": 16}
LARGER = dict(SYSTEM, size_mib=24)
DRIVE = {"device": "cdrom", "target": "sda"}
CARD = {"bridge": "br0", "mac": MAC}
MORE_CARD = {"bridge": "br0", "mac": MORE_MAC}
RELEASES_SEEN = pytest.mark.parametrize("host", ["kvm1", "kvm3"], ids=["bookworm", "trixie"])


def disk(name: str, size_mib: int = 4, **more: Any) -> Dict[str, Any]:
    return dict({"pool": "default", "name": name, "size_mib": size_mib, "format": "raw"}, **more)


WEB1 = guest(
    "web1",
    NUMBER,
    memory_mib=160,
    max_memory_mib=256,
    max_vcpus=3,
    disks=[SYSTEM, DRIVE],
    networks=[CARD],
)


class Rung(NamedTuple):
    """options: beside the name. words: of the steps. seen: by the guest's page, or by virsh. waiting: RV(pending_changes)."""

    options: Dict[str, Any]
    words: List[str]
    seen: Callable[[Lab, str], bool]
    waiting: Sequence[str] = ()


def page(lab: Lab) -> Dict[str, str]:
    """What the guest says of itself: its memory, processors, disks with their sectors, cards with their link."""
    told = lab.lab("ns", "--", "python3", "-c", GET, "http://10.77.0.%d/" % NUMBER, check=False)
    return dict(line.split(": ", 1) for line in told.splitlines() if ": " in line)


def says(key: str, pattern: str) -> Callable[[Lab, str], bool]:
    return lambda lab, host: re.search(pattern, page(lab).get(key, "")) is not None


def virsh(pattern: str, *words: str) -> Callable[[Lab, str], bool]:
    """Whether virsh's answer matches. words: a command, with the domain at its end."""
    return lambda lab, host: re.search(pattern, lab.virsh(host, *words)) is not None


def not_virsh(pattern: str, *words: str) -> Callable[[Lab, str], bool]:
    return lambda lab, host: re.search(pattern, lab.virsh(host, *words)) is None


def all_of(*questions: Callable[[Lab, str], bool]) -> Callable[[Lab, str], bool]:
    return lambda lab, host: all(question(lab, host) for question in questions)


def actual_is(mib: int) -> Callable[[Lab, str], bool]:
    """By QEMU's balloon."""
    return virsh(r"actual %d\b" % (mib * 1024), "dommemstat", "web1")


def up(lab: Lab, host: str) -> Dict[str, str]:
    """The guest runs, has given back what it was not to have, and says who it is."""
    until(lambda: answers(lab, NUMBER), 60, "web1 answers")
    until(lambda: actual_is(160)(lab, host), 60, "the balloon is filled")
    return page(lab)


def climb(lab: Lab, host: str, rungs: Sequence[Rung]) -> None:
    """Each rung four times: in check mode, for real, again, again in check mode; then an outsider looks."""
    for rung in rungs:
        check, real, again, again_check = lab.quartet(host, "kvm_domain", name="web1", **rung.options)
        assert check["steps"] == real["steps"] == rung.words, rung.options
        assert (check["changed"], real["changed"]) == (True, True), rung.options
        assert check["diff"] == real["diff"]
        assert again["steps"] == again_check["steps"] == [], rung.options
        assert (again["changed"], again_check["changed"]) == (False, False)
        for result in (check, real, again, again_check):
            assert result["pending_changes"] == list(rung.waiting), rung.options
            assert result["pending"] is bool(rung.waiting)
        until(lambda rung=rung: rung.seen(lab, host), 20, "seen after %s" % rung.options)


def pid(lab: Lab, host: str) -> str:
    return lab.sh(host, "cat", "/run/libvirt/qemu/web1.pid").strip()


def climb_and_stay(lab: Lab, host: str, rungs: Sequence[Rung]) -> None:
    """The same with a guest that runs from before until after, in the same process and without a boot."""
    lab.one(host, "kvm_domain", **WEB1)
    before, process = up(lab, host), pid(lab, host)
    climb(lab, host, rungs)
    after = until(lambda: page(lab), 30, "web1 answers")
    assert pid(lab, host) == process
    assert after["boot_id"] == before["boot_id"]
    assert int(after["tick"]) > int(before["tick"])


MEMORY_AND_VCPUS = [
    Rung({"memory_mib": 128}, ["set memory 160 → 128 MiB (live)"], actual_is(128)),
    Rung({"memory_mib": 224}, ["set memory 128 → 224 MiB (live)"], actual_is(224)),
    Rung(
        {"memory_mib": 300, "max_memory_mib": 320},
        ["set memory 224 → 300 MiB (next boot)", "set maximum memory 256 → 320 MiB (next boot)"],
        actual_is(224),
        [
            "set memory 224 → 300 MiB (the guest was started with 256 MiB at most)",
            "set maximum memory 256 → 320 MiB",
        ],
    ),
    Rung({"vcpus": 2}, ["set vCPUs 1 → 2 (live)"], says("cpus", "^2$")),
    Rung({"vcpus": 3}, ["set vCPUs 2 → 3 (live)"], says("cpus", "^3$")),
    # Emulated, it cannot be shown to give one back.
    Rung(
        {"vcpus": 2},
        ["set vCPUs 3 → 2 (next boot)"],
        says("cpus", "^3$"),
        ["set vCPUs 3 → 2 (an emulated guest may die of it)"],
    ),
]


@RELEASES_SEEN
def test_memory_and_vcpus(clean: Lab, host: str) -> None:
    climb_and_stay(clean, host, MEMORY_AND_VCPUS)
    wanted = {"name": "web1", "memory_mib": 300, "max_memory_mib": 320}
    assert clean.one(host, "kvm_domain", **wanted)["pending"] is True
    clean.one(host, "kvm_domain", name="web1", state="shutdown", wait_timeout=60)
    started = clean.one(host, "kvm_domain", state="running", **wanted)
    assert started["steps"] == ["start the domain"]
    until(lambda: answers(clean, NUMBER), 60, "web1 answers")
    until(lambda: actual_is(300)(clean, host), 60, "it has the memory that it waited for")
    told = clean.one(host, "kvm_domain", **wanted)
    assert (told["changed"], told["pending"], told["pending_changes"]) == (False, False, [])


def disks(*more: Dict[str, Any], system: Dict[str, Any] = LARGER, drive: Dict[str, Any] = DRIVE) -> Dict[str, Any]:
    return {"disks": [system, *more, drive]}


DISKS = [
    Rung(disks(), ["grow volume web1.qcow2 16 → 24 MiB (live)"], says("disks", r"\bvda=%d\b" % (24 * 2048))),
    Rung(
        disks(disk("b.raw", serial="B")),
        [
            "create volume b.raw (4 MiB, raw) in pool default",
            "attach disk vdb (%s/b.raw) (live)" % IMAGES,
        ],
        all_of(says("disks", r"\bvdb=8192\b"), virsh("vdb .*b.raw", "domblklist", "web1", "--inactive")),
    ),
    Rung(
        disks(disk("b.raw", 8, cache="writeback")),
        ["grow volume b.raw 4 → 8 MiB (live)", "vdb cache: none → writeback (next boot)"],
        says("disks", r"\bvdb=16384\b"),
        ["vdb cache: none → writeback"],
    ),
    Rung(
        disks(disk("c.raw")),
        [
            "create volume c.raw (4 MiB, raw) in pool default",
            "detach disk vdb (%s/b.raw); its data stays (live)" % IMAGES,
            "attach disk vdc (%s/c.raw) (live)" % IMAGES,
        ],
        all_of(says("disks", "^(?!.*=16384).*=8192"), not_virsh("vdb", "domblklist", "web1", "--inactive")),
    ),
    Rung(
        disks(disk("d.raw", bus="scsi"), disk("e.raw", bus="usb")),
        [
            "create volume d.raw (4 MiB, raw) in pool default",
            "create volume e.raw (4 MiB, raw) in pool default",
            "detach disk vdc (%s/c.raw); its data stays (live)" % IMAGES,
            "attach disk sdb (%s/d.raw) (live)" % IMAGES,
            "attach disk sdc (%s/e.raw) (live)" % IMAGES,
        ],
        all_of(virsh("sdb .*d.raw", "domblklist", "web1"), virsh("sdc .*e.raw", "domblklist", "web1", "--inactive")),
    ),
    Rung(
        disks(),
        [
            "detach disk sdb (%s/d.raw); its data stays (live)" % IMAGES,
            "detach disk sdc (%s/e.raw); its data stays (live)" % IMAGES,
        ],
        all_of(
            not_virsh("sd[bc]", "domblklist", "web1"),
            not_virsh("sd[bc]", "domblklist", "web1", "--inactive"),
        ),
    ),
    Rung(
        disks(drive=dict(DRIVE, path="%s/one.iso" % IMAGES)),
        ["sda source: none → %s/one.iso (live)" % IMAGES],
        all_of(
            virsh("sda .*one.iso", "domblklist", "web1"), virsh("sda .*one.iso", "domblklist", "web1", "--inactive")
        ),
    ),
    Rung(
        disks(drive=dict(DRIVE, path="%s/two.iso" % IMAGES)),
        ["sda source: %s/one.iso → %s/two.iso (live)" % (IMAGES, IMAGES)],
        all_of(
            virsh("sda .*two.iso", "domblklist", "web1"), virsh("sda .*two.iso", "domblklist", "web1", "--inactive")
        ),
    ),
    Rung(
        disks(drive=dict(DRIVE, path="")),
        ["sda source: %s/two.iso → none (live)" % IMAGES],
        all_of(not_virsh("iso", "domblklist", "web1"), not_virsh("iso", "domblklist", "web1", "--inactive")),
    ),
    Rung(
        {"disks": [DRIVE]},
        ["detach disk vda (%s/web1.qcow2); its data stays (next boot)" % IMAGES],
        virsh("vda .*web1.qcow2", "domblklist", "web1"),
        ["detach disk vda (%s/web1.qcow2); its data stays (the running system is likely to be on it)" % IMAGES],
    ),
]


@RELEASES_SEEN
def test_disks(clean: Lab, host: str) -> None:
    for name in ("one", "two"):
        clean.sh(host, "truncate", "-s", "1M", "%s/%s.iso" % (IMAGES, name))
    climb_and_stay(clean, host, DISKS)
    clean.one(host, "kvm_domain", name="web1", state="shutdown", wait_timeout=60)
    grown = clean.quartet(host, "kvm_domain", name="web1", **disks(system=dict(SYSTEM, size_mib=32)))
    assert grown[1]["steps"][0] == "grow volume web1.qcow2 24 → 32 MiB"
    assert [result["changed"] for result in grown] == [True, True, False, False]
    clean.one(host, "kvm_domain", name="web1", state="running")
    until(lambda: says("disks", r"\bvda=%d\b" % (32 * 2048))(clean, host), 60, "the guest sees all of it")
    smaller = clean.one(host, "kvm_domain", may_fail=True, name="web1", **disks(system=dict(SYSTEM, size_mib=8)))
    assert smaller["failed"] and "never cut off" in smaller["msg"]


def cards(*more: Dict[str, Any], **first: Any) -> Dict[str, Any]:
    return {"networks": [dict(CARD, **first), *more]}


def place(xml: str, mac: str) -> str:
    """The PCI address of the card with that MAC."""
    card = next(part for part in xml.split("<interface ")[1:] if mac in part)
    found = re.search(r"<address type='pci'[^>]*>", card)
    return found[0] if found else "none"


def in_the_same_place(lab: Lab, host: str) -> bool:
    """A card keeps its place at the next boot, and so the name that the guest gives it."""
    running, defined = lab.virsh(host, "dumpxml", "web1"), lab.virsh(host, "dumpxml", "web1", "--inactive")
    return place(running, MORE_MAC) == place(defined, MORE_MAC) != "none"


CARDS = [
    Rung(
        cards(MORE_CARD),
        ["attach network card %s to bridge br0 (live)" % MORE_MAC],
        all_of(says("nics", "eth0=1 eth1|eth1 eth0=1"), in_the_same_place),
    ),
    Rung(
        cards(dict(MORE_CARD, bridge="br9")),
        ["move network card %s from bridge br0 to bridge br9 (live)" % MORE_MAC],
        all_of(virsh("br9 .*%s" % MORE_MAC, "domiflist", "web1"), virsh("br9", "domiflist", "web1", "--inactive")),
    ),
    Rung(
        cards(dict(MORE_CARD, bridge="br9", link="down")),
        ["network card %s link: up → down (live)" % MORE_MAC],
        all_of(
            virsh("down", "domif-getlink", "web1", MORE_MAC),
            virsh("down", "domif-getlink", "web1", MORE_MAC, "--config"),
        ),
    ),
    Rung(
        cards(dict(MORE_CARD, bridge="br9", link="up")),
        ["network card %s link: down → up (live)" % MORE_MAC],
        virsh("up", "domif-getlink", "web1", MORE_MAC),
    ),
    Rung(
        cards(dict(MORE_CARD, bridge="br9", model="e1000e")),
        ["network card %s model: virtio → e1000e (next boot)" % MORE_MAC],
        virsh("virtio +%s" % MORE_MAC, "domiflist", "web1"),
        ["network card %s model: virtio → e1000e" % MORE_MAC],
    ),
    Rung(
        cards(),
        ["detach network card %s (bridge br9) (live)" % MORE_MAC],
        all_of(
            says("nics", "^eth0=1$"),
            not_virsh(MORE_MAC, "domiflist", "web1"),
            not_virsh(MORE_MAC, "domiflist", "web1", "--inactive"),
        ),
    ),
]


@RELEASES_SEEN
def test_cards(clean: Lab, host: str) -> None:
    clean.sh(host, "ip", "link", "add", "br9", "type", "bridge")
    try:
        climb_and_stay(clean, host, CARDS)
        # Without a MAC of its own: the running guest and the definition have the one that libvirt chose.
        done = clean.one(host, "kvm_domain", name="web1", networks=[CARD, {"bridge": "br9"}])
        assert done["steps"] == ["attach network card to bridge br9 (live)"]
        again = clean.one(host, "kvm_domain", name="web1", networks=[CARD, {"bridge": "br9"}])
        assert (again["changed"], again["pending"]) == (False, False)
        running = re.findall(r"52:54:00:\S+", clean.virsh(host, "domiflist", "web1"))
        assert running == re.findall(r"52:54:00:\S+", clean.virsh(host, "domiflist", "web1", "--inactive"))
        assert len(running) == 2
    finally:
        clean.sh(host, "ip", "link", "del", "br9")


@RELEASES_SEEN
def test_a_guest_that_does_not_listen(clean: Lab, host: str) -> None:
    """Its kernel ended without a root: it neither gives memory back nor lets a disk go, and the definition stays as it is."""
    log = "/var/log/libvirt/qemu/web1.serial.log"
    boot = {"kernel": KERNEL["kernel"], "cmdline": "console=ttyS0 panic=0"}
    deaf = dict(WEB1, boot=boot, memory_mib=256, serial_log=log, disks=[SYSTEM, disk("b.raw")])
    clean.one(host, "kvm_domain", **deaf)
    until(lambda: "panic" in clean.sh(host, "cat", log).lower(), 60, "no root")
    process = pid(clean, host)
    for options, phrase in (
        ({"memory_mib": 200}, "no balloon driver"),
        ({"disks": [SYSTEM]}, "has not let it go within 30 s"),
    ):
        defined = clean.virsh(host, "dumpxml", "web1", "--inactive")
        told = clean.one(host, "kvm_domain", may_fail=True, name="web1", **options)
        assert told["failed"] and phrase in told["msg"], told["msg"]
        assert "apply: next_boot" in told["msg"] and "Nothing was changed." in told["msg"]
        assert clean.virsh(host, "dumpxml", "web1", "--inactive") == defined
        later = clean.one(host, "kvm_domain", name="web1", apply="next_boot", **options)
        assert later["changed"] and later["pending"] and "(next boot)" in later["steps"][0]
    assert pid(clean, host) == process


@RELEASES_SEEN
def test_memory_that_the_guest_needs_is_left_to_it(clean: Lab, host: str) -> None:
    clean.one(host, "kvm_domain", **WEB1)
    before = up(clean, host)
    told = clean.one(host, "kvm_domain", may_fail=True, name="web1", memory_mib=24)
    assert told["failed"] and "the guest says that it can spare" in told["msg"], told["msg"]
    assert actual_is(160)(clean, host)
    assert page(clean)["boot_id"] == before["boot_id"]
