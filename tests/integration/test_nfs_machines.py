# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file server and two hypervisors with kernels of their own, rolled out by kvmops.fleet.site: a guest whose disk is on the
share migrates live, and goes on while the server restarts, loses its power and comes back.

The tests build on each other, in this order: a machine takes a minute to boot, and a roll-out several.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
import yaml

from .fleet import KERNEL, LAB, MACHINE, ROOT, Lab, until

pytestmark = pytest.mark.machine

NAME = "share"
HYPERVISORS = ("hv1", "hv2")
RELEASES = {"hv1": "bookworm", "hv2": "trixie"}
SHARE = "/srv/nfs/images"
STRICT = "/srv/nfs/strict"
WIDE = "/srv/nfs/everybody"
IMAGE = "%s/web1.raw" % SHARE
OUTSIDER = "10.77.0.199"
AS_QEMU = ("setpriv", "--reuid=64055", "--regid=64055", "--clear-groups")
# In the guest's own network, the same behind each hypervisor.
GUEST = "http://192.168.122.101/"
_GET = "import sys,urllib.request as r;print(r.urlopen(sys.argv[1],timeout=3).read().decode())"


def packages_of(release: str) -> str:
    """What the role would install: that is slow under emulation, so the machines have it from the start."""
    number = {"bookworm": 12, "trixie": 13}[release]
    text = (ROOT / "roles" / "hypervisor" / "vars" / ("debian-%d.yml" % number)).read_text(encoding="utf-8")
    return ",".join(yaml.safe_load(text)["__hypervisor_packages"] + ["nfs-common"])


def start(name: str, *options: str) -> None:
    words = [str(LAB), "machine", "start", name, "--name", NAME, "--memory-mib", "1024", *options]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)


@pytest.fixture(name="site", scope="module")
def fixture_site() -> Iterator[Lab]:
    """Three machines after kvmops.fleet.site. KVMOPS_LAB_SHARE names a lab where they are already, which stays up."""
    given = os.environ.get("KVMOPS_LAB_SHARE")
    if given:
        yield Lab(given, inventory_of(ROOT / ".lab" / given))
        return
    subprocess.run([str(LAB), "up", "--name", NAME, "--hosts", "0"], check=True, stdin=subprocess.DEVNULL)
    try:
        start("nfs1", "--packages", "nfs-kernel-server")
        for host in HYPERVISORS:
            start(host, "--os", RELEASES[host], "--packages", packages_of(RELEASES[host]))
        lab = Lab(NAME, inventory_of(ROOT / ".lab" / NAME))
        began = time.monotonic()
        told = lab.playbook("kvmops.fleet.site", timeout_s=1500)
        print("site: %.0f s, %s" % (time.monotonic() - began, told["stats"]))
        for host in HYPERVISORS:
            lab.virsh(host, "net-start", "default")
        yield lab
    finally:
        subprocess.run([str(LAB), "down", "--name", NAME], check=True, stdin=subprocess.DEVNULL)


def inventory_of(folder: Path) -> Path:
    """The lab's machines as a site: a server, and two hypervisors that mount from it."""
    inventory = yaml.safe_load((folder / "inventory.yml").read_text(encoding="utf-8"))
    machines = inventory["all"]["children"]["machines"]["hosts"]
    server = machines["nfs1"]["ansible_host"]
    share = {"server": server, "export": SHARE, "path": SHARE, "pool": "images"}
    inventory["all"]["children"] = {
        "nfs_servers": {
            "hosts": {
                "nfs1": dict(
                    machines["nfs1"],
                    nfs_server_exports=[
                        {"path": SHARE},
                        {"path": STRICT, "anonymous_uid": 65534, "anonymous_gid": 65534},
                    ],
                    # How long guests wait after a restart; the kernel's own 90 s would make a long test.
                    nfs_server_settings={"grace-time": 15, "lease-time": 15},
                )
            }
        },
        "hypervisors": {
            "hosts": {host: machines[host] for host in HYPERVISORS},
            "vars": {
                "nfs_client_mounts": [share, {"server": server, "export": STRICT, "path": STRICT}],
                "nfs_client_wait_s": 20,
                "hypervisor_tls_ca_dir": str(folder / "ca"),
            },
        },
    }
    path = folder / "site.yml"
    path.write_text(yaml.safe_dump(inventory), encoding="utf-8")
    return path


