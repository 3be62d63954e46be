# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kvm_domain and the info modules on real hosts: check, real, again, again in check, and what an outsider sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

from .fleet import IMAGES, KERNEL, MACHINE, Lab, Task, answers, guest, until

SERIAL = "/var/log/libvirt/qemu/web1.serial.log"
XML = Path(__file__).resolve().parents[1] / "unit" / "plugins" / "module_utils" / "model" / "xml"
DISK = {"pool": "default", "name": "web1.qcow2", "size_mib": 16}
WEB1 = guest("web1", 101, state="present", disks=[DISK], serial_log=SERIAL, metadata={"group": "web"})
MORE = [dict(DISK, cache="writeback"), {"pool": "default", "name": "more.raw", "format": "raw", "size_mib": 4}]

# One rung after another: the options beside the name, the words of the steps, the state that the info module sees then.
# A task runs four times: in check mode, for real, again, again in check mode.
LADDER: List[Tuple[Dict[str, Any], List[str], str]] = [
    (
        WEB1,
        ["create volume web1.qcow2 (16 MiB, qcow2) in pool default", "define domain web1 (128 MiB, 1 vCPUs, qemu)"],
        "shutoff",
    ),
    ({"state": "running"}, ["start the domain"], "running"),
    ({"memory_mib": 160}, ["set memory 128 → 160 MiB (next boot)"], "running"),
    ({"metadata": {"priority": "5"}}, ["set metadata priority none → 5"], "running"),
    ({"autostart": True}, ["start the domain with its host"], "running"),
    ({"state": "paused"}, ["pause the domain"], "paused"),
    ({"state": "running"}, ["resume the domain"], "running"),
    ({"state": "saved"}, ["save the domain's memory to disk and stop it"], "saved"),
    ({"state": "running"}, ["start the domain from its saved memory"], "running"),
    ({"state": "shutdown"}, ["shut the domain down and wait until it is off"], "shutoff"),
    ({"vcpus": 2}, ["set vCPUs 1 → 2"], "shutoff"),
    ({"cpu": "Westmere"}, ["set CPU qemu64 → Westmere"], "shutoff"),
    ({"boot": {"initrd": ""}}, ["set boot initrd /srv/lab/guest/initrd.img → none"], "shutoff"),
    (
        {"disks": MORE},
        [
            "create volume more.raw (4 MiB, raw) in pool default",
            "vda cache: none → writeback",
            "attach disk vdb (/var/lib/libvirt/images/more.raw)",
        ],
        "shutoff",
    ),
    ({"disks": [DISK]}, ["detach disk vdb (/var/lib/libvirt/images/more.raw); its data stays"], "shutoff"),
    ({"graphics": "vnc"}, ["set graphics none → vnc"], "shutoff"),
    ({"graphics": "none"}, ["set graphics vnc → none"], "shutoff"),
    ({"serial_log": ""}, ["set serial log %s → none" % SERIAL], "shutoff"),
    ({"autostart": False}, ["no longer start the domain with its host"], "shutoff"),
    ({"state": "paused"}, ["start the domain paused"], "paused"),
    ({"state": "destroyed"}, ["stop the domain at once"], "shutoff"),
    (
        {"state": "absent", "remove_storage": True},
        ["remove the domain's definition", "delete volume web1.qcow2 of pool default"],
        "",
    ),
]


@pytest.mark.parametrize("host", ["kvm1", "kvm3"])
def test_every_rung_in_the_quartet(clean: Lab, host: str) -> None:
    """kvm1 is bookworm, kvm3 is trixie."""
    tasks = []
    for options, _words, _state in LADDER:
        args = {"name": "web1", **options}
        tasks += [Task("kvm_domain", args, check) for check in (True, False, False, True)]
        tasks.append(Task("kvm_domain_info", {"names": ["web1"]}))
    results = clean.play(host, tasks, ["--diff"])
    for number, (options, words, state) in enumerate(LADDER):
        check, real, again, again_check, info = results[5 * number : 5 * number + 5]
        assert (check["changed"], real["changed"]) == (True, True), options
        assert check["steps"] == real["steps"] == words
        assert check["diff"] == real["diff"]
        assert (again["changed"], again_check["changed"]) == (False, False), (options, again["steps"])
        assert again["steps"] == again_check["steps"] == []
        assert again["pending"] is real["pending"]
        assert [domain["state"] for domain in info["domains"]] == ([state] if state else []), options
    assert clean.state(host, "web1") is None
    assert clean.sh(host, "ls", IMAGES).split() == ["more.raw"]


def test_a_guest_boots_answers_and_goes_down_by_itself(clean: Lab) -> None:
    clean.one("kvm1", "kvm_domain", **dict(WEB1, state="running"))
    until(lambda: answers(clean, 101), 60, "web1 answers")
    until(lambda: "tick 2" in clean.sh("kvm1", "cat", SERIAL), 30, "it ticks on its serial line")
    assert clean.sh("kvm1", "stat", "-c", "%a", f"{IMAGES}/web1.qcow2").strip() == "600"
    down = clean.one("kvm1", "kvm_domain", name="web1", state="shutdown", wait_timeout=60)
    assert down["domain"]["state"] == "shutoff"
    assert "shutting down, reason=shutdown" in clean.sh("kvm1", "cat", "/var/log/libvirt/qemu/web1.log")


