# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook p2v_medium on a host of a lab of its own: the medium, what its key opens, and a machine that boots it.

The machine is a plain QEMU with the disk of an old server and the medium as a stick. It reaches the host from the controller's end
of the lab's network.
"""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from .fleet import LAB, ROOT, Lab
from .test_p2v_fixup_machine import SERVERS, copied

sys.path.insert(0, str(ROOT / "tests/lab"))

from kvmlab.machine_qemu import firmware_options, processor_options

HOST = "kvm1"
MEDIA = "/var/lib/kvmops-p2v-media"
KEYS = "/etc/ssh/kvmops-p2v.authorized_keys"
ARGUMENTS = {
    "p2v_to": HOST,
    "p2v_name": "old1",
    "p2v_from": "10.77.0.1",
    "p2v_kernel_args": "console=tty0 console=ttyS0,115200",
}
CONVERT_S, BOOT_S = 3000, 600
STATE = "getent passwd; find /etc /boot /usr/local /var/lib/kvmops* -newer /root/before -not -type d 2> /dev/null"


@pytest.fixture(name="lab", scope="module")
def fixture_lab() -> Iterator[Lab]:
    """A host with a kernel, as every host but a container has one."""
    name = "p2v-medium"
    subprocess.run(
        [str(LAB), "up", "--name", name, "--hosts", "1", "--os", os.environ.get("KVMOPS_P2V_OS", "bookworm")],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    lab = Lab(name=name, inventory=ROOT / ".lab" / name / "inventory.yml")
    try:
        install = "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends linux-image-amd64"
        lab.sh(HOST, "sh", "-c", install)
        yield lab
    finally:
        subprocess.run([str(LAB), "down", "--name", name], check=True, stdin=subprocess.DEVNULL)


def medium(lab: Lab, *argv: str, check: bool = True, **variables: str) -> Dict[str, Any]:
    given = {key: value for key, value in dict(ARGUMENTS, **variables).items() if value}
    return lab.playbook("kvmops.fleet.p2v_medium", "-e", json.dumps(given), *argv, check=check)


def changed(told: Dict[str, Any]) -> int:
    return int(told["stats"][HOST]["changed"])


def shown(told: Dict[str, Any]) -> List[Dict[str, Any]]:
    """What the summary says of the media."""
    media: List[Dict[str, Any]] = told["global_custom_stats"]["kvmops_p2v_media"]["media"]
    return media


def test_a_check_touches_nothing(lab: Lab) -> None:
    lab.sh(HOST, "touch", "/root/before")
    before = lab.sh(HOST, "sh", "-c", STATE, check=False)
    assert changed(medium(lab, "--check", "--diff")) > 0
    assert lab.sh(HOST, "sh", "-c", STATE, check=False) == before


def test_it_is_built_once_and_is_a_secret(lab: Lab, record_property: Callable[[str, Any], None]) -> None:
    began = time.monotonic()
    told = medium(lab, "--diff", "-vvv")
    record_property("seconds", round(time.monotonic() - began))
    assert changed(told) > 0
    one = shown(told)[0]
    assert one["iso"] == MEDIA + "/old1/old1.iso" and one["key_is_in"] and one["delivered"] is None
    private = lab.sh(HOST, "cat", MEDIA + "/old1/id_ed25519").splitlines()
    assert private[1] not in json.dumps(told) and "PRIVATE KEY" not in json.dumps(told)
    assert set(lab.sh(HOST, "sh", "-c", "stat -c %a:%U " + MEDIA + "/old1/*").split()) == {"600:root"}
    assert lab.sh(HOST, "stat", "-c", "%a", MEDIA).strip() == "700"
    # Both kinds of firmware, asked of a program that had no part in it.
    catalog = lab.sh(HOST, "xorriso", "-indev", one["iso"], "-report_el_torito", "plain")
    assert re.search(r"boot img.* BIOS ", catalog) and re.search(r"boot img.* UEFI ", catalog)

    again = medium(lab, "--diff")
    assert changed(again) == 0 and shown(again) == [one]
    assert changed(medium(lab, "--check")) == 0
    # From where the key is let in is no part of the medium.
    moved = shown(medium(lab, p2v_from="10.77.0.1,10.77.0.11"))
    assert moved == [one]
    assert 'from="10.77.0.1,10.77.0.11"' in lab.sh(HOST, "cat", KEYS)
    # What was damaged is made again, with the same key.
    key = lab.sh(HOST, "cat", KEYS)
    lab.sh(HOST, "truncate", "--size=1M", one["iso"])
    mended = medium(lab, p2v_from="10.77.0.1,10.77.0.11")
    assert changed(mended) == 1 and shown(mended)[0]["bytes"] == one["bytes"] and lab.sh(HOST, "cat", KEYS) == key


OPENS = """
cd /root && rm -rf medium && mkdir -p medium && cp {media}/old1/id_ed25519 medium/
ssh="ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -i medium/id_ed25519 -l kvmops-p2v"
echo "shell: $($ssh 10.77.0.11 'id -un; sudo -n true 2> /dev/null && echo ROOT' 2>&1 | grep -v Warning)"
echo "back: $(timeout 5 $ssh -N -R 0:localhost:9 10.77.0.11 2>&1 | grep -o 'Allocated port')"
echo "everywhere: $(timeout 5 $ssh -N -R 0.0.0.0:0:localhost:9 10.77.0.11 2>&1 | grep -o 'forwarding failed')"
echo "forward: $(timeout 5 $ssh -W 127.0.0.1:22 10.77.0.11 2>&1 | grep -o 'administratively prohibited')"
"""


def test_its_key_opens_a_shell_without_privileges_and_ports_of_the_loopback(lab: Lab) -> None:
    said = lab.sh(HOST, "sh", "-c", OPENS.format(media=MEDIA)).splitlines()
    assert said == [
        "shell: kvmops-p2v",
        "back: Allocated port",
        "everywhere: forwarding failed",
        "forward: administratively prohibited",
    ]
    # The account cannot let other keys in.
    script = (
        "install -d -o kvmops-p2v -m 700 ~kvmops-p2v/.ssh; rm -f /root/other*; ssh-keygen -q -t ed25519 -N '' -f /root/other;"
        " install -o kvmops-p2v -m 600 /root/other.pub ~kvmops-p2v/.ssh/authorized_keys;"
        " ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -i /root/other kvmops-p2v@10.77.0.11 true 2>&1"
    )
    assert "Permission denied" in lab.sh(HOST, "bash", "-c", script, check=False)


def test_bad_requests_are_refused_before_anything_changes(lab: Lab) -> None:
    lab.sh(HOST, "touch", "/root/before")
    told = medium(lab, p2v_disks="sda", p2v_ip="dhcp", p2v_kernel_args="p2v.o=libvirt", check=False)
    assert told["rc"] != 0
    assert "the disk 'sda'" in json.dumps(told) and "p2v.o=libvirt" in json.dumps(told)
    assert lab.sh(HOST, "sh", "-c", STATE, check=False).split("\n/")[1:] == []


def machine(lab: Lab, iso: Path, disk: Path, firmware: str, seconds: int, log: Path) -> str:
    """What a machine with that stick and that disk says on its serial line until it is off."""
    words = [str(LAB), "ns", "--name", lab.name, "--", "qemu-system-x86_64", *processor_options(2, 1536)]
    words += [
        *firmware_options(firmware, disk.with_suffix(".vars")),
        "-display",
        "none",
        "-nodefaults",
        "-no-reboot",
        "-serial",
        "stdio",
    ]
    words += [
        "-drive",
        "file=%s,if=none,id=disk,format=raw,cache=unsafe" % disk,
        "-device",
        "ide-hd,drive=disk,bus=ide.0",
    ]
    words += ["-drive", "file=%s,if=none,id=stick,format=raw,readonly=on" % iso, "-device", "qemu-xhci"]
    words += ["-device", "usb-storage,drive=stick,removable=on,bootindex=0"]
    words += ["-netdev", "user,id=lan", "-device", "e1000,netdev=lan,mac=02:4b:56:00:00:33,romfile="]
    return watched(words, seconds, log)


def watched(words: List[str], seconds: int, log: Path, enough: bytes = b"\0never") -> str:
    said, latest = b"", time.monotonic() + seconds
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as qemu:
        try:
            while time.monotonic() < latest and enough not in said:
                if select.select([qemu.stdout], [], [], 1)[0]:
                    more = os.read(qemu.stdout.fileno(), 65536)  # type: ignore[union-attr]
                    if not more:
                        break
                    said += more
                    log.write_bytes(said)
        finally:
            qemu.terminate()
    return said.decode("utf-8", "replace")


def fetched(lab: Lab, source: str, target: Path) -> Path:
    with target.open("wb") as file:
        words = [str(LAB), "exec", "--name", lab.name, HOST, "--", "cat", source]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL, stdout=file)
    return target


@pytest.fixture(name="folder")
def fixture_folder(tmp_path: Path) -> Iterator[Path]:
    """Not kept for later: images are large."""
    yield tmp_path
    for path in [*tmp_path.iterdir()]:
        if path.suffix != ".log":
            path.unlink()


@pytest.mark.machine
@pytest.mark.long
def test_a_machine_that_boots_it_becomes_a_guest(
    lab: Lab, folder: Path, record_property: Callable[[str, Any], None]
) -> None:
    iso = fetched(lab, shown(medium(lab))[0]["iso"], folder / "old1.iso")
    disk = copied(SERVERS["plain partition, xfs, an initramfs for that server only"], folder)
    before = subprocess.run(["sha256sum", str(disk)], check=True, capture_output=True).stdout
    began = time.monotonic()
    said = machine(lab, iso, disk, "bios", CONVERT_S, folder / "convert.log")
    record_property("seconds", round(time.monotonic() - began))
    assert "p2v-medium: sdb is this medium: it is left out" in said or "p2v-medium: sda is this medium" in said
    assert "Conversion finished successfully" in said and "p2v-medium: converted" in said, said[-4000:]
    # It was read, and not written.
    assert subprocess.run(["sha256sum", str(disk)], check=True, capture_output=True).stdout == before

    one = shown(medium(lab))[0]
    path = "/var/lib/kvmops-p2v-delivered/old1/old1-sda"
    found = one["delivered"]
    assert found["import_from"] == [{"path": path, "format": "raw", "disk": "sda"}]
    assert found["bytes"] == {"sda": disk.stat().st_size}
    assert found["domain"]["networks"] == [{"mac": "02:4b:56:00:00:33"}] and found["domain"]["firmware"] == "bios"
    image = fetched(lab, path, folder / "delivered.raw")
    words = [
        "qemu-system-x86_64",
        *processor_options(2, 1024),
        "-display",
        "none",
        "-nodefaults",
        "-no-reboot",
        "-serial",
        "stdio",
    ]
    words += ["-drive", "file=%s,if=none,id=disk,format=raw,cache=unsafe" % image, "-device", "virtio-blk,drive=disk"]
    assert "PROOF-END" in watched(words, BOOT_S, folder / "guest.log", b"PROOF-END")


@pytest.mark.machine
def test_a_withdrawn_medium_is_let_in_no_longer(lab: Lab, folder: Path) -> None:
    """By UEFI, and as it is told to power off when it fails."""
    iso = fetched(lab, shown(medium(lab, p2v_after_failure="poweroff"))[0]["iso"], folder / "old1.iso")
    gone = medium(lab, p2v_state="absent")
    assert changed(gone) == 1 and shown(gone) == []
    assert changed(medium(lab, p2v_state="absent")) == 0
    assert "old1" not in lab.sh(HOST, "cat", KEYS)
    assert "old1" not in lab.sh(HOST, "ls", MEDIA)
    disk = folder / "empty.raw"
    subprocess.run(["truncate", "--size=64M", str(disk)], check=True)
    said = machine(lab, iso, disk, "uefi", BOOT_S, folder / "refused.log")
    assert "p2v-medium: FAILED" in said and "p2v-medium: poweroff" in said, said[-4000:]
    assert "Permission denied (publickey)" in said
