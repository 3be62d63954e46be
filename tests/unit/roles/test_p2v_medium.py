# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a boot medium of virt-p2v says, and when it is made anew: the decisions of roles/p2v_conversion_host/files/medium."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import pytest

FILES = Path(__file__).resolve().parents[3] / "roles" / "p2v_conversion_host" / "files" / "medium"
sys.path.insert(0, str(FILES))
words = importlib.import_module("medium_words")
parts = importlib.import_module("medium_parts")
sys.path.remove(str(FILES))

PUBLIC = "ssh-ed25519 AAAAC3Nza comment of whoever"


def wanted(**more: Any) -> Dict[str, Any]:
    plain: Dict[str, Any] = {
        "name": "old1", "server": "10.77.0.11", "port": 22, "account": "kvmops-p2v", "delivery": "/srv/p2v/old1", "disks": [],
        "network": "default", "ip": "dhcp", "from": [], "valid_days": 14, "after": "poweroff", "after_failure": "shell",
        "kernel_args": ["console=tty0"], "kernel": "",
    }  # fmt: skip
    return dict(plain, **more)


def test_the_command_line_needs_nobody_at_the_keyboard() -> None:
    said = words.kernel_words(wanted(disks=["/dev/disk/by-id/ata-A", "/dev/disk/by-path/pci-0000:00:1f.2-ata-1"]))
    for word in (
        "boot=kvmops-p2v", "p2v.server=10.77.0.11", "p2v.username=kvmops-p2v", "p2v.identity=file:///kvmops-p2v/id_ed25519",
        "p2v.name=old1", "p2v.o=local", "p2v.os=/srv/p2v/old1", "p2v.of=raw", "p2v.disks=/dev/disk/by-id/ata-A,/dev/disk/by-path/pci-0000:00:1f.2-ata-1", "p2v.post=", "console=tty0",
        # The kernel must not assemble, and so write to, arrays of the machine.
        "raid=noautodetect",
    ):  # fmt: skip
        assert word in said
    assert not any(word.startswith("p2v.disks") for word in words.kernel_words(wanted()))
    # The kernel keeps 2047 characters of it on x86.
    assert (
        len(
            " ".join(
                words.kernel_words(wanted(name="x" * 63, disks=["/dev/disk/by-id/scsi-36%030d" % n for n in range(24)]))
            )
        )
        < 2047
    )


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"name": "../old1"}, "name"),
        ({"name": "old1 p2v.post=reboot"}, "name"),
        ({"server": "kvm1 init=/bin/sh"}, "server"),
        ({"disks": ["sda"]}, "disk"),
        ({"ip": "dhcp rd.break"}, "ip"),
        ({"network": 'a"b'}, "network"),
        ({"kernel_args": ["p2v.o=libvirt"]}, "kernel argument"),
        ({"kernel_args": ["two words"]}, "kernel argument"),
        ({"from": ['10.0.0.1",command="sh']}, "from"),
    ],
)
def test_what_would_say_something_else_is_refused(more: Dict[str, Any], says: str) -> None:
    told = words.problems(wanted(**more))
    assert len(told) == 1 and says in told[0]


def test_all_problems_are_told_at_once() -> None:
    assert len(words.problems(wanted(name="a b", server="", disks=["-"], **{"from": ["all"]}))) == 4
    assert (
        words.problems(
            wanted(disks=["/dev/disk/by-id/wwn-0x5000c500a1b2c3d4"], **{"from": ["10.77.0.0/24", "fd00::1"]})
        )
        == []
    )


def test_the_key_opens_one_account_from_one_place_until_a_day() -> None:
    line = words.key_line(wanted(**{"from": ["10.77.0.51", "10.77.0.52"]}), PUBLIC, "20261231120000")
    assert line == (
        'restrict,pty,port-forwarding,permitlisten="localhost:*",from="10.77.0.51,10.77.0.52",expiry-time="20261231120000"'
        " ssh-ed25519 AAAAC3Nza kvmops-p2v-medium:old1"
    )
    assert "expiry" not in words.key_line(wanted(), PUBLIC, None)


def test_keys_of_other_media_stay_as_they_are() -> None:
    others = "ssh-ed25519 A kvmops-p2v-medium:old10\n# by hand\nssh-rsa B me\n"
    both = words.keys_with(others, "old1", "ssh-ed25519 C kvmops-p2v-medium:old1")
    assert both == others + "ssh-ed25519 C kvmops-p2v-medium:old1\n"
    # Again, replaced, withdrawn.
    assert words.keys_with(both, "old1", "ssh-ed25519 C kvmops-p2v-medium:old1") == both
    assert "ssh-ed25519 C" not in words.keys_with(both, "old1", "ssh-ed25519 D kvmops-p2v-medium:old1")
    assert words.keys_with(both, "old1", None) == others


def test_the_medium_knows_itself_by_a_label_that_fits() -> None:
    assert len(words.label("x" * 63)) <= 32 and words.label("old1") != words.label("old2")
    assert words.label("old1").replace("_", "A").isalnum() and words.label("old1").isupper()


