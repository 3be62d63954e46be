# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's machines are what tests of P2V and of the kernel take them for: computers with a disk of their own."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from .fleet import LAB, ROOT, Lab

pytestmark = pytest.mark.machine

NAME = "machines"
STATE = Path(os.environ.get("KVMLAB_STATE", "/var/lib/kvmops-lab")) / NAME
PLAIN = ("pm1", "--nics", "2")
OTHER = ("pm2", "--os", "trixie", "--firmware", "uefi", "--network", "ifupdown", "--packages", "ufw", "--cpus", "1")


@pytest.fixture(name="lab", scope="module")
def fixture_lab() -> Iterator[Lab]:
    """A lab without hosts, and two machines that differ in all that can be chosen."""
    subprocess.run([str(LAB), "up", "--name", NAME, "--hosts", "0"], check=True, stdin=subprocess.DEVNULL)
    lab = Lab(name=NAME, inventory=ROOT / ".lab" / NAME / "inventory.yml")
    try:
        lab.lab("machine", "start", *PLAIN)
        lab.lab("machine", "start", *OTHER)
        yield lab
    finally:
        subprocess.run([str(LAB), "down", "--name", NAME], check=True, stdin=subprocess.DEVNULL)


def inside(lab: Lab, machine: str, script: str) -> str:
    return lab.sh(machine, "sh", "-ec", script).strip()


def boot_id(lab: Lab, machine: str) -> str:
    return inside(lab, machine, "cat /proc/sys/kernel/random/boot_id")


def listed(lab: Lab) -> Dict[str, Any]:
    """The machines of the inventory, as Ansible reads it."""
    words = [str(ROOT / ".venv/bin/ansible-inventory"), "-i", str(lab.inventory), "--list"]
    told = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    names: List[str] = told.get("machines", {}).get("hosts", [])
    return {name: told["_meta"]["hostvars"][name]["ansible_host"] for name in names}


def emulators() -> List[str]:
    """Command lines of the QEMUs that run on this lab's disks."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "%s/machines/" % STATE in " ".join(words) and words[0].startswith("qemu"):
            found.append(" ".join(words))
    return found


def test_ansible_reaches_them_through_the_inventory(lab: Lab) -> None:
    assert listed(lab) == {"pm1": "10.77.0.51", "pm2": "10.77.0.52"}
    words = [str(ROOT / ".venv/bin/ansible"), "-i", str(lab.inventory), "machines", "-m", "ansible.builtin.ping"]
    environment = dict(os.environ, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"))
    subprocess.run(words, check=True, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize(("machine", "release", "table"), [("pm1", "12", "gpt"), ("pm2", "13", "gpt")])
def test_a_machine_boots_its_own_kernel_by_its_own_boot_loader_from_lvm(
    lab: Lab, machine: str, release: str, table: str
) -> None:
    told = inside(
        lab,
        machine,
        """
        . /etc/os-release; echo "release=$VERSION_ID"
        echo "root=$(findmnt --noheadings --output SOURCE /)"
        echo "boot=$(findmnt --noheadings --output SOURCE /boot)"
        echo "swap=$(lsblk --noheadings --raw --output MOUNTPOINT /dev/mapper/vg0-swap)"
        echo "volumes=$(lvs --noheadings --options lv_name vg0 | xargs)"
        echo "disks=$(lsblk --noheadings --raw --nodeps --output NAME,TRAN | grep -v '^sr' | xargs)"
        echo "table=$(lsblk --noheadings --raw --nodeps --output PTTYPE /dev/sda)"
        echo "controller=$(basename "$(readlink -f /sys/class/ata_port/ata1/device/../driver)")"
        echo "loader=$(grep -o BOOT_IMAGE=/vmlinuz /proc/cmdline)"
        echo "kernel=$(dpkg-query --show --showformat '${Package}' "linux-image-$(uname -r)")"
        echo "failed=$(systemctl --failed --quiet --plain --no-legend | xargs)"
        """,
    )
    found = dict(line.split("=", 1) for line in told.splitlines())
    kernel = found.pop("kernel")
    assert kernel.startswith("linux-image-") and kernel.endswith("-amd64") and "cloud" not in kernel
    assert found == {
        "release": release,
        "root": "/dev/mapper/vg0-root",
        "boot": "/dev/sda2",
        "swap": "[SWAP]",
        "volumes": "root swap",
        "disks": "sda sata",
        "table": table,
        "controller": "ahci",
        "loader": "BOOT_IMAGE=/vmlinuz",
        "failed": "",
    }


def test_its_kernel_is_not_the_one_that_the_hosts_share(lab: Lab) -> None:
    ours = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    assert len({ours, boot_id(lab, "pm1"), boot_id(lab, "pm2")}) == 3
    assert inside(lab, "pm1", "cat /etc/machine-id") != inside(lab, "pm2", "cat /etc/machine-id")
    assert [inside(lab, name, "hostname") for name in ("pm1", "pm2")] == ["pm1", "pm2"]


def test_firmware_cards_and_who_configures_them_are_as_asked(lab: Lab) -> None:
    card = "basename $(readlink -f /sys/class/net/%s/device/driver)"
    assert [inside(lab, "pm1", card % name) for name in ("enp0s16", "enp0s17")] == ["e1000", "e1000"]
    assert inside(lab, "pm1", "systemctl is-active systemd-networkd; test ! -d /sys/firmware/efi") == "active"
    assert inside(lab, "pm1", "nproc") == "2"
    asked = "systemctl is-active networking; systemctl is-enabled systemd-networkd || true; ls -d /sys/firmware/efi"
    assert inside(lab, "pm2", asked).split() == ["active", "disabled", "/sys/firmware/efi"]
    assert inside(lab, "pm2", "nproc; command -v ufw").split() == ["1", "/usr/sbin/ufw"]


def test_guests_in_it_can_have_kvm(lab: Lab) -> None:
    """Asked of the kernel itself: the version of its interface, and a virtual machine with a processor."""
    script = """
