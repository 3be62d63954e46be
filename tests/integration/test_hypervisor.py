# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role hypervisor on ready hosts, looked at from outside.

One stream of runs per host, the three side by side, each giving its host back as it was. The tests are what the streams saw.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from .fleet import Lab, alone, guest, until

HERE = Path(__file__).resolve().parent
LAB_QEMU_CONF = {"cgroup_controllers": [], "security_driver": "none"}
ROLE = "kvmops.fleet.hypervisor"


class Told:
    """What one run of the role said."""

    def __init__(self, told: Dict[str, Any], host: str) -> None:
        self.failed = told["rc"] != 0
        self.results: Dict[str, List[Dict[str, Any]]] = {}
        for play in told["plays"]:
            for task in play["tasks"]:
                if host in task["hosts"]:
                    name = task["task"]["name"].split(" : ", 1)[-1]
                    self.results.setdefault(name, []).append(task["hosts"][host])
        self.changed = [name for name, results in self.results.items() if any(r.get("changed") for r in results)]
        said = [r for results in self.results.values() for r in results]
        said += [item for r in said for item in r.get("results", [])]
        self.words = "\n".join(str(r.get("msg", "")) for r in said)


def roll(lab: Lab, host: str, *argv: str, may_fail: bool = False, **variables: Any) -> Told:
    """Run the role alone on a host, or on several with commas between; what the first was told."""
    book = lab.inventory.parent / ("hypervisor-%s.json" % host)
    play = {
        "hosts": host,
        "become": True,
        "gather_facts": True,
        "gather_subset": ["!all", "!min", "distribution", "ssh_pub_keys"],
        "vars": variables,
        "roles": [ROLE],
    }
    book.write_text(json.dumps([play]), encoding="utf-8")
    return Told(lab.playbook(str(book), *argv, check=not may_fail), host.split(",", maxsplit=1)[0])


def shell(lab: Lab, host: str, script: str, check: bool = True) -> str:
    return lab.sh(host, "sh", "-c", script, check=check).strip()


def may_manage(lab: Lab, host: str, user: str) -> bool:
    """Whether this user of the host can use libvirt as root does."""
    said = shell(
        lab, host, "runuser -u %s -- virsh -q -c qemu:///system list --all 2>&1; echo rc=$?" % user, check=False
    )
    return said.endswith("rc=0")


def refusals(lab: Lab) -> None:
    state = "sha256sum /etc/libvirt/*.conf"
    before = shell(lab, "kvm2", state)
    told = roll(
        lab,
        "kvm2",
        may_fail=True,
        hypervisor_daemons="modular",
        hypervisor_qemu_conf=dict(LAB_QEMU_CONF, max_cores="many", vnc_tls="yes", user=0),
        hypervisor_libvirtd_conf={"mdns_adv": 0, "max_clients": "20"},
        hypervisor_lockd_conf={"auto_disk_lease": True},
    )
    assert told.failed and "there is no virtqemud" in told.words
    for key in ("max_cores", "vnc_tls", "user", "auto_disk_lease"):
        assert "conf.%s is" % key in told.words, key
    told = roll(lab, "kvm2", may_fail=True, hypervisor_libvirtd_conf={"mdns_adv": 0, "max_clients": "20"})
    for key in ("mdns_adv", "max_clients"):
        assert "conf.%s is" % key in told.words, key
    assert shell(lab, "kvm2", state) == before
    assert "Restart the libvirt daemons" not in told.changed