def address(lab: Lab, machine: str) -> str:
    for group in yaml.safe_load(lab.inventory.read_text(encoding="utf-8"))["all"]["children"].values():
        if machine in group["hosts"]:
            return str(group["hosts"][machine]["ansible_host"])
    raise AssertionError("no machine %s" % machine)


def guest_says(lab: Lab, host: str) -> Dict[str, int]:
    """ticks: seconds the guest has lived through. records: those it has on its disk. Empty when it does not answer."""
    page = lab.sh(host, "python3", "-c", _GET, GUEST, check=False)
    return {key: int(value) for key, value in re.findall(r"^(tick|records): (\d+)$", page, re.MULTILINE)}


def goes_on(lab: Lab, host: str, seconds: float, what: str) -> Dict[str, int]:
    """Waits until the guest has written three more records than it has now, or than it says first."""
    first = until(lambda: guest_says(lab, host), seconds, "%s: the guest answers" % what)
    began = time.monotonic()
    now = until(
        lambda: _after(guest_says(lab, host), first["records"] + 3), seconds, "%s: more than %s" % (what, first)
    )
    print("%s: from %s to %s in %.0f s" % (what, first, now, time.monotonic() - began))
    return dict(now)


def _after(found: Dict[str, int], record: int) -> Dict[str, int]:
    return found if found.get("records", 0) >= record else {}


def test_the_share_is_exported_to_the_hypervisors_alone(site: Lab) -> None:
    shown = " ".join(site.sh("nfs1", "exportfs", "-v").split())
    for host in HYPERVISORS:
        own = address(site, host)
        options = re.findall(r"%s %s\((\S*)\)" % (SHARE, re.escape(own)), shown)
        assert len(options) == 1 and {"rw", "sync", "root_squash"} <= set(options[0].split(",")), shown
    assert shown.count(SHARE) == shown.count(STRICT) == 2 and "<world>" not in shown, shown
    assert site.sh("nfs1", "stat", "--format=%u:%g %a", SHARE).strip() == "64055:64055 755"
    # NFSv4 has one port; nothing of NFSv3 is there.
    listening = site.sh("nfs1", "ss", "-lntuH").split("\n")
    ports = sorted(
        {line.split()[4].rsplit(":", 1)[1] for line in listening if line.split() and line.split()[0] == "tcp"}, key=int
    )
    assert ports == ["22", "2049"], listening


def test_mounts_and_pools(site: Lab) -> None:
    ask = (
        "findmnt --noheadings --output OPTIONS --types nfs4 {share}; systemctl is-enabled srv-nfs-images.mount;"
        "virsh -q pool-info images | grep State; id --user libvirt-qemu; getent group libvirt-qemu | cut -d: -f3"
    )
    for host in HYPERVISORS:
        options, *rest = site.sh(host, "sh", "-c", ask.format(share=SHARE)).split("\n")
        assert {"vers=4.2", "hard", "nosuid", "nodev", "noexec"} <= set(options.split(",")), options
        assert " ".join(rest).split() == ["enabled", "State:", "running", "64055", "64055"]


def test_what_one_writes_the_other_reads_and_root_is_not_root(site: Lab) -> None:
    """On the guests' share root is QEMU's user, on the strict one it is nobody, on none it is root."""
    site.sh("nfs1", "sh", "-c", "umask 077; for share in %s %s; do echo roots > $share/roots; done" % (SHARE, STRICT))
    write = "umask 077; for share in %s %s; do echo from hv1 > $share/letter; done" % (SHARE, STRICT)
    site.sh("hv1", *AS_QEMU, "sh", "-c", write)
    assert site.sh("hv2", *AS_QEMU, "cat", SHARE + "/letter", STRICT + "/letter") == "from hv1\nfrom hv1\n"
    script = (
        "cd {share}; cat letter roots 2>&1; echo mine 2>&1 > mine && stat --format='%u:%g' mine; chown 0 mine 2>&1;"
        "chmod u+s roots 2>&1; rm -f mine; true"
    )
    said = site.sh("hv2", "sh", "-c", script.format(share=SHARE)).splitlines()
    assert said[0] == "from hv1" and "64055:64055" in said and "roots: Permission denied" in said[1], said
    assert "changing ownership of 'mine': Operation not permitted" in said[3], said
    assert "changing permissions of 'roots': Operation not permitted" in said[4], said
    said = site.sh("hv2", "sh", "-c", script.format(share=STRICT)).splitlines()
    assert (
        "letter: Permission denied" in said[0]
        and "roots: Permission denied" in said[1]
        and not {"from hv1", "roots"} & set(said)
    )
    site.sh("nfs1", "sh", "-c", "rm {0}/letter {0}/roots {1}/letter {1}/roots".format(SHARE, STRICT))