import fcntl, os
kvm = os.open("/dev/kvm", os.O_RDWR)
vm = fcntl.ioctl(kvm, 0xAE01, 0)
print(fcntl.ioctl(kvm, 0xAE00, 0), fcntl.ioctl(vm, 0xAE41, 0) > vm > kvm)
"""
    assert lab.sh("pm1", "python3", "-c", script).split() == ["12", "True"]


def test_packages_and_the_guest_are_at_hand_and_the_clock_is_right(lab: Lab) -> None:
    before = time.time()
    now = int(inside(lab, "pm1", "date +%s"))
    assert int(before) - 1 <= now <= time.time() + 1
    inside(lab, "pm1", "apt-get -q update && apt-get -q install --no-install-recommends -y vlan")
    assert (
        inside(lab, "pm1", "test -s /srv/lab/guest/vmlinuz; dpkg-query -W -f '${db:Status-Status}' vlan") == "installed"
    )


def test_a_reboot_is_a_reboot(lab: Lab) -> None:
    before = boot_id(lab, "pm1")
    inside(lab, "pm1", "echo kept >/root/mark")
    lab.lab("machine", "reboot", "pm1")
    assert boot_id(lab, "pm1") != before
    assert inside(lab, "pm1", "cat /root/mark; findmnt -n -o FSTYPE /srv/lab/apt").split() == ["kept", "9p"]


def test_one_that_lost_its_power_comes_back_with_what_it_had_on_disk(lab: Lab) -> None:
    identity = inside(lab, "pm1", "echo synced >/root/mark; sync /root/mark; cat /etc/machine-id")
    lab.lab("fault", "power-off", "pm1")
    assert "pm1 lost its power" in lab.lab("status") and len(emulators()) == 1
    assert lab.lab("exec", "pm1", "--", "true", check=False) == "" and "pm1" in listed(lab)
    lab.lab("fault", "heal")
    assert inside(lab, "pm1", "cat /root/mark /etc/machine-id").split() == ["synced", identity]
    assert "lost its power" not in lab.lab("status")


def test_a_cut_holds_between_machines(lab: Lab) -> None:
    asked = "ping -q -c 1 -W 3 10.77.0.52 >/dev/null && echo heard || echo silence"
    assert inside(lab, "pm1", asked) == "heard"
    lab.lab("fault", "cut", "pm1", "pm2")
    try:
        assert inside(lab, "pm1", asked) == "silence"
    finally:
        lab.lab("fault", "heal")
    assert inside(lab, "pm1", asked) == "heard"


def test_a_stopped_one_shuts_down_leaves_the_inventory_and_starts_as_the_same(lab: Lab) -> None:
    identity = inside(lab, "pm2", "cat /etc/machine-id")
    lab.lab("machine", "stop", "pm2")
    assert listed(lab) == {"pm1": "10.77.0.51"} and len(emulators()) == 1
    assert "reboot: Power down" in lab.lab("machine", "console", "pm2")
    lab.lab("machine", "start", *OTHER)
    assert listed(lab) == {"pm1": "10.77.0.51", "pm2": "10.77.0.52"}
    assert inside(lab, "pm2", "cat /etc/machine-id") == identity


def test_another_machine_of_that_name_is_refused(lab: Lab) -> None:
    before = boot_id(lab, "pm1")
    with pytest.raises(AssertionError, match="is there already, and another one"):
        lab.lab("machine", "start", "pm1", "--memory-mib", "512")
    assert boot_id(lab, "pm1") == before


def test_down_leaves_nothing(lab: Lab) -> None:
    """The last one: takes the lab down."""
    assert len(emulators()) == 2
    lab.lab("down")
    assert emulators() == [] and not STATE.exists() and not lab.inventory.exists()
    left = subprocess.run(["ip", "netns"], check=True, capture_output=True, text=True).stdout
    assert "kvmlab-%s" % NAME not in left
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    assert str(STATE) not in mounts
    assert not list(Path("/sys/fs/cgroup").rglob("kvmlab-%s.*" % NAME))
