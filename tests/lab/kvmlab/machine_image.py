"""Disks that machines begin with: a Debian on LVM that its own boot loader starts."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from kvmlab import images
from kvmlab.cache import build_log, build_once, key_of
from kvmlab.errors import LabError
from kvmlab.machine_qemu import firmware_options, processor_options
from kvmlab.machine_shape import Image
from kvmlab.paths import LAB_DIR
from kvmlab.run import run

# Part of the key: raise it when the code below changes what it makes.
FORMAT = "1"
SCRIPTS = LAB_DIR / "machine"
DISK = "disk.raw"
ROOT = "disk.raw.root"
FINISHED = "KVMLAB-FINISHED"
FINISH_S = 300
GRUB = """\
# One second is time enough to choose.
GRUB_TIMEOUT=1
GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200"
GRUB_TERMINAL="console serial"
"""
# Nobody misses them in a machine that lives for an hour, and each costs it time.
MASKED = tuple(unit for unit in images.MASKED if unit.endswith(".timer"))


def build(image: Image) -> Path:
    """Directory with the disk of that image, and where on it the root filesystem is."""
    tree = _tree(image)
    sources = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(SCRIPTS.iterdir())]
    key = key_of([FORMAT, tree.name, image.table, str(image.disk_gib), *sources])
    return build_once(f"disk-{image.release}", key, lambda target: _make_disk(image, tree, target))


def _tree(image: Image) -> Path:
    """What is installed on the disk, as files."""
    packages = image.all_packages
    key = key_of([FORMAT, images.FORMAT, image.release, image.network, GRUB, *packages])
    return build_once(f"tree-{image.release}", key, lambda target: _make_tree(image, packages, target))


def _make_tree(image: Image, packages: list[str], target: Path) -> None:
    log = build_log(f"tree-{image.release}")
    # Nothing to resume from: who builds the initramfs has another machine's swap.
    resume = 'mkdir -p "$1/etc/initramfs-tools/conf.d" && echo RESUME=none >"$1/etc/initramfs-tools/conf.d/resume"'
    images.bootstrap(image.release, packages, target, log, (f"--essential-hook={resume}",))
    images.impersonal(target, log, MASKED)
    if image.network != "networkd":
        run(["chroot", target, "systemctl", "disable", "systemd-networkd.service"], log=log)
    defaults = target / "etc/default/grub.d/lab.cfg"
    defaults.parent.mkdir(exist_ok=True)
    defaults.write_text(GRUB)


def _make_disk(image: Image, tree: Path, target: Path) -> None:
    log = build_log(f"disk-{image.release}")
    disk = target / DISK
    words = [SCRIPTS / "lay-out", tree, disk, str(image.disk_gib), image.table, image.firmware]
    run(["unshare", "--mount", "--propagation=private", *words], log=log)
    kernel, initramfs = (sorted((tree / "boot").glob(f"{name}-*"))[-1] for name in ("vmlinuz", "initrd.img"))
    options = ["root=/dev/mapper/vg0-root", "rw", "init=/kvmlab-finish", "console=ttyS0", "panic=-1", "quiet"]
    words = ["qemu-system-x86_64", *processor_options(2, 1024), *firmware_options(image.firmware, target / "vars.fd")]
    words += ["-display", "none", "-nodefaults", "-no-reboot", "-serial", "stdio"]
    words += [
        "-drive",
        f"file={disk},if=none,id=disk,format=raw,cache=unsafe",
        "-device",
        "ide-hd,drive=disk,bus=ide.0",
    ]
    words += ["-kernel", kernel, "-initrd", initramfs, "-append", " ".join(options)]
    run(words, log=log, stdin="", timeout_s=FINISH_S)
    (target / "vars.fd").unlink(missing_ok=True)
    if FINISHED not in log.read_text(errors="replace"):
        shutil.copy(log, log.with_suffix(".failed"))
        raise LabError(f"the disk of a {image.release} machine could not be finished", f"see {log}")
