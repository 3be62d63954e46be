# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""New domains on real hosts: cloud-init seeds, disks from images, shutdowns, names and copies. kvm1 is bookworm, kvm3 trixie."""

from __future__ import annotations

import json
import time
from typing import Any, Dict, List

import pytest

from .fleet import GET, IMAGES, Lab, Task, answers, guest, until

BOTH = pytest.mark.parametrize("host", ["kvm1", "kvm3"])
SERIAL = "/var/log/libvirt/qemu/web1.serial.log"
SEED = IMAGES + "/web1-cidata.iso"
DISK = {"pool": "default", "name": "web1.qcow2", "size_mib": 16}
SECRET = "geheim-0815"


def seeded(**more: Any) -> Dict[str, Any]:
    """A guest that prints its seed on its serial line."""
    return guest("web1", 101, disks=[DISK], serial_log=SERIAL, cmdline="kvmops.seed=1", **more)


def said(lab: Lab, host: str) -> List[str]:
    """What the guest has read from its seed since its last start."""
    until(lambda: "seed: end" in lab.sh(host, "cat", SERIAL), 90, "the guest has read its seed")
    return [line.strip()[6:] for line in lab.sh(host, "cat", SERIAL).splitlines() if line.startswith("seed: ")]


def changed(results: List[Dict[str, Any]]) -> List[bool]:
    return [result["changed"] for result in results]


@BOTH
def test_a_guest_reads_its_seed_and_nobody_else_does(clean: Lab, host: str) -> None:
    clean.sh(host, "rm", "-f", SERIAL)
    data = {"hostname": "web1", "chpasswd": {"list": "root:" + SECRET}}
    first = seeded(cloud_init={"user_data": data, "network_config": {"version": 2}})
    results = clean.quartet(host, "kvm_domain", **first)
    assert changed(results) == [True, True, False, False]
    assert results[0]["steps"] == results[1]["steps"] and results[0]["diff"] == results[1]["diff"]
    assert "write cloud-init seed %s" % SEED in results[1]["steps"]
    lines = said(clean, host)
    assert "user-data: #cloud-config" in lines and 'user-data: "list": "root:%s"' % SECRET in lines
    assert 'meta-data: "instance-id": "web1",' in lines and 'network-config: "version": 2' in lines
    mode = clean.sh(host, "stat", "-c", "%a", SEED).strip()
    assert (mode, clean.sh(host, "blkid", "-s", "LABEL", "-o", "value", SEED).strip()) == ("600", "cidata")
    other = {"user_data": "#!/bin/sh\n# %s\n" % SECRET}
    more = clean.quartet(host, "kvm_domain", name="web1", cloud_init=other, disks=[DISK])
    assert changed(more) == [True, True, False, False] and [each["pending"] for each in more] == [True] * 4
    assert more[1]["steps"] == [
        "write cloud-init seed %s (user-data differs and network-config differs)" % SEED,
        "remember a salted hash of the cloud-init seed (next boot)",
    ]
    assert more[1]["diff"]["after"] == {"cloud_init": "user-data, network-config differs"}
    refused = clean.one(host, "kvm_domain", may_fail=True, name="web1", cloud_init=other, nonsense=1)
    several = clean.one(host, "kvm_domain", domains=[dict(name="web1", cloud_init=other)])
    told = repr([results, more, refused, several])
    assert refused["failed"] and not several["changed"] and SECRET not in told and "user-data=" not in told
    journal = clean.sh(host, "sh", "-c", "journalctl --no-pager -o cat | grep -c -- %s || true" % SECRET)
    assert (journal.strip(), SECRET in clean.virsh(host, "dumpxml", "web1", "--inactive")) == ("0", False)
    clean.play(host, [Task("kvm_domain", {"name": "web1", "state": state}) for state in ("destroyed", "running")])
    until(lambda: "user-data: #!/bin/sh" in said(clean, host), 90, "it has read its new seed")
    done = clean.quartet(host, "kvm_domain", name="web1", cloud_init={"state": "absent"})
    assert changed(done) == [True, True, False, False] and [each["pending"] for each in done] == [True] * 4
    assert "cidata" not in clean.virsh(host, "dumpxml", "web1", "--inactive") + clean.sh(host, "ls", "-A", IMAGES)
    gone = clean.quartet(host, "kvm_domain", name="web1", state="absent", force=True, remove_storage=True)
    assert changed(gone) == [True, True, False, False] and clean.sh(host, "ls", "-A", IMAGES) == ""


