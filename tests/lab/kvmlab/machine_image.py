"""Disks that machines begin with: a Debian on LVM that its own boot loader starts."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from kvmlab import images
from kvmlab.apt import machine_apt_options
from kvmlab.cache import build_log, build_once, key_of
from kvmlab.errors import LabError
from kvmlab.machine_qemu import firmware_options, processor_options
from kvmlab.machine_shape import Image
from kvmlab.paths import LAB_DIR
from kvmlab.run import run
from kvmlab.sources import machine_sources

# Part of the key: raise it when the code below changes what it makes.
FORMAT = "1"
SCRIPTS = LAB_DIR / "machine"
INSTALL = SCRIPTS / "install"
NAMESPACE = ("unshare", "--mount", "--propagation=private")
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
# The least that is a Debian with a stock kernel, a boot loader and a network: what boots and is built in seconds.
SMALL = ("e2fsprogs", "grub-pc-bin", "initramfs-tools", "iproute2", "linux-image-amd64", "systemd-sysv", "udev", "zstd")
# Nothing to resume from: who builds the initramfs has another machine's swap.
NO_RESUME = 'mkdir -p "$1/etc/initramfs-tools/conf.d" && echo RESUME=none >"$1/etc/initramfs-tools/conf.d/resume"'
# Nobody misses them in a machine that lives for an hour, and each costs it time.
MASKED = ("e2scrub_reap.service", *(unit for unit in images.MASKED if unit.endswith(".timer")))


def build(image: Image) -> Path:
    """Directory with the disk of that image, and where on it the root filesystem is."""
    tree = tree_of(image)
    if image.layout != "lvm":
        key = key_of([FORMAT, tree.name, image.layout, str(image.disk_gib), (SCRIPTS / "plain").read_text()])
        return _used(build_once(f"disk-{image.release}", key, lambda target: _make_plain(image, tree, target)))
    sources = [hashlib.sha256((SCRIPTS / name).read_bytes()).hexdigest() for name in ("lay-out", "finish")]
    key = key_of([FORMAT, tree.name, image.table, str(image.disk_gib), *sources])
    return _used(build_once(f"disk-{image.release}", key, lambda target: _make_disk(image, tree, target)))


def small_tree(release: str) -> Path:
    """Directory with a small Debian as files, for a disk without LVM."""

    def make(target: Path) -> None:
        log = build_log(f"small-{release}")
        images.bootstrap(release, list(SMALL), target, log, (f"--essential-hook={NO_RESUME}",))
        (target / "etc/machine-id").write_text("")
        for unit in MASKED:
            (target / "etc/systemd/system" / unit).unlink(missing_ok=True)
            (target / "etc/systemd/system" / unit).symlink_to("/dev/null")
        run(["chroot", target, "systemctl", "enable", "systemd-networkd.service"], log=log)

    return _used(build_once(f"small-{release}", key_of([FORMAT, images.FORMAT, release, *SMALL, *MASKED]), make))


def _used(path: Path) -> Path:
    """The cache drops what has not been used for longest."""
    os.utime(path)
    return path


def tree_of(image: Image) -> Path:
    """Directory with what is installed on the disk of that image, as files."""
    kind = f"tree-{image.release}"
    common_key = key_of([FORMAT, images.FORMAT, image.release, GRUB, *MASKED, *image.common])
    # Not twice from scratch: most of it is the same in every machine.
    common = _used(build_once(kind, common_key, lambda target: _make_common(image, target)))
    if not image.special and image.network == "networkd":
        return common
    key = key_of([FORMAT, common.name, image.network, INSTALL.read_text(), *image.special])
    return _used(build_once(kind, key, lambda target: _make_special(image, common, target)))


def _make_common(image: Image, target: Path) -> None:
    log = build_log(f"tree-{image.release}")
    images.bootstrap(image.release, image.common, target, log, (f"--essential-hook={NO_RESUME}",))
    images.impersonal(target, log, MASKED)
    defaults = target / "etc/default/grub.d/lab.cfg"
    defaults.parent.mkdir(exist_ok=True)
    defaults.write_text(GRUB)


def _make_special(image: Image, common: Path, target: Path) -> None:
    log = build_log(f"tree-{image.release}")
    run(["cp", "--archive", f"{common}/.", target], log=log)
    sources = target.with_suffix(".list")
    sources.write_text("\n".join(machine_sources(image.release)) + "\n")
    options = [*machine_apt_options(), *(f'DPkg::Options:: "--{option}"' for option in images.DPKG_OPTIONS)]
    try:
        run([*NAMESPACE, INSTALL, target, sources, *options, "--", *image.special], log=log)
    finally:
        sources.unlink()
    if image.network != "networkd":
        run(["chroot", target, "systemctl", "disable", "systemd-networkd.service"], log=log)


def _make_plain(image: Image, tree: Path, target: Path) -> None:
    words = [SCRIPTS / "plain", tree, target / DISK, str(image.disk_gib), image.layout]
    run([*NAMESPACE, *words], log=build_log(f"disk-{image.release}"))


def _make_disk(image: Image, tree: Path, target: Path) -> None:
    log = build_log(f"disk-{image.release}")
    disk = target / DISK
    words = [SCRIPTS / "lay-out", tree, disk, str(image.disk_gib), image.table, image.firmware]
    run([*NAMESPACE, *words], log=log)
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