def preset(lab: Lab) -> None:
    """With a guest that must not notice; `insider` is to become a member, `outsider` not."""
    shell(lab, "kvm1", "for user in insider outsider; do useradd --create-home $user; done")
    process = shell(lab, "kvm1", "cat /run/libvirt/qemu/web1.pid")

    open_door = roll(lab, "kvm1", may_fail=True, hypervisor_libvirtd_conf={"auth_unix_rw": "none"})
    assert open_door.failed and "as good as root" in open_door.words

    shell(
        lab,
        "kvm1",
        "folder=/etc/polkit-1/localauthority/50-local.d; mkdir -p $folder; echo x > $folder/50-libvirt.pkla;"
        "echo x > $folder/10-mine.pkla",
    )
    assert not may_manage(lab, "kvm1", "insider")
    roll(lab, "kvm1", hypervisor_preset="document2014", hypervisor_users=["insider"])
    again = roll(lab, "kvm1", hypervisor_preset="document2014", hypervisor_users=["insider"])
    assert again.changed == []
    conf = shell(lab, "kvm1", "cat /etc/libvirt/libvirtd.conf")
    assert 'auth_unix_rw = "none"' in conf and "mdns_adv" not in conf
    modes = shell(lab, "kvm1", "stat -c '%a %G' /run/libvirt/libvirt-sock /run/libvirt/libvirt-sock-ro")
    assert modes.splitlines() == ["770 libvirt", "777 libvirt"]
    assert (may_manage(lab, "kvm1", "insider"), may_manage(lab, "kvm1", "outsider")) == (True, False)
    assert shell(lab, "kvm1", "ls /etc/polkit-1/localauthority/50-local.d") == "10-mine.pkla"

    # Back to polkit; the rule is ours, not the distribution's.
    back = roll(lab, "kvm1", "--diff")
    assert "Restart the libvirt sockets" in back.changed
    shell(lab, "kvm1", "mv /usr/share/polkit-1/rules.d/60-libvirt.rules /root/; systemctl restart polkit")
    try:
        assert (may_manage(lab, "kvm1", "insider"), may_manage(lab, "kvm1", "outsider")) == (True, False)
        shell(lab, "kvm1", "rm /etc/polkit-1/rules.d/50-kvmops-libvirt.rules; systemctl restart polkit")
        assert not may_manage(lab, "kvm1", "insider")
    finally:
        shell(lab, "kvm1", "mv /root/60-libvirt.rules /usr/share/polkit-1/rules.d/; systemctl restart polkit")
    assert roll(lab, "kvm1").changed == ["Write files of our own"]

    assert shell(lab, "kvm1", "cat /run/libvirt/qemu/web1.pid") == process
    assert lab.state("kvm1", "web1") == "running"
    shell(lab, "kvm1", "for user in insider outsider; do userdel --remove $user; done 2> /dev/null")


DOMAIN = """<domain type='qemu'><name>locked</name><memory unit='MiB'>64</memory><os><type arch='x86_64'>hvm</type></os>
<devices><disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/var/lib/libvirt/images/one.img'/>
<target dev='vda' bus='virtio'/></disk></devices></domain>"""
# The first byte, as the virtlockd of another host takes it on shared storage. QEMU's own locks are on other bytes.
ELSEWHERE = """import fcntl, sys, time
image = open("/var/lib/libvirt/images/one.img", "r+b")
fcntl.lockf(image, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
print("held", flush=True)
time.sleep(60)
"""


def locks(lab: Lab, host: str) -> None:
    shell(lab, host, "truncate -s 8M /var/lib/libvirt/images/one.img; cat > /root/locked.xml <<'END'\n%s\nEND" % DOMAIN)
    hold = "rm -f /root/held; python3 -c '%s' > /root/held 2>&1 < /dev/null & holder=$!;" % ELSEWHERE
    hold += "until test -s /root/held; do :; done; cat /root/held; virsh -q create /root/locked.xml 2>&1; kill $holder"
    said = shell(lab, host, hold, check=False)
    assert "held" in said and "Lockspace resource '/var/lib/libvirt/images/one.img' is locked" in said, said
    assert lab.state(host, "locked") is None
    shell(lab, host, "virsh -q create /root/locked.xml; rm /root/locked.xml /root/held")
    assert shell(lab, host, "find /proc/$(pidof virtlockd)/fd -lname '*/one.img'") != ""
    shell(lab, host, "virsh -q destroy locked; rm /var/lib/libvirt/images/one.img")


POOLS = [
    {"name": "default", "path": "/var/lib/libvirt/images"},
    {"name": "fast", "path": "/data/fast"},
    {
        "name": "nas",
        "type": "netfs",
        "path": "/srv/nas",
        "start": False,
        "source": {"host": "10.77.0.10", "dir": "/srv/images", "format": "nfs"},
    },
    {"name": "vg", "type": "logical", "start": False, "source": {"name": "vg0"}},
    {
        "name": "ceph",
        "start": False,
        "xml": "<pool type='rbd'><name>ceph</name><source><host name='10.77.0.9'/><name>guests</name></source></pool>",
    },
]


