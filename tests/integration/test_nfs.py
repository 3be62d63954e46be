# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The roles nfs_server and nfs_client on bare hosts, whose kernel has no NFS: refusals, numbers of users, units.

What needs a kernel stands in test_nfs_machines.py.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest

from .fleet import LAB, ROOT, Lab

HOSTS = ("kvm1", "kvm2")
MOUNT = {"server": "10.77.0.12", "export": "/srv/nfs/images", "path": "/srv/nfs/images-a", "pool": "images"}
# What the roles would change, and the users.
STATE = (
    "getent passwd; getent group; dpkg-query --show | sha256sum; cd /etc; find systemd exports* nfs* -type f -o -type l 2> /dev/null"
    " | sort | xargs -d '\\n' sha256sum 2> /dev/null; ls -Ral /srv | grep -v lab"
)


@pytest.fixture(name="bare", scope="module")
def fixture_bare() -> Iterator[Lab]:
    name = "nfs-bare"
    words = ["--bare", "--name", name, "--hosts", "2", "--os", "bookworm,trixie"]
    subprocess.run([str(LAB), "up", *words], check=True, stdin=subprocess.DEVNULL)
    yield Lab(name=name, inventory=Path(ROOT) / ".lab" / name / "inventory.yml")
    subprocess.run([str(LAB), "down", "--name", name], check=True, stdin=subprocess.DEVNULL)


def role(lab: Lab, name: str, hosts: str, *argv: str, **variables: Any) -> Dict[str, Any]:
    """A play of nothing but the role."""
    book = lab.inventory.parent / ("%s.json" % name)
    plays = [{"hosts": hosts, "become": True, "gather_facts": False, "roles": ["kvmops.fleet.%s" % name]}]
    book.write_text(json.dumps(plays), encoding="utf-8")
    return lab.playbook(str(book), "-e", json.dumps(variables), *argv, check=False)


def message(told: Dict[str, Any], host: str) -> str:
    """What the task that failed on the host said."""
    for play in told["plays"]:
        for task in play["tasks"]:
            result = task["hosts"].get(host, {})
            if result.get("failed"):
                texts = [result.get("msg", "")] + [item.get("msg", "") for item in result.get("results", [])]
                return " ".join(map(str, texts))
    return ""


def state(lab: Lab, host: str) -> str:
    return lab.sh(host, "sh", "-c", STATE, check=False)


def visits(told: Dict[str, Any], host: str) -> int:
    """How many tasks reached the host."""
    local = {"assert", "debug", "fail", "include_tasks", "include_role", "validate_argument_spec"}
    return sum(
        host in task["hosts"]
        and not task["hosts"][host].get("skipped", False)
        and task["hosts"][host].get("action", "").rsplit(".", 1)[-1] not in local
        for play in told["plays"]
        for task in play["tasks"]
    )


@pytest.mark.parametrize("name", ["nfs_server", "nfs_client"])
def test_nothing_asked_for_costs_nothing(bare: Lab, name: str) -> None:
    told = role(bare, name, "all")
    assert told["rc"] == 0
    assert [visits(told, host) for host in HOSTS] == [0, 0]


def test_a_container_is_told_that_it_cannot_serve(bare: Lab) -> None:
    before = state(bare, "kvm1")
    for argv in (["--check"], []):
        told = role(bare, "nfs_server", "kvm1", *argv, nfs_server_exports=[{"path": "/srv/nfs/images"}])
        said = message(told, "kvm1")
        assert (
            "has no NFS server" in said
            and "container: systemd-nspawn" in said
            and "take a real or virtual machine" in said
        )
    assert state(bare, "kvm1") == before