def test_ssh_of_the_medium_checks_the_host_whatever_virt_p2v_says(tmp_path: Path) -> None:
    """Asked of the real ssh: the option that comes first is the one that holds."""
    wrapper = tmp_path / "ssh"
    wrapper.write_text(words.ssh_wrapper("ssh"))
    said = subprocess.run(
        ["sh", str(wrapper), "-G", "-p", "22", "-o", "StrictHostKeyChecking=no", "10.77.0.11"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    options = dict(line.split(" ", 1) for line in said.splitlines() if " " in line)
    assert options["stricthostkeychecking"] in ("true", "yes")
    assert options["userknownhostsfile"] == "/kvmops-p2v/known_hosts"
    assert options["hostkeyalias"] == words.HOST_ALIAS
    assert words.known_hosts([PUBLIC]) == "%s ssh-ed25519 AAAAC3Nza\n" % words.HOST_ALIAS


RECORD = {"made_of": "a"}
ALL = {"key": True, "files": True, "line": True}
NOW, LATER = "20261230120000", "20261231120000"
NEW = {"key", "medium", "authorize"}


@pytest.mark.parametrize(
    ("record", "made_of", "expires", "has", "due"),
    [
        (None, "a", None, dict(ALL, key=False), NEW),
        (RECORD, "a", LATER, ALL, set()),
        (RECORD, "a", None, ALL, set()),
        (RECORD, "b", LATER, ALL, {"medium"}),
        (RECORD, "a", LATER, dict(ALL, files=False), {"medium"}),
        (RECORD, "a", LATER, dict(ALL, line=False), {"authorize"}),
        (RECORD, "a", LATER, dict(ALL, key=False), NEW),
        (RECORD, "a", NOW, ALL, NEW),
    ],
)
def test_what_is_made_anew(record: Any, made_of: str, expires: Any, has: Dict[str, bool], due: set[str]) -> None:
    assert {key for key, is_due in words.steps(record, made_of, expires, NOW, has).items() if is_due} == due


def test_days_count_from_the_making_of_the_key() -> None:
    assert words.expiry(NOW, 1) == LATER and words.expiry(NOW, 0) is None
    text = words.key_line(wanted(), PUBLIC, LATER) + "\n"
    assert words.let_in(text, "old1") == (LATER, True)
    assert words.let_in(words.key_line(wanted(), PUBLIC, None), "old1") == (None, True)
    assert words.let_in(text, "old") == (None, False)


XML = """<domain><memory unit='KiB'>2097152</memory><vcpu>2</vcpu><os firmware='efi'/><devices>
<interface><mac address='02:4b:56:00:00:33'/></interface><interface><mac address='$(reboot)'/></interface>
<disk device='disk'><source file='/etc/shadow'/></disk><disk device='cdrom'/></devices></domain>"""


def test_a_delivery_is_whole_or_none(tmp_path: Path) -> None:
    assert parts.delivered(tmp_path, "old1") is None
    (tmp_path / "old1-sda").write_bytes(b"\0" * 512)
    assert parts.delivered(tmp_path, "old1") is None  # virt-v2v is still at it
    (tmp_path / "old1.xml").write_text(XML)
    assert parts.delivered(tmp_path, "old1") == {
        "import_from": [{"path": str(tmp_path / "old1-sda"), "format": "raw", "disk": "sda"}],
        "bytes": {"sda": 512},
        "domain": {"firmware": "uefi", "memory_mib": 2048, "vcpus": 2, "networks": [{"mac": "02:4b:56:00:00:33"}]},
    }
    os.utime(tmp_path / "old1.xml", ns=(0, 0))
    assert parts.delivered(tmp_path, "old1") is None  # it is being sent again
    (tmp_path / "old1.xml").write_text(XML.replace("cdrom", "disk"))
    assert parts.delivered(tmp_path, "old1") is None  # sdb is missing


def test_a_delivery_leads_to_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "old1.xml").write_text(XML)
    (tmp_path / "old1-sda").symlink_to("/etc/hostname")
    assert parts.delivered(tmp_path, "old1") is None
    (tmp_path / "old1-sda").unlink()
    (tmp_path / "old1-sda").write_bytes(b"\0")
    (tmp_path / "old1.xml").write_text('<!DOCTYPE d [<!ENTITY e SYSTEM "file:///etc/hostname">]>' + XML)
    assert parts.delivered(tmp_path, "old1") is None


def test_only_known_hooks_and_scripts_of_the_host_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = tmp_path / "host"
    for name in ("hooks/udev", "hooks/zz-busybox", "hooks/mdadm", "hooks/lvm2", "hooks/dropbear", "hooks/cryptroot"):
        (host / name).parent.mkdir(parents=True, exist_ok=True)
        (host / name).write_text("#!/bin/sh\n")
    for name in ("functions", "local", "nfs", "init-top/udev", "init-premount/dropbear", "local-top/mdadm"):
        (host / "scripts" / name).parent.mkdir(parents=True, exist_ok=True)
        (host / "scripts" / name).write_text("")
    monkeypatch.setattr(parts, "INITRAMFS", host)
    target = tmp_path / "target"
    target.mkdir()
    parts.chosen(target)
    taken = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert taken == {
        "hooks/udev", "hooks/zz-busybox", "scripts/functions", "scripts/local", "scripts/nfs", "scripts/init-top/udev",
    }  # fmt: skip