def pools_and_networks(lab: Lab) -> None:
    wanted: Dict[str, Any] = {
        "hypervisor_pools": POOLS[:4],
        "hypervisor_networks": [
            {"name": "lan", "bridge": "br0"},
            {"name": "alone", "xml": "<network><name>alone</name></network>", "autostart": False},
        ],
        "hypervisor_image_paths": ["/data/golden"],
        "hypervisor_extra_packages": ["apparmor"],
    }
    try:
        roll(lab, "kvm1", **wanted)
        assert roll(lab, "kvm1", **wanted).changed == []
        pools = {line.split()[0]: line.split()[1:] for line in lab.virsh("kvm1", "pool-list", "--all").splitlines()}
        assert pools == {
            "default": ["active", "yes"],
            "fast": ["active", "yes"],
            "nas": ["inactive", "no"],
            "vg": ["inactive", "no"],
        }
        nets = {line.split()[0]: line.split()[1:3] for line in lab.virsh("kvm1", "net-list", "--all").splitlines()}
        assert (nets["lan"], nets["alone"]) == (["active", "yes"], ["active", "no"])
        assert "<format type='nfs'/>" in lab.virsh("kvm1", "pool-dumpxml", "nas")
        # As AppArmor reads it: the whole profile, with our lines for places it does not know.
        read = shell(lab, "kvm1", "apparmor_parser --preprocess /etc/apparmor.d/usr.lib.libvirt.virt-aa-helper")
        assert '"/data/fast/**" r,' in read and '"/data/golden/" r,' in read and "/srv/nas" not in read

        other = roll(lab, "kvm1", may_fail=True, **dict(wanted, hypervisor_networks=[{"name": "lan", "bridge": "br9"}]))
        assert other.failed and "is not replaced" in other.words
        wrong = roll(
            lab,
            "kvm1",
            may_fail=True,
            hypervisor_pools=[
                {"name": "a b", "path": "x"},
                {"name": "n", "type": "netfs"},
                {"name": "n", "path": "/}"},
            ],
            hypervisor_networks=[{"name": "x"}],
        )
        for words in (
            '"a b" is no name',
            "must be absolute",
            "needs source.host",
            "more than once",
            "either bridge or xml",
        ):
            assert words in wrong.words, words
    finally:
        script = "for p in fast nas vg; do virsh -q pool-destroy $p; virsh -q pool-undefine $p; done 2> /dev/null;"
        script += (
            "for n in lan alone; do virsh -q net-destroy $n; virsh -q net-undefine $n; done 2> /dev/null; rm -rf /data"
        )
        shell(lab, "kvm1", script, check=False)
    back = roll(lab, "kvm1")
    assert "Let libvirt's helper read disks in the pools" in back.changed
    assert "kvmops" not in shell(lab, "kvm1", "cat /etc/apparmor.d/local/usr.lib.libvirt.virt-aa-helper")


def reasons_without_kvm(lab: Lab) -> None:
    told = roll(lab, "kvm2", "--tags", "kvm,proof", may_fail=True, hypervisor_require_kvm=True)
    assert told.failed and "neither vmx nor svm" in told.words and "Refused: kvm2" in told.words

    shell(lab, "kvm2", "echo 'flags : fpu vmx sse' > /root/cpuinfo; mount --bind /root/cpuinfo /proc/cpuinfo")
    try:
        with alone("userfaultfd"):
            told = roll(lab, "kvm2", hypervisor_nested=True, hypervisor_postcopy=True)
        assert "container (systemd-nspawn) without /dev/kvm" in told.words
        assert shell(lab, "kvm2", "grep -v '^#' /etc/modules-load.d/kvmops.conf").split() == ["kvm", "kvm_intel"]
        assert "options kvm_intel nested=1" in shell(lab, "kvm2", "cat /etc/modprobe.d/kvmops.conf")
        assert "userfaultfd = 1" in shell(lab, "kvm2", "cat /etc/sysctl.d/60-kvmops-postcopy.conf")
        assert "read-only" in told.words

        shell(lab, "kvm2", "touch /dev/kvm; chmod 600 /dev/kvm")
        told = roll(lab, "kvm2", "--tags", "kvm,proof", hypervisor_nested=True)
        assert "does not let it be opened" in told.words and "Permission denied" in told.words
        shell(lab, "kvm2", "chmod 666 /dev/kvm")
        told = roll(lab, "kvm2", "--tags", "kvm,proof", hypervisor_nested=True)
        assert "can be opened, yet QEMU cannot run guests with it" in told.words
    finally:
        shell(lab, "kvm2", "umount /proc/cpuinfo; rm -f /root/cpuinfo /dev/kvm")
    roll(lab, "kvm2", hypervisor_postcopy=False)
    assert (
        shell(
            lab,
            "kvm2",
            "ls /etc/modules-load.d/kvmops.conf /etc/modprobe.d/kvmops.conf /etc/sysctl.d/60-k* 2> /dev/null",
            check=False,
        )
        == ""
    )
    roll(lab, "kvm2")