def test_exports_that_cannot_be_are_refused_all_at_once(bare: Lab) -> None:
    before = state(bare, "kvm1")
    exports = [
        {"path": "/srv/wide", "clients": ["*"], "squash": "none"},
        {"path": "/srv/wide2", "clients": ["0.0.0.0/0", "::/0"]},
        {"path": "/etc"},
        {"path": "/srv/a b"},
        {"path": "/srv/none", "clients": ["empty"]},
        {"path": "/srv/who", "clients": ["nobody_knows", "10.0.0.0/24", "nas.example.com", "kvm2"]},
        {"path": "/srv/options", "options": ["no_root_squash", "rw) 10.0.0.1(rw"]},
        {"path": "/srv/mode", "mode": "rwx"},
        {"path": "/srv/mode"},
    ]
    said = message(
        role(bare, "nfs_server", "kvm1", nfs_server_exports=exports, nfs_server_settings={"a b": "\n[x]"}), "kvm1"
    )
    for words in (
        "/srv/wide would be exported to everybody (*)",
        "/srv/wide2 would be exported to everybody (0.0.0.0/0)",
        "/srv/wide2 would be exported to everybody (::/0)",
        "/etc belongs to the system",
        'The path "/srv/a b" must be absolute',
        'The client "empty" of /srv/none',
        'The client "nobody_knows" of /srv/who',
        'The option "no_root_squash" of /srv/options has a name of its own',
        'The option "rw) 10.0.0.1(rw" of /srv/options is none',
        'The mode "rwx"',
        "/srv/mode is listed twice",
        "The setting a b=",
    ):
        assert words in said, words
    for words in ("nas.example.com", "10.0.0.0/24", '"kvm2"'):
        assert words not in said, words
    assert state(bare, "kvm1") == before


def test_mounts_that_cannot_be_are_refused_all_at_once(bare: Lab) -> None:
    before = state(bare, "kvm1")
    mounts = [
        dict(MOUNT, options=["soft", "vers=3", "a b"]),
        dict(MOUNT, server="a:b:/x;id", path="/srv/one"),
        dict(MOUNT, path="/etc/images"),
        dict(MOUNT, path="/srv/two", automount=True),
        dict(MOUNT, path="/srv/three", version="3", pool="a/b"),
        dict(MOUNT, path="/srv/three", export="relative"),
    ]
    said = message(role(bare, "nfs_client", "kvm1", nfs_client_mounts=mounts, nfs_client_qemu_uid=0), "kvm1")
    for words in (
        "The option soft for 10.77.0.12:/srv/nfs/images gives guests errors",
        "The option vers=3",
        'The option "a b"',
        'The server "a:b:/x;id"',
        'cannot be mounted on "/etc/images"',
        "has a pool and automount",
        'Version "3"',
        'The pool "a/b"',
        'The export "relative"',
        "/srv/three is listed twice",
        "numbers above 0",
    ):
        assert words in said, words
    assert state(bare, "kvm1") == before


def test_a_check_run_on_bare_hosts_says_what_would_be_done(bare: Lab) -> None:
    before = [state(bare, host) for host in HOSTS]
    told = role(bare, "nfs_client", "all", "--check", "--diff", nfs_client_mounts=[MOUNT])
    assert told["rc"] == 0, told["stats"]
    assert all(told["stats"][host]["changed"] >= 4 for host in HOSTS), told["stats"]
    assert "Where=/srv/nfs/images-a" in json.dumps(told)
    assert [state(bare, host) for host in HOSTS] == before