def test_a_second_run_changes_nothing_and_one_look_each_suffices(site: Lab) -> None:
    for argv in ([], ["--check"]):
        told = site.playbook("kvmops.fleet.site", "--tags", "nfs", *argv)
        assert [host["changed"] for host in told["stats"].values()] == [0, 0, 0], told["stats"]
        looks = [task["task"]["name"] for play in told["plays"] for task in play["tasks"] if _acted(task)]
        assert looks == [
            "kvmops.fleet.nfs_server : See what the host has",
            "kvmops.fleet.nfs_client : See what the host has",
        ]


def _acted(task: Dict[str, Any]) -> bool:
    modules = (
        "ansible.builtin.shell",
        "ansible.builtin.command",
        "ansible.builtin.copy",
        "ansible.builtin.systemd_service",
    )
    return any(host.get("action") in modules and not host.get("skipped") for host in task["hosts"].values())


@contextlib.contextmanager
def outsider(lab: Lab) -> Iterator[Callable[[int, str], str]]:
    """A network namespace of hv1 with an address that is no hypervisor's. Gives what runs a command in it within seconds."""
    server = address(lab, "nfs1")
    card = json.loads(lab.sh("hv1", "ip", "-json", "route", "get", server))[0]["dev"]
    make = (
        "ip netns add outsider && ip link add outside link {card} type macvlan mode bridge && ip link set outside netns outsider"
        " && ip -n outsider address add {address}/24 dev outside && ip -n outsider link set outside up"
        " && ip netns exec outsider ping -c 1 -W 10 {server} && mkdir -p /mnt/outsider"
    )
    lab.sh("hv1", "sh", "-c", make.format(card=card, address=OUTSIDER, server=server))
    inside = "ip netns exec outsider timeout %d %s 2>&1; echo code $?"
    try:
        yield lambda seconds, command: lab.sh("hv1", "sh", "-c", inside % (seconds, command))
    finally:
        gone = "umount /mnt/outsider 2> /dev/null; ip netns delete outsider; rmdir /mnt/outsider"
        lab.sh("hv1", "sh", "-c", gone, check=False)


@contextlib.contextmanager
def no_firewall(lab: Lab) -> Iterator[None]:
    lab.sh("nfs1", "sh", "-c", "nft list ruleset > /run/ruleset && nft flush ruleset")
    try:
        yield
    finally:
        lab.sh("nfs1", "nft", "-f", "/run/ruleset")


def knock(lab: Lab) -> str:
    return "bash -c '< /dev/tcp/%s/2049'" % address(lab, "nfs1")


def mount(lab: Lab, share: str) -> str:
    return "mount -t nfs -o vers=4.2,retry=0 %s:%s /mnt/outsider" % (address(lab, "nfs1"), share)


def test_an_outsider_cannot_mount(site: Lab) -> None:
    """Kept out by the firewall, and by the export without it."""
    with outsider(site) as run:
        assert "code 124" in run(8, knock(site))
        with no_firewall(site):
            assert "code 0" in run(8, knock(site))
            said = run(60, mount(site, SHARE))
            assert "code 0" not in said and re.search("denied|not permitted|No such file", said), said
        assert "code 124" in run(8, knock(site))