def tarball(folder: Path, version: str, make: str = "") -> Dict[str, str]:
    """A real source tarball of a program that takes a second to build and prints its version."""
    root = folder / ("tiny-%s" % version)
    root.mkdir()
    (root / "configure").write_text(
        '#!/bin/sh\nfor o in "$@"; do case $o in --prefix=*) prefix=${o#*=};; esac; done\n'
        'sed "s|@prefix@|$prefix|" "$(dirname "$0")/Makefile.in" > Makefile\necho "$@" > options\n'
    )
    (root / "configure").chmod(0o755)
    (root / "Makefile.in").write_text(
        "all:\n\t%s\n\tid -un > builder\n\tprintf '#!/bin/sh\\necho tiny %s\\n' > program\n"
        "install:\n\tinstall -D program $(DESTDIR)@prefix@/bin/qemu-system-x86_64\n"
        "\tinstall -D -m 644 options $(DESTDIR)@prefix@/options\n\tinstall -D -m 644 builder $(DESTDIR)@prefix@/builder\n"
        "\tinstall -D -m 644 options $(DESTDIR)/etc/tiny.conf\n" % (make or "true", version)
    )
    path = folder / ("tiny-%s.tar.xz" % version)
    with tarfile.open(path, "w:xz") as archive:
        archive.add(root, arcname=root.name)
    return {"tarball": str(path), "checksum": hashlib.sha256(path.read_bytes()).hexdigest(), "prefix": "/opt/tiny"}


def source(lab: Lab, tmp_path: Path) -> None:
    def built(may_fail: bool = False, **qemu: Any) -> Told:
        return roll(
            lab,
            "kvm3",
            may_fail=may_fail,
            hypervisor_install_method="source",
            hypervisor_source_packages=["make", "xz-utils"],
            hypervisor_source={"qemu": qemu},
        )

    def version() -> str:
        return shell(lab, "kvm3", "/opt/tiny/bin/qemu-system-x86_64", check=False)

    try:
        one = tarball(tmp_path, "1")
        told = built(may_fail=True, **dict(one, checksum="0" * 64))
        assert told.failed and one["checksum"] in told.words and version() == ""
        built(**one)
        assert version() == "tiny 1"
        options = shell(lab, "kvm3", "cat /opt/tiny/options")
        assert options.startswith("--prefix=/opt/tiny --localstatedir=/var --sysconfdir=/etc")
        assert shell(lab, "kvm3", "cat /opt/tiny/builder") == "kvmops-build"
        assert shell(lab, "kvm3", "cat /etc/tiny.conf") == options
        shell(lab, "kvm3", "echo mine > /etc/tiny.conf")
        assert built(**one).changed == []

        told = built(may_fail=True, **tarball(tmp_path, "2", make="echo no such header; false"))
        assert told.failed and "no such header" in told.words and '"build"' in told.words and "untouched" in told.words
        assert version() == "tiny 1"
        built(**tarball(tmp_path, "3"))
        assert version() == "tiny 3" and shell(lab, "kvm3", "cat /etc/tiny.conf") == "mine"
    finally:
        shell(lab, "kvm3", "rm -rf /opt/tiny /etc/tiny.conf /var/lib/kvmops/source; userdel kvmops-build", check=False)