def test_qemus_user_has_its_number_before_libvirt_comes(bare: Lab) -> None:
    """The server does not answer, and that is said; the numbers are there by then, and libvirt's package keeps them."""
    told = role(bare, "nfs_client", "kvm1", nfs_client_mounts=[MOUNT])
    said = message(told, "kvm1")
    assert "10.77.0.12:/srv/nfs/images could not be mounted on /srv/nfs/images-a" in said, told["stats"]
    assert "port 2049 of 10.77.0.12 does not answer" in said and "Connection refused" in said
    user = bare.sh("kvm1", "getent", "passwd", "libvirt-qemu").strip()
    assert re.fullmatch(r"libvirt-qemu:x:64055:\d+:Libvirt Qemu:/var/lib/libvirt:/usr/sbin/nologin", user), user
    names = bare.sh("kvm1", "id", "-Gn", "libvirt-qemu").split()
    assert names == ["kvm", "libvirt-qemu"]
    assert bare.sh("kvm1", "getent", "group", "libvirt-qemu").startswith("libvirt-qemu:x:64055:")
    unit = bare.sh("kvm1", "systemctl", "show", "--property=What,Where,UnitFileState", "srv-nfs-images\\x2da.mount")
    lines = ["UnitFileState=enabled", "What=10.77.0.12:/srv/nfs/images", "Where=/srv/nfs/images-a"]
    assert sorted(unit.split()) == lines, unit
    install = "DEBIAN_FRONTEND=noninteractive apt-get -q install --yes --no-install-recommends libvirt-daemon-system"
    bare.sh("kvm1", "sh", "-c", install)
    assert bare.sh("kvm1", "getent", "passwd", "libvirt-qemu").strip() == user
    assert bare.sh("kvm1", "id", "-Gn", "libvirt-qemu").split() == names
    assert bare.sh("kvm1", "stat", "--format=%u:%g", "/var/lib/libvirt/qemu").strip() == "64055:64055"

    gone = role(bare, "nfs_client", "kvm1", nfs_client_mounts=[dict(MOUNT, state="absent")])
    again = role(bare, "nfs_client", "kvm1", nfs_client_mounts=[dict(MOUNT, state="absent")])
    assert gone["rc"] == 0 and gone["stats"]["kvm1"]["changed"] > 0 and again["stats"]["kvm1"]["changed"] == 0
    assert visits(again, "kvm1") == 1
    assert "images" not in bare.sh("kvm1", "sh", "-c", "ls -R /etc/systemd/system; ls /srv")


def test_other_numbers_are_refused_and_changed_on_request(bare: Lab) -> None:
    make = (
        "groupadd --gid 990 libvirt-qemu; useradd --uid 991 --gid 990 --home-dir /var/lib/libvirt --no-create-home libvirt-qemu;"
        "mkdir -p /var/lib/libvirt/images /var/cache/libvirt; touch /var/lib/libvirt/images/a /var/cache/libvirt/b;"
        "touch /var/lib/libvirt/images/roots; chown 991:990 /var/lib/libvirt/images/a /var/cache/libvirt/b"
    )
    bare.sh("kvm2", "sh", "-c", make)
    before = state(bare, "kvm2")
    said = message(role(bare, "nfs_client", "kvm2", nfs_client_mounts=[MOUNT]), "kvm2")
    assert "The user libvirt-qemu has the number 991 here and shall have 64055" in said
    assert (
        "The group libvirt-qemu has the number 990 here and shall have 64055" in said and "nfs_client_renumber" in said
    )
    assert state(bare, "kvm2") == before

    bare.sh(
        "kvm2",
        "sh",
        "-c",
        "setpriv --reuid=991 --regid=990 --clear-groups sleep 300 > /dev/null 2>&1 & echo $! > /run/guest",
    )
    said = message(role(bare, "nfs_client", "kvm2", nfs_client_mounts=[MOUNT], nfs_client_renumber=True), "kvm2")
    assert "cannot get the number 64055 while guests run" in said
    assert state(bare, "kvm2") == before

    bare.sh("kvm2", "sh", "-c", "kill $(cat /run/guest)")
    said = message(role(bare, "nfs_client", "kvm2", nfs_client_mounts=[MOUNT], nfs_client_renumber=True), "kvm2")
    assert "could not be mounted" in said, "the server is still not there"
    files = ["/var/lib/libvirt/images/a", "/var/cache/libvirt/b", "/var/lib/libvirt/images/roots"]
    assert bare.sh("kvm2", "stat", "--format=%u:%g", *files).split() == ["64055:64055", "64055:64055", "0:0"]
    assert "uid=64055(libvirt-qemu) gid=64055(libvirt-qemu)" in bare.sh("kvm2", "id", "libvirt-qemu")

    bare.sh("kvm2", "sh", "-c", "usermod --uid 991 libvirt-qemu; useradd --uid 64055 stranger")
    said = message(role(bare, "nfs_client", "kvm2", nfs_client_mounts=[MOUNT], nfs_client_renumber=True), "kvm2")
    assert "belongs to the user stranger here" in said