def a_guest() -> Dict[str, Any]:
    """web1, off."""
    boot = dict(KERNEL, cmdline="console=ttyS0 kvmops.name=web1 kvmops.ip=192.168.122.101/24")
    return {
        "name": "web1",
        "state": "present",
        "memory_mib": 96,
        "vcpus": 1,
        "machine": MACHINE,
        "domain_type": "qemu",
        "boot": boot,
        "disks": [{"pool": "images", "name": "web1.raw", "format": "raw", "size_mib": 16}],
        "networks": [{"network": "default", "model": "virtio"}],
    }


def test_a_guest_lives_on_the_share(site: Lab) -> None:
    """libvirt makes its volume as QEMU's user."""
    site.one("hv1", "kvm_domain", **a_guest())
    assert site.sh("nfs1", "stat", "--format=%u:%g %a", IMAGE).strip() == "64055:64055 600"
    site.sh("hv1", *AS_QEMU, "mke2fs", "-q", "-F", "-t", "ext4", IMAGE)
    site.one("hv1", "kvm_domain", **dict(a_guest(), state="running"))
    goes_on(site, "hv1", 600, "after its start")


def test_no_second_host_may_start_a_guest_on_its_disk(site: Lab) -> None:
    thief = dict(a_guest(), name="thief", networks=[], state="running")
    refused = site.one("hv2", "kvm_domain", may_fail=True, **thief)
    assert refused["failed"] and "lock" in refused["msg"], refused["msg"]
    site.one("hv2", "kvm_domain", name="thief", state="absent")


def test_it_migrates_live_with_nothing_but_its_memory(site: Lab) -> None:
    before = guest_says(site, "hv1")
    began = time.monotonic()
    real = site.one("hv1", "kvm_migrate", name="web1", host="hv2")
    metrics = real["metrics"]
    seconds = time.monotonic() - began
    print("migration: %.0f s, total %s ms, downtime %s ms" % (seconds, metrics["total_ms"], metrics["downtime_ms"]))
    assert [disk["storage"] for disk in real["disks"]] == ["shared"] and metrics["disk_bytes"] == 0
    assert site.owners("web1", HYPERVISORS) == ["hv2"]
    after = goes_on(site, "hv2", 180, "after its move")
    assert after["records"] > before["records"] and after["tick"] > before["tick"]
    assert site.sh("nfs1", "stat", "--format=%u %a", IMAGE).split() == ["64055", "600"]
    assert not site.one("hv1", "kvm_migrate", name="web1", host="hv2")["changed"]


def test_the_guest_goes_on_when_the_server_is_restarted(site: Lab) -> None:
    before = guest_says(site, "hv2")
    site.sh("nfs1", "systemctl", "restart", "nfs-server")
    after = goes_on(site, "hv2", 180, "after a restart of nfs-server")
    assert after["tick"] > before["tick"] and after["records"] > before["records"]
    assert "No errors" in site.virsh("hv2", "domblkerror", "web1")


def test_the_guest_goes_on_when_the_server_loses_its_power(site: Lab) -> None:
    """Its disk stands still meanwhile, and it does not."""
    site.lab("fault", "power-off", "nfs1")
    first = guest_says(site, "hv2")
    now = until(lambda: _ticks(guest_says(site, "hv2"), first["tick"] + 10), 120, "the guest ticks on without its disk")
    assert now["records"] <= first["records"] + 1, (first, now)
    assert site.state("hv2", "web1") == "running"
    site.lab("fault", "power-on", "nfs1")
    goes_on(site, "hv2", 300, "after the power came back")
    assert "No errors" in site.virsh("hv2", "domblkerror", "web1")


def _ticks(found: Dict[str, int], tick: int) -> Dict[str, int]:
    return found if found.get("tick", 0) >= tick else {}