def repair(lab: Lab) -> None:
    """A guest of before, its daemon stopped and its lock daemon off: all is put right, and the guest has not noticed."""
    process = shell(lab, "kvm2", "cat /run/libvirt/qemu/web2.pid")
    shell(lab, "kvm2", "systemctl -q disable --now virtlockd.socket libvirtd.socket libvirtd.service")
    told = roll(lab, "kvm2")
    assert "Run the daemons' sockets now and after a reboot" in told.changed
    assert lab.state("kvm2", "web2") == "running"
    until(lambda: shell(lab, "kvm2", "systemctl is-active virtlockd.socket", check=False) == "active", 5, "virtlockd")
    assert shell(lab, "kvm2", "cat /run/libvirt/qemu/web2.pid") == process


@pytest.fixture(name="streams", scope="module")
def fixture_streams(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dict[str, Future[None]]]:
    """What becomes of each step. The steps of one host follow each other, whatever became of the one before."""
    lab.one("kvm1", "kvm_domain", **guest("web1", 101))
    lab.one("kvm2", "kvm_domain", **guest("web2", 102))
    folder = tmp_path_factory.mktemp("tarballs")
    hosts: List[Dict[str, Callable[[], None]]] = [
        {
            "preset": lambda: preset(lab),
            "locks kvm1": lambda: locks(lab, "kvm1"),
            "pools": lambda: pools_and_networks(lab),
        },
        {"kvm": lambda: reasons_without_kvm(lab), "repair": lambda: repair(lab), "refusals": lambda: refusals(lab)},
        {"source": lambda: source(lab, folder), "locks kvm3": lambda: locks(lab, "kvm3")},
    ]
    streams: Dict[str, Future[None]] = {name: Future() for steps in hosts for name in steps}

    def follow(steps: Dict[str, Callable[[], None]]) -> None:
        for name, step in steps.items():
            try:
                step()
            except BaseException as error:
                streams[name].set_exception(error)
            else:
                streams[name].set_result(None)

    with ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(follow, hosts))
    yield streams
    for host, name in (("kvm1", "web1"), ("kvm2", "web2")):
        shell(lab, host, "virsh -q destroy %s; virsh -q undefine %s" % (name, name), check=False)


def test_the_preset_of_the_document_keeps_outsiders_out_and_guests_alive(streams: Dict[str, Future[None]]) -> None:
    streams["preset"].result()


def test_every_reason_for_missing_kvm_has_its_sentence(streams: Dict[str, Future[None]]) -> None:
    streams["kvm"].result()


def test_source_is_checked_built_once_and_again_after_a_change(streams: Dict[str, Future[None]]) -> None:
    streams["source"].result()


@pytest.mark.parametrize("host", ["kvm1", "kvm3"])
def test_a_disk_in_use_elsewhere_is_refused_by_virtlockd(streams: Dict[str, Future[None]], host: str) -> None:
    streams["locks %s" % host].result()


def test_a_stopped_daemon_comes_back_and_the_guest_has_not_noticed(streams: Dict[str, Future[None]]) -> None:
    streams["repair"].result()


def test_pools_networks_and_what_apparmor_needs_for_them(streams: Dict[str, Future[None]]) -> None:
    streams["pools"].result()


def test_what_libvirt_would_not_understand_is_refused_before_anything_is_written(
    streams: Dict[str, Future[None]],
) -> None:
    streams["refusals"].result()


def test_hosts_that_libvirt_cannot_tell_apart_are_refused(streams: Dict[str, Future[None]], lab: Lab) -> None:
    """Also by a run that finds nothing to do; and no more when one of them has another UUID."""
    twice = {"host_uuid": "6c1c2d1f-4f5b-4a0e-8a3e-5d2b9c7e1a40"}
    try:
        for _run in range(2):
            refused = roll(lab, "kvm1,kvm2", may_fail=True, hypervisor_libvirtd_conf=twice)
            assert refused.failed and twice["host_uuid"] + ", and so has another host" in refused.words, refused.words
        assert refused.changed == [] and all(result.get("skipped") for result in refused.results["Ask libvirt"])
        roll(lab, "kvm2")
        assert not roll(lab, "kvm1,kvm2", hypervisor_libvirtd_conf={}).failed
    finally:
        roll(lab, "kvm1,kvm2")
