"""The command line of a machine's QEMU."""

from __future__ import annotations

import shutil
from pathlib import Path

from kvmlab.machine_shape import FIRST_SLOT, Machine
from kvmlab.paths import MachinePaths

OVMF_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
OVMF_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")


def processor_options(cpus: int, memory_mib: int) -> list[str]:
    """An emulated PC."""
    return [
        *("-machine", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max"),
        *("-smp", str(cpus), "-m", str(memory_mib)),
    ]


def firmware_options(firmware: str, variables: Path) -> list[str]:
    """UEFI with its variables, made when they are not there; nothing for a BIOS."""
    if firmware == "bios":
        return []
    if not variables.exists():
        shutil.copy(OVMF_VARS, variables)
    code = f"if=pflash,unit=0,format=raw,readonly=on,file={OVMF_CODE}"
    return ["-drive", code, "-drive", f"if=pflash,unit=1,format=raw,file={variables}"]


def command(machine: Machine, paths: MachinePaths, shares: dict[str, str]) -> list[str]:
    """QEMU for a machine whose taps and disk are there. `shares`: what it may read, by mount tag."""
    words = ["qemu-system-x86_64", "-name", machine.name, *processor_options(machine.cpus, machine.memory_mib)]
    words += firmware_options(machine.image.firmware, paths.variables)
    words += ["-display", "none", "-nodefaults", "-rtc", "base=utc"]
    # Writes need not outlive this machine, only the one in it.
    words += ["-drive", f"file={paths.disk},if=none,id=disk,format=qcow2,cache=unsafe,discard=unmap"]
    words += ["-device", f"ide-hd,drive=disk,bus=ide.0,serial=LAB-{machine.name.upper()}"]
    for number, more in enumerate(paths.more_disks(machine.disks), start=1):
        words += ["-drive", f"file={more},if=none,id=disk{number},format=qcow2,cache=unsafe,discard=unmap"]
        serial = f"LAB-{machine.name.upper()}-{number}"
        words += ["-device", f"ide-hd,drive=disk{number},bus=ide.{number},serial={serial}"]
    for nic in range(machine.nics):
        words += ["-netdev", f"tap,id=nic{nic},ifname={machine.port(nic)},script=no,downscript=no"]
        card = f"e1000,netdev=nic{nic},mac={machine.mac(nic)},bus=pcie.0,addr={FIRST_SLOT + nic:#x},romfile="
        words += ["-device", card]
    for tag, path in shares.items():
        words += ["-fsdev", f"local,id={tag},path={path},security_model=none,readonly=on"]
        words += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    words += [
        "-chardev",
        f"socket,id=serial,path={paths.serial},server=on,wait=off,logfile={paths.console},logappend=on",
    ]
    words += ["-serial", "chardev:serial", "-qmp", f"unix:{paths.monitor},server=on,wait=off"]
    return words