def test_a_share_in_use_stays_and_nothing_was_lost(site: Lab) -> None:
    share = yaml.safe_load(site.inventory.read_text())["all"]["children"]["hypervisors"]["vars"]["nfs_client_mounts"][0]
    gone = ["--tags", "nfs_client", "-e", json.dumps({"nfs_client_mounts": [dict(share, state="absent")]})]
    told = site.playbook("kvmops.fleet.site", "--limit", "hv2", *gone, check=False)
    assert told["rc"] != 0 and "was not unmounted: process" in json.dumps(told) and "web1" in json.dumps(told)
    assert site.state("hv2", "web1") == "running" and "running" in site.virsh("hv2", "pool-info", "images")

    site.virsh("hv2", "destroy", "web1")
    site.playbook("kvmops.fleet.site", "--limit", "hv1", *gone)
    left = "findmnt {0}; ls /etc/systemd/system | grep srv-nfs-images; ls -d {0} 2>&1; true".format(SHARE)
    assert site.sh("hv1", "sh", "-c", left) == "ls: cannot access '%s': No such file or directory\n" % SHARE
    assert "images" not in site.virsh("hv1", "pool-list", "--all", "--name")

    read = "e2fsck -p {0} > /dev/null; test $? -le 1 && debugfs -R 'cat /records' {0} 2> /dev/null".format(IMAGE)
    numbers: List[int] = [int(line.split()[0]) for line in site.sh("hv2", *AS_QEMU, "sh", "-c", read).splitlines()]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) > 20, numbers
    print("%d records, none missing" % len(numbers))


def test_a_host_that_is_up_before_its_server_gets_its_pool_later(site: Lab) -> None:
    site.sh("nfs1", "systemctl", "stop", "nfs-server")
    subprocess.run([str(LAB), "machine", "reboot", "hv2", "--name", site.name], check=True, stdin=subprocess.DEVNULL)
    until(
        lambda: "images" in site.virsh("hv2", "pool-list", "--all", "--name", check=False),
        180,
        "libvirt answers without it",
    )
    assert "running" not in site.virsh("hv2", "pool-info", "images")
    site.sh("nfs1", "systemctl", "start", "nfs-server")
    until(lambda: "running" in site.virsh("hv2", "pool-info", "images", check=False), 180, "the pool is there")
    assert "web1.raw" in site.virsh("hv2", "vol-list", "images")


def test_removal_on_the_server(site: Lab) -> None:
    told = site.playbook("kvmops.fleet.site", "--limit", "nfs1", "--tags", "nfs", "-e", "nfs_server_state=absent")
    again = site.playbook("kvmops.fleet.site", "--limit", "nfs1", "--tags", "nfs", "-e", "nfs_server_state=absent")
    assert told["stats"]["nfs1"]["changed"] > 0 and again["stats"]["nfs1"]["changed"] == 0
    assert site.sh("nfs1", "exportfs", "-v").strip() == ""
    assert site.sh("nfs1", "sh", "-c", "ls %s /etc/exports.d; ss -lntH | grep ':2049 '; true" % SHARE).split() == [
        *("/etc/exports.d:", "%s:" % SHARE),
        "web1.raw",
    ]


def test_everybody_may_mount_only_what_is_said_to_be_for_everybody(site: Lab) -> None:
    """`DIR *(rw,sync,no_root_squash)` of old manuals: refused, and done with a warning when the variable says so."""
    exports = {"nfs_server_exports": [{"path": WIDE, "clients": ["*"], "squash": "none", "uid": 0, "gid": 0}]}
    words = ["--limit", "nfs1", "--tags", "nfs", "-e", json.dumps(exports)]
    refused = site.playbook("kvmops.fleet.site", *words, check=False)
    assert refused["rc"] != 0 and "nfs_server_allow_everyone" in json.dumps(refused)
    assert WIDE not in site.sh("nfs1", "exportfs", "-v")
    allowed = [*words, "-e", "nfs_server_allow_everyone=true"]
    for changes in (True, False):
        told = site.playbook("kvmops.fleet.site", *allowed)
        assert (told["stats"]["nfs1"]["changed"] > 0) == changes and "WARNING nfs1: " in json.dumps(told)
    shown = " ".join(site.sh("nfs1", "exportfs", "-v").split())
    options = re.findall(r"%s <world>\((\S*)\)" % WIDE, shown)
    assert len(options) == 1 and {"rw", "sync", "no_root_squash"} <= set(options[0].split(",")), shown
    with outsider(site) as run:
        # The export is wide, the firewall is not.
        assert "code 124" in run(8, knock(site))
        with no_firewall(site):
            assert "code 0" in run(60, mount(site, WIDE))
            said = run(60, "sh -c 'touch /mnt/outsider/mine && stat --format=%u:%g /mnt/outsider/mine'")
            assert "0:0" in said and "code 0" in said, said