def test_a_guest_that_ignores_the_button(clean: Lab) -> None:
    """Its kernel waits for a console that nobody reads, without init: nothing hears the power button."""
    deaf = guest("deaf", 102)
    deaf["boot"] = {"kernel": KERNEL["kernel"], "cmdline": "console=ttyS0 panic=0"}
    clean.one("kvm1", "kvm_domain", serial_log="/var/log/libvirt/qemu/deaf.serial.log", **deaf)
    until(lambda: "panic" in clean.sh("kvm1", "cat", "/var/log/libvirt/qemu/deaf.serial.log").lower(), 60, "no root")
    down = Task("kvm_domain", {"name": "deaf", "state": "shutdown", "wait_timeout": 3}, may_fail=True)
    forced = Task("kvm_domain", {"name": "deaf", "state": "shutdown", "wait_timeout": 1, "force": True})
    refused, done = clean.play("kvm1", [down, forced])
    assert refused["failed"]
    assert "still running after 3 s" in refused["msg"]
    assert "force: true" in refused["msg"]
    assert done["domain"]["state"] == "shutoff"


def _snapshot(lab: Lab) -> str:
    """All that libvirt and the pool hold on kvm1."""
    script = "virsh -q list --all; for d in $(virsh -q list --all --name); do virsh dumpxml $d; done; ls -l %s"
    return lab.sh("kvm1", "sh", "-c", script % IMAGES)


def test_check_mode_and_refusals_touch_nothing(clean: Lab) -> None:
    clean.one("kvm1", "kvm_domain", **WEB1)
    before = _snapshot(clean)
    fine = {"disks": []}
    bad: List[Tuple[Dict[str, Any], List[str]]] = [
        ({"xml": "<domain/>", "memory_mib": 64}, ["xml and memory_mib"]),
        ({"xml": '<!DOCTYPE d [<!ENTITY a SYSTEM "file:///etc/shadow">]><domain>&a;</domain>'}, ["DOCTYPE"]),
        ({"name": "../x", "memory_mib": 64, **fine}, ["name is '../x'"]),
        ({"name": "a/b", "memory_mib": 64, **fine}, ["name is 'a/b'"]),
        ({"name": "", "memory_mib": 64, **fine}, ["name is empty"]),
        ({"name": "n" * 300, "memory_mib": 64, **fine}, ["at most"]),
        ({"memory_mib": 99999999, **fine}, ["memory_mib 99999999", "give at most"]),
        ({"memory_mib": 64, "disks": [{"pool": "nix", "name": "a"}]}, ["disks[0].pool nix", "default"]),
        ({"memory_mib": 64, "disks": [{"path": "/nix/a.img"}]}, ["disks[0].path /nix/a.img", "pool"]),
        ({"memory_mib": 64, "disks": [dict(DISK, size_mib=17)]}, ["size_mib 17", "16 MiB"]),
        ({"memory_mib": 64, "disks": [dict(DISK, size_mib=0)]}, ["size_mib is 0"]),
        ({"memory_mib": 64, "networks": [{"bridge": "br7"}], **fine}, ["networks[0].bridge br7", "br0"]),
        ({"memory_mib": 64, "networks": [{"network": "nix"}], **fine}, ["networks[0].network nix"]),
        ({"memory_mib": 64, "machine": "pc-q35-99.0", **fine}, ["machine pc-q35-99.0"]),
        ({"state": "running"}, ["memory_mib", "disks"]),
    ]
    tasks = [Task("kvm_domain", {"name": "new", **args}, may_fail=True) for args, _phrases in bad]
    changes = [{"state": "running"}, {"memory_mib": 64}, {"state": "absent", "remove_storage": True}]
    tasks += [Task("kvm_domain", {"name": "web1", **args}, check=True) for args in changes]
    results = clean.play("kvm1", tasks)
    for result, (args, phrases) in zip(results[: len(bad)], bad, strict=True):
        assert result["failed"], args
        assert "before anything was changed" in result["msg"], result["msg"]
        for phrase in phrases:
            assert phrase in result["msg"], (phrase, result["msg"])
    assert all(result["changed"] for result in results[len(bad) :])
    assert _snapshot(clean) == before


@pytest.mark.parametrize("host", ["kvm1", "kvm3"])
def test_a_definition_from_xml(clean: Lab, host: str) -> None:
    """Given to libvirt of either release, and given again: no difference; one changed value: one step."""
    given = (XML / "plain.given.xml").read_text(encoding="utf-8")
    results = clean.quartet(host, "kvm_domain", name="plain", xml=given)
    assert [result["changed"] for result in results] == [True, True, False, False]
    changed = given.replace('cache="none"', 'cache="writeback"')
    results = clean.quartet(host, "kvm_domain", name="plain", xml=changed)
    assert results[1]["steps"] == ["disk vda driver cache: none → writeback"]
    assert [result["changed"] for result in results] == [True, True, False, False]
    dump = clean.virsh(host, "dumpxml", "plain")
    assert clean.one(host, "kvm_domain", name="plain", xml=dump)["changed"] is False