def test_a_seed_is_not_written_over_what_is_not_ours(clean: Lab) -> None:
    clean.sh("kvm1", "sh", "-c", "echo precious > %s" % SEED)
    wanted = seeded(cloud_init={"user_data": "#!/bin/sh\n"}, state="present")
    refused = clean.one("kvm1", "kvm_domain", may_fail=True, **wanted)
    assert refused["failed"] and refused["concerns"][0]["id"] == "seed-name-taken"
    assert clean.sh("kvm1", "cat", SEED) == "precious\n" and clean.sh("kvm1", "ls", "-A", IMAGES).split() == [
        "web1-cidata.iso"
    ]
    clean.sh("kvm1", "rm", SEED)
    clean.one("kvm1", "kvm_domain", **wanted)
    clean.one("kvm1", "kvm_domain", name="web1", state="absent")
    # The seed stayed, as after a task that was cut short: it is one of ours, and nobody uses it.
    assert clean.one("kvm1", "kvm_domain", **wanted)["changed"]
    clean.sh("kvm1", "rm", SEED)
    again = clean.quartet("kvm1", "kvm_domain", **wanted)
    assert changed(again) == [True, True, False, False] and "(it is missing)" in again[1]["steps"][0]


def test_a_seed_does_not_hold_up_a_move(clean: Lab) -> None:
    """The guest arrives without it, and gets it again where it lives now."""
    seed = {"user_data": "#!/bin/sh\n", "pool": "default"}
    clean.sh("kvm2", "rm", "-f", SERIAL)
    wanted = guest("web1", 101, disks=[], serial_log=SERIAL, cmdline="kvmops.seed=1", cloud_init=seed)
    clean.one("kvm1", "kvm_domain", **wanted)
    until(lambda: answers(clean, 101), 90, "web1 answers")
    assert clean.one("kvm1", "kvm_migrate", name="web1", host="kvm2")["changed"]
    assert clean.owners("web1", ("kvm1", "kvm2", "kvm3")) == ["kvm2"] and answers(clean, 101)
    results = clean.quartet("kvm2", "kvm_domain", name="web1", cloud_init=seed)
    assert changed(results) == [True, True, False, False] and "(it is missing)" in results[1]["steps"][0]
    clean.play("kvm2", [Task("kvm_domain", {"name": "web1", "state": state}) for state in ("destroyed", "running")])
    assert "user-data: #!/bin/sh" in said(clean, "kvm2")


BASE = "/var/tmp/base.qcow2"


def made_image(lab: Lab, host: str) -> str:
    """An image as a cloud offers one: compressed, with a file system. Its checksum."""
    raw = "/srv/lab/guest/data.raw"
    lab.sh(host, "qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, BASE)
    return "sha256:" + lab.sh(host, "sha256sum", BASE).split()[0]


def info(lab: Lab, host: str, path: str, form: str) -> Dict[str, Any]:
    told: Dict[str, Any] = json.loads(lab.sh(host, "qemu-img", "info", "-U", "--output=json", "-f", form, path))
    return told


@BOTH
def test_a_disk_from_an_image(clean: Lab, host: str) -> None:
    image = {"path": BASE, "format": "qcow2", "checksum": made_image(clean, host)}
    disks = [
        dict(DISK, size_mib=100, image=image),
        {"pool": "default", "name": "web1.raw", "format": "raw", "image": image},
    ]
    path, raw = IMAGES + "/web1.qcow2", IMAGES + "/web1.raw"
    wrong = [dict(disks[0], image=dict(image, checksum="sha256:" + "0" * 64)), disks[1]]
    few = [dict(disks[0], size_mib=10), dict(disks[1], image=dict(image, format="raw", checksum=None))]
    for bad, concerns in ((wrong, ["image-checksum"]), (few, ["image-larger", "image-format-differs"])):
        refused = clean.one(host, "kvm_domain", may_fail=True, **guest("web1", 101, disks=bad))
        assert [each["id"] for each in refused["concerns"]] == concerns, refused
    assert clean.sh(host, "ls", "-A", IMAGES) == ""
    # What a task leaves that was killed while it copied.
    clean.sh(host, "sh", "-c", "echo rest > %s/.web1.qcow2.kvmops-part" % IMAGES)
    results = clean.quartet(host, "kvm_domain", **guest("web1", 101, disks=disks, serial_log=SERIAL))
    assert changed(results) == [True, True, False, False] and results[0]["diff"] == results[1]["diff"]
    assert results[0]["steps"] == results[1]["steps"]
    assert results[1]["steps"][0] == "copy image %s to new volume web1.qcow2 (100 MiB, qcow2) in pool default" % BASE
    assert sorted(clean.sh(host, "ls", "-A", IMAGES).split()) == ["web1.qcow2", "web1.raw"]
    assert info(clean, host, path, "qcow2")["virtual-size"] == 100 * 1024**2
    assert "backing-filename" not in info(clean, host, path, "qcow2")
    until(
        lambda: "records: 1" in clean.lab("ns", "--", "python3", "-c", GET, "http://10.77.0.101/", check=False),
        60,
        "it writes",
    )
    clean.one(host, "kvm_domain", name="web1", state="destroyed")
    # Used since, and so no copy of the image any more; the next task finds it there and leaves it alone.
    sums = clean.sh(host, "sha256sum", path, raw)
    clean.one(host, "kvm_domain", name="web1", state="absent")
    again = clean.one(host, "kvm_domain", **guest("web1", 101, disks=disks, state="present"))
    assert [step.split(" (")[0] for step in again["steps"]] == ["define domain web1"]
    assert clean.sh(host, "sha256sum", path, raw) == sums


def test_an_image_that_means_other_files_is_not_opened(clean: Lab) -> None:
    clean.sh("kvm1", "qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "/etc/shadow", "-F", "raw", BASE, "1M")
    disks = [dict(DISK, image={"path": BASE, "format": "qcow2"})]
    refused = clean.one("kvm1", "kvm_domain", may_fail=True, **guest("web1", 101, disks=disks))
    assert refused["concerns"][0]["id"] == "image-incomplete" and "/etc/shadow" in refused["msg"]


@BOTH
def test_the_agent_is_asked_and_then_the_button_is_pressed(clean: Lab, host: str) -> None:
    for agent, bounds, how in (
        ("obey", {"agent_timeout_s": 60, "acpi_timeout_s": 0}, "agent: powering off"),
        ("refuse", {"agent_timeout_s": 60, "acpi_timeout_s": 60}, "power button"),
        ("hang", {"agent_timeout_s": 2, "acpi_timeout_s": 60}, "power button"),
    ):
        clean.sh(host, "rm", "-f", SERIAL)
        clean.one(
            host, "kvm_domain", **guest("web1", 101, serial_log=SERIAL, disks=[], cmdline="kvmops.agent=" + agent)
        )
        until(lambda: answers(clean, 101), 60, "web1 answers")
        until(lambda: "state='connected'" in clean.virsh(host, "dumpxml", "web1"), 30, "the agent is connected")
        if agent == "obey":
            (told,) = clean.one(host, "kvm_domain_info", gather=["addresses"])["domains"]
            mac = clean.virsh(host, "domiflist", "web1").split()[-1]
            assert told["addresses"] == [
                {"interface": "eth0", "mac": mac, "address": "10.77.0.101", "prefix": 24, "source": "agent"}
            ]
        begun = time.monotonic()
        down = clean.quartet(host, "kvm_domain", name="web1", state="shutdown", shutdown=bounds)
        assert changed(down) == [True, True, False, False] and down[1]["domain"]["state"] == "shutoff", agent
        assert how in clean.sh(host, "cat", SERIAL), agent
        # Nobody waits longer for an agent that refuses, nor than was said for one that hangs.
        assert time.monotonic() - begun < 50, agent


@BOTH
def test_absent_leaves_nothing_under_its_name(clean: Lab, host: str) -> None:
    here = ["nvram", "save", "snapshot", "checkpoint/metadata", "checkpoint"]
    looked = " ".join("/var/lib/libvirt/qemu/" + name for name in here) + " /var/lib/libvirt/swtpm"
    plain = {key: value for key, value in guest("x", 1).items() if key not in ("name", "boot", "networks")}
    plain = dict(plain, state="paused", memory_mib=64)
    efi = dict(plain, name="left1", firmware="efi", tpm="emulator", disks=[])
    # What libvirt makes is of qcow2's second version, which holds no checkpoint.
    clean.sh(host, "qemu-img", "create", "-q", "-f", "qcow2", IMAGES + "/left2.qcow2", "16M")
    off = dict(plain, name="left2", disks=[dict(DISK, name="left2.qcow2")])
    clean.play(host, [Task("kvm_domain", efi), Task("kvm_domain", off)])
    clean.virsh(host, "checkpoint-create-as", "left2", "c1")
    saved = Task("kvm_domain", {"name": "left2", "state": "saved"})
    clean.play(host, [Task("kvm_domain", {"name": "left1", "state": "destroyed"}), saved])
    clean.virsh(host, "snapshot-create-as", "left2", "s1", "--disk-only", "--diskspec", "vda,snapshot=no", check=False)
    uuid = clean.virsh(host, "domuuid", "left1")
    found = clean.sh(host, "sh", "-c", "find %s | grep -e left -e %s" % (looked, uuid))
    assert "left1_VARS" in found and uuid in found and "left2.save" in found and "c1" in found
    gone = clean.quartet(host, "kvm_domain", domains=[{"name": "left1"}, {"name": "left2"}], state="absent")
    assert changed(gone) == [True, True, False, False]
    rest = clean.sh(host, "sh", "-c", "find %s | grep -e left -e %s || true" % (looked, uuid))
    assert rest == "", rest


NVRAM = "/var/lib/libvirt/qemu/nvram"


def efi(name: str, **more: Any) -> Dict[str, Any]:
    """A UEFI guest with a disk and a card, that need not boot."""
    plain = {key: value for key, value in guest(name, 1).items() if key in ("name", "machine", "domain_type", "vcpus")}
    disk = {"pool": "default", "name": name + ".qcow2", "size_mib": 16}
    nets = [{"bridge": "br0"}]
    return dict(plain, memory_mib=64, firmware="efi", disks=[disk], networks=nets, metadata={"group": "web"}, **more)


def started_once(lab: Lab, host: str, name: str) -> None:
    """So that libvirt made its variable store, which is then marked."""
    lab.play(host, [Task("kvm_domain", {"name": name, "state": state}) for state in ("paused", "destroyed")])
    lab.sh(
        host, "sh", "-c", "printf marked | dd of=%s/%s_VARS.fd bs=1 seek=9000 conv=notrunc status=none" % (NVRAM, name)
    )


@BOTH
def test_another_name(clean: Lab, host: str) -> None:
    clean.one(host, "kvm_domain", **efi("old", autostart=True, cloud_init={"user_data": "#!/bin/sh\n"}))
    started_once(clean, host, "old")
    uuid, macs = clean.virsh(host, "domuuid", "old"), clean.virsh(host, "domiflist", "old")
    results = clean.quartet(host, "kvm_domain", name="web1", rename_from="old", memory_mib=96)
    assert changed(results) == [True, True, False, False] and results[0]["steps"] == results[1]["steps"]
    assert results[1]["steps"] == ["rename domain old to web1", "set memory 64 → 96 MiB"]
    assert results[0]["diff"] == results[1]["diff"]
    assert clean.virsh(host, "list", "--all", "--name").split() == ["web1"]
    assert (clean.virsh(host, "domuuid", "web1"), clean.virsh(host, "domiflist", "web1")) == (uuid, macs)
    assert results[1]["domain"]["autostart"] and results[1]["domain"]["metadata"] == {"group": "web"}
    # It boots from the variables that it had, and none is left under its old name.
    clean.one(host, "kvm_domain", name="web1", state="paused")
    path = clean.virsh(host, "dumpxml", "web1").split("_VARS.fd")[0].rsplit(">", 1)[1] + "_VARS.fd"
    assert "marked" in clean.sh(host, "sh", "-c", "dd if=%s bs=1 skip=9000 count=6 status=none" % path)
    running = clean.one(host, "kvm_domain", may_fail=True, name="web2", rename_from="web1")
    assert [each["id"] for each in running["concerns"]] == ["rename-runs"]
    clean.one(host, "kvm_domain", name="web1", state="absent", force=True, wait_timeout=0, remove_storage=True)
    assert clean.sh(host, "ls", "-A", IMAGES) == "" and clean.sh(host, "ls", NVRAM) == ""


@BOTH
def test_a_copy_that_shares_nothing(clean: Lab, host: str) -> None:
    wanted = efi("gold", autostart=True, tpm="emulator", cloud_init={"user_data": "#!/bin/sh\n"})
    clean.one(host, "kvm_domain", **wanted)
    started_once(clean, host, "gold")
    layered = {
        "pool": "default",
        "name": "top.qcow2",
        "size_mib": 16,
        "backing": {"name": "gold.qcow2", "format": "qcow2"},
    }
    clean.sh(host, "qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 64k", IMAGES + "/gold.qcow2")
    clean.one(host, "kvm_domain", name="gold", disks=[layered])
    clean.sh(host, "qemu-io", "-f", "qcow2", "-c", "write -P 8 2M 64k", IMAGES + "/top.qcow2")
    sums = clean.sh(host, "sh", "-c", "cd %s; sha256sum *" % IMAGES)
    clone = {
        "name": "web1",
        "clone_from": {"name": "gold"},
        "memory_mib": 96,
        "networks": [{"bridge": "br0", "model": "e1000"}],
    }
    clean.virsh(host, "start", "gold", "--paused")
    refused = clean.one(host, "kvm_domain", may_fail=True, **clone)
    assert [each["id"] for each in refused["concerns"]] == ["clone-source-runs"]
    clean.virsh(host, "destroy", "gold")
    results = clean.quartet(host, "kvm_domain", **clone)
    assert changed(results) == [True, True, False, False] and results[0]["steps"] == results[1]["steps"]
    assert results[0]["diff"] == results[1]["diff"] and results[1]["warnings"]
    assert clean.sh(host, "sh", "-c", "cd %s; sha256sum gold* top*" % IMAGES) == sums
    made = IMAGES + "/web1-vda.qcow2"
    assert "backing-filename" not in info(clean, host, made, "qcow2")
    read = ("qemu-io", "-f", "qcow2", "-c", "read -P 7 1M 64k", "-c", "read -P 8 2M 64k", made)
    assert "Pattern verification failed" not in clean.sh(host, *read)
    assert "marked" in clean.sh(host, "sh", "-c", "dd if=%s/web1_VARS.fd bs=1 skip=9000 count=6 status=none" % NVRAM)
    domain = results[1]["domain"]
    assert [disk["source"] for disk in domain["disks"]] == [made] and domain["memory_mib"] == 96
    assert (domain["networks"][0]["model"], domain["metadata"]) == ("e1000", {"group": "web"})
    for question in ("domuuid", "domiflist"):
        assert clean.virsh(host, question, "gold") != clean.virsh(host, question, "web1")
    both = [Task("kvm_domain", {"name": name, "state": "paused"}) for name in ("gold", "web1")]
    assert [each["domain"]["state"] for each in clean.play(host, both)] == ["paused", "paused"]
    taken = clean.one(host, "kvm_domain", may_fail=True, name="web1-vda", clone_from={"name": "nix"})
    assert taken["concerns"][0]["id"] == "clone-source-missing"


def test_what_takes_effect_at_the_next_boot_is_told(clean: Lab) -> None:
    names = ["many%d" % number for number in range(4)]
    plain = {key: value for key, value in guest("x", 1).items() if key not in ("name", "boot")}
    many = dict(plain, state="paused", memory_mib=32, disks=[], domains=[{"name": name} for name in names])
    clean.one("kvm3", "kvm_domain", **many)
    clean.one("kvm3", "kvm_domain", name="many1", memory_mib=48, disks=[DISK], apply="next_boot")
    clean.one("kvm3", "kvm_domain", name="many2", state="destroyed")
    told = clean.one("kvm3", "kvm_domain_info", gather=["pending", "stats", "addresses"])["domains"]
    waiting = {each["name"]: {one["what"]: one["next_boot"] for one in each["pending"]} for each in told}
    assert waiting["many1"]["memory_mib"] == 48 and waiting["many1"]["disks.vda"] == IMAGES + "/web1.qcow2"
    assert [waiting[name] for name in ("many0", "many2", "many3")] == [{}, {}, {}]
    assert [each["addresses"] for each in told] == [[]] * 4 and told[0]["stats"]["memory_current_mib"] == 32