def test_unknown_parts_of_a_definition_survive_a_change(clean: Lab) -> None:
    """Made by virsh with a password and things that no option knows, changed by plain options."""
    xml = (XML / "small.given.xml").read_text(encoding="utf-8").replace("q35", MACHINE)
    extra = "<graphics type='vnc' passwd='geheim'/><watchdog model='i6300esb' action='reset'/></devices>"
    clean.sh("kvm1", "sh", "-c", "cat > /tmp/s.xml <<'EOF'\n%s\nEOF" % xml.replace("</devices>", extra))
    clean.virsh("kvm1", "define", "/tmp/s.xml")
    before = clean.virsh("kvm1", "dumpxml", "small", "--security-info", "--inactive").splitlines()
    done = clean.one("kvm1", "kvm_domain", name="small", memory_mib=300)
    assert done["steps"] == ["set memory 256 → 300 MiB"]
    assert "geheim" not in repr(done)
    after = clean.virsh("kvm1", "dumpxml", "small", "--security-info", "--inactive").splitlines()
    gone, new = [line for line in before if line not in after], [line for line in after if line not in before]
    assert [line.strip() for line in gone] == [
        "<memory unit='KiB'>262144</memory>",
        "<currentMemory unit='KiB'>262144</currentMemory>",
    ]
    assert [line.strip() for line in new] == [
        "<memory unit='KiB'>307200</memory>",
        "<currentMemory unit='KiB'>307200</currentMemory>",
    ]


def test_what_the_info_modules_say_is_what_virsh_says(clean: Lab) -> None:
    clean.one("kvm1", "kvm_domain", **dict(WEB1, state="running"))
    until(lambda: answers(clean, 101), 60, "web1 answers")
    tasks = [
        Task("kvm_host_info", {"gather": ["capacity", "capabilities", "pools", "volumes", "networks"]}),
        Task("kvm_domain_info", {"gather": ["config", "stats"]}),
    ]
    told, domains = clean.play("kvm1", tasks)
    host, web1 = told["host"], domains["domains"][0]
    version = clean.virsh("kvm1", "version")
    assert "library: libvirt %s" % host["libvirt_version"] in version
    assert "hypervisor: QEMU %s" % host["qemu_version"] in version
    assert host["memory_guests_max_mib"] == 128
    assert host["hostname"] == clean.virsh("kvm1", "hostname")
    assert host["bridges"] == ["br0"]
    assert host["machines"]["q35"].startswith("pc-q35-")
    pool = next(one for one in host["pools"] if one["name"] == "default")
    assert (pool["path"], [volume["name"] for volume in pool["volumes"]]) == (IMAGES, ["web1.qcow2"])
    assert web1["uuid"] == clean.virsh("kvm1", "domuuid", "web1")
    assert str(web1["id"]) == clean.virsh("kvm1", "domid", "web1")
    assert (web1["state"], web1["metadata"]) == ("running", {"group": "web"})
    assert web1["networks"][0]["mac"] in clean.virsh("kvm1", "domiflist", "web1")
    assert web1["stats"]["networks"][0]["sent_packets"] > 0
    assert web1["stats"]["disks"][0]["capacity_bytes"] == 16 * 1024 * 1024
    assert told["changed"] is domains["changed"] is False


@pytest.mark.parametrize("host", ["kvm1", "kvm3"])
def test_many_in_one_task_and_one_that_cannot_be(clean: Lab, host: str) -> None:
    plain = {
        key: value for key, value in guest("x", 1).items() if key in ("memory_mib", "vcpus", "machine", "domain_type")
    }
    names = ["many%d" % number for number in range(5)]
    said = dict(plain, state="paused", disks=[], domains=[{"name": name} for name in names])
    said["domains"][3]["state"] = "present"
    check, real, again, again_check = clean.quartet(host, "kvm_domain", **said)
    assert (check["changed"], real["changed"], again["changed"], again_check["changed"]) == (True, True, False, False)
    assert check["steps"] == real["steps"] and check["diff"] == real["diff"] and again["steps"] == []
    assert [each["domain"]["state"] for each in real["domains"]] == ["paused"] * 3 + ["shutoff", "paused"]
    said["domains"][1]["networks"] = [{"bridge": "nowhere"}]
    said["domains"].append({"name": "more"})
    (told,) = clean.play(host, [Task("kvm_domain", said, may_fail=True)])
    assert told["failed"] and told["msg"].startswith("1 of 6 domains are not as described. many1: ")
    assert [each["failed"] for each in told["domains"]] == [False, True, False, False, False, False]
    assert clean.state(host, "more") == "paused" and clean.state(host, "many1") == "paused"
