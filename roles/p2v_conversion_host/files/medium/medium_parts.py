# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parts of a boot medium: what this host's programs make of them. Decides nothing."""

from __future__ import annotations

import glob
import hashlib
import json
import lzma
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as ElementTree
from typing import Any, Dict, List, Mapping, Optional

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path("/var/cache/kvmops-p2v-medium")
TOOLS = (
    "mkinitramfs",
    "cpio",
    "unshare",
    "ssh-keygen",
    "grub-mkrescue",
    "xorriso",
    "mformat",
    "ldd",
    "dpkg-query",
    "nbdkit",
    "curl",
)
GRUB = ("i386-pc", "x86_64-efi")
# Of the hooks and scripts for initramfs that packages of this host have installed. The others copy its keys and settings
# (dropbear, cryptsetup), or would start arrays and volume groups of the machine, which writes to its disks (mdadm, lvm2).
HOOKS = ("busybox*", "zz-busybox*", "klibc-utils", "kmod", "udev", "*dhcp*")
SCRIPTS = ("functions", "local", "nfs", "init-top", "init-bottom")
INITRAMFS = pathlib.Path("/usr/share/initramfs-tools")
BIND = 'mount --bind "$1/hooks" "$2/hooks"; mount --bind "$1/scripts" "$2/scripts"; shift 2; exec "$@"'


class PartError(Exception):
    """What was attempted, what the system said, and what to do."""


def run(argv: List[str], attempt: str, **more: Any) -> str:
    """A program's output."""
    done = subprocess.run(
        argv,
        stdin=more.pop("stdin", subprocess.DEVNULL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
        **more,
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()[-2000:]
        raise PartError("%s failed: %s ended with %d: %s" % (attempt, argv[0], done.returncode, said))
    return done.stdout.decode("utf-8", "replace")


def missing_tools() -> List[str]:
    told = [
        "%s is not installed" % tool for tool in TOOLS if not shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin")
    ]
    told += ["grub for %s is not installed" % kind for kind in GRUB if not os.path.isdir("/usr/lib/grub/%s" % kind)]
    return told + ([] if glob.glob("/usr/lib/*/virt-p2v/virt-p2v.xz") else ["virt-p2v is not installed"])


def kernel(release: str) -> str:
    """The kernel that drives the machine's disks and cards: that release, or the newest that is whole."""
    found = sorted(glob.glob("/boot/vmlinuz-*"), key=lambda path: [int(word) for word in re.findall(r"\d+", path)])
    whole = [
        path
        for path in found
        if os.path.isdir("/lib/modules/%s/kernel/drivers/net/ethernet" % path[len("/boot/vmlinuz-") :])
    ]
    chosen = [path for path in whole if not release or path == "/boot/vmlinuz-" + release]
    if not chosen:
        raise PartError(
            "The boot medium was not built: of %s none%s has drivers for cards of physical machines in /lib/modules. Install"
            " linux-image-amd64 (Debian) or linux-image-generic (Ubuntu); kernels for clouds have none."
            % (", ".join(found) or "no kernel in /boot", " named " + release if release else "")
        )
    return chosen[-1]


def fingerprint(kernel_path: str) -> str:
    """Of what the base is made of: the kernel, the programs, and what steers them."""
    packages = run(["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package} ${Version}\n"], "Asking dpkg")
    inside = re.findall(
        r"^installed ((?:virt-p2v|nbdkit\S*|openssh-client|curl|busybox\S*|udev|kmod|klibc-utils|initramfs-tools-core|libc6|libgtk-3-0\S*) .*)$",
        packages,
        re.M,
    )
    own = [sha256(path) for path in sorted(HERE.rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    return hashlib.sha256(
        json.dumps([kernel_path, sha256(pathlib.Path(kernel_path)), inside, own]).encode()
    ).hexdigest()


def host_keys() -> List[str]:
    found = [pathlib.Path(path).read_text() for path in glob.glob("/etc/ssh/ssh_host_*_key.pub")]
    if not found:
        raise PartError(
            "The boot medium was not built: this host has no ssh host keys in /etc/ssh. Install openssh-server."
        )
    return found


def make_key(path: pathlib.Path, comment: str) -> None:
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)], "Making the key of the medium")


def base(kernel_path: str, digest: str) -> pathlib.Path:
    """An initramfs with everything but the secrets, kept for the next medium."""
    CACHE.mkdir(mode=0o755, exist_ok=True)
    target = CACHE / ("base-%s.img" % digest[:32])
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(prefix="p2v-base-", dir=str(CACHE)) as scratch:
        folder = pathlib.Path(scratch)
        binary = unpacked(folder / "virt-p2v")
        chosen(folder)
        made = folder / "base.img"
        argv = ["unshare", "--mount", "--propagation=private", "sh", "-ec", BIND, "sh", str(folder), str(INITRAMFS)]
        argv += ["mkinitramfs", "-d", str(HERE), "-o", str(made), kernel_path[len("/boot/vmlinuz-") :]]
        run(argv, "Making the initramfs of the medium", env=dict(os.environ, KVMOPS_P2V_BINARY=str(binary)))
        for old in CACHE.glob("base-*.img"):
            old.unlink()
        sync(made)
        made.rename(target)
    return target


def unpacked(target: pathlib.Path) -> pathlib.Path:
    """virt-p2v lies packed in its package, as it is not meant for this host."""
    packed = glob.glob("/usr/lib/*/virt-p2v/virt-p2v.xz")[0]
    with lzma.open(packed) as source, open(str(target), "wb") as binary:
        shutil.copyfileobj(source, binary)
    target.chmod(0o755)
    lacks = re.findall(r"(\S+) => not found", run(["ldd", str(target)], "Looking at the libraries of virt-p2v"))
    if lacks:
        raise PartError(
            "The boot medium was not built: virt-p2v of this release lacks %s. Install libgtk-3-0." % ", ".join(lacks)
        )
    return target


def chosen(folder: pathlib.Path) -> None:
    """The hooks and scripts of this host that a medium for other machines may have."""
    for kind, patterns in (("hooks", HOOKS), ("scripts", SCRIPTS)):
        target = folder / kind
        target.mkdir()
        for path in sorted({path for pattern in patterns for path in (INITRAMFS / kind).glob(pattern)}):
            (shutil.copytree if path.is_dir() else shutil.copy)(str(path), str(target / path.name))  # type: ignore[operator]


def initrd(
    base_image: pathlib.Path, files: Mapping[str, str], programs: Mapping[str, str], target: pathlib.Path
) -> None:
    """The base, and an archive of what is this medium's own behind it: the kernel unpacks one after the other."""
    with tempfile.TemporaryDirectory(dir=str(target.parent)) as scratch:
        top = pathlib.Path(scratch)
        own = top / "kvmops-p2v"
        (own / "bin").mkdir(parents=True)
        for name, text in files.items():
            (own / name).write_text(text)
        for name, text in programs.items():
            (own / "bin" / name).write_text(text)
            (own / "bin" / name).chmod(0o755)
        names = sorted(str(path.relative_to(top)) for path in top.rglob("*"))
        argv = ["cpio", "--quiet", "--create", "--format=newc", "--owner=0:0"]
        made = subprocess.run(
            argv, input="\n".join(names).encode(), cwd=scratch, stdout=subprocess.PIPE, check=True
        ).stdout
    with open(str(target), "wb") as image, open(str(base_image), "rb") as source:
        shutil.copyfileobj(source, image)
        image.write(b"\0" * (-image.tell() % 4))
        image.write(made)


def iso(folder: pathlib.Path, menu: str, label: str, name: str) -> None:
    """A hybrid image for CD and stick, BIOS and UEFI, from vmlinuz and initrd.img of the folder; read back."""
    with tempfile.TemporaryDirectory(dir=str(folder)) as scratch:
        boot = pathlib.Path(scratch) / "boot"
        (boot / "grub").mkdir(parents=True)
        (boot / "grub" / "grub.cfg").write_text(menu)
        for part in ("vmlinuz", "initrd.img"):
            os.link(str(folder / part), str(boot / part))
        target = folder / name
        run(["grub-mkrescue", "-o", str(target), scratch, "--", "-volid", label], "Writing %s" % name)
        catalog = run(["xorriso", "-indev", str(target), "-report_el_torito", "plain"], "Reading %s" % name)
        kinds = [kind for kind in ("BIOS", "UEFI") if not re.search(r"^El Torito boot img.* %s " % kind, catalog, re.M)]
        back = pathlib.Path(scratch) / "back"
        run(
            ["xorriso", "-osirrox", "on", "-indev", str(target), "-extract", "/boot/initrd.img", str(back)],
            "Reading %s" % name,
        )
        if kinds or sha256(back) != sha256(folder / "initrd.img"):
            raise PartError(
                "%s was written, but does not read back whole: it lacks %s. The disk may be full or failing."
                % (name, kinds or "its initrd")
            )


def put_in_place(new: pathlib.Path, folder: pathlib.Path) -> None:
    for path in new.iterdir():
        path.chmod(0o600)
        sync(path)
    if folder.exists():
        folder.rename(new.parent / "old")
    new.rename(folder)
    sync(folder.parent)


def write(path: pathlib.Path, text: str, mode: int) -> None:
    beside = path.with_name(".%s.new" % path.name)
    beside.write_text(text)
    beside.chmod(mode)
    sync(beside)
    beside.rename(path)
    sync(path.parent)


def sync(path: pathlib.Path) -> None:
    number = os.open(str(path), os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def sha256(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with open(str(path), "rb") as file:
        for piece in iter(lambda: file.read(1024**2), b""):
            digest.update(piece)
    return digest.hexdigest()


def delivery_folder(path: pathlib.Path, account: str) -> None:
    """Below a folder of root's: the account may not put anything else in its place."""
    path.parent.mkdir(mode=0o755, exist_ok=True)
    path.parent.chmod(0o755)
    path.mkdir(mode=0o700, exist_ok=True)
    shutil.chown(str(path), account, account)


def delivered(folder: pathlib.Path, name: str) -> Optional[Dict[str, Any]]:
    """What kvm_p2v_image takes: the disks for import_from and what there is for domain. bytes: of each disk. None until all is there;
    virt-v2v writes the domain's XML last.
    """
    xml = folder / ("%s.xml" % name)
    if xml.is_symlink() or not xml.is_file() or xml.stat().st_size > 1024**2:
        return None
    text = xml.read_bytes()
    try:
        # The account may have written anything: no document type, so no entities.
        tree = None if b"<!" in text.replace(b"<!--", b"") else ElementTree.fromstring(text)
    except ElementTree.ParseError:
        tree = None
    if tree is None:
        return None
    count = sum(disk.get("device", "disk") == "disk" for disk in tree.iter("disk"))
    # Not by the names in the XML.
    found = [folder / ("%s-sd%s" % (name, letter)) for letter in "abcdefghijklmnopqrstuvwxyz"[:count]]
    if not found or any(path.is_symlink() or not path.is_file() for path in found):
        return None
    # A machine that boots its medium again writes over what it has delivered.
    if any(path.stat().st_mtime_ns > xml.stat().st_mtime_ns for path in found):
        return None
    disk = {path: path.name.rpartition("-")[2] for path in found}
    return {
        "import_from": [{"path": str(path), "format": "raw", "disk": disk[path]} for path in found],
        "bytes": {disk[path]: path.stat().st_size for path in found},
        "domain": described(tree),
    }


def described(tree: ElementTree.Element) -> Dict[str, Any]:
    """What virt-v2v's XML says of the machine. What it does not say in a plain way is left out."""
    told: Dict[str, Any] = {"firmware": "bios"}
    memory, cpus = tree.findtext("memory", "").strip(), tree.findtext("vcpu", "").strip()
    if memory.isdecimal() and len(memory) < 16:
        told["memory_mib"] = int(memory) // 1024
    if cpus.isdecimal() and len(cpus) < 5:
        told["vcpus"] = int(cpus)
    system = tree.find("os")
    if system is not None and (system.get("firmware") == "efi" or system.find("loader") is not None):
        told["firmware"] = "uefi"
    addresses = [str(mac.get("address")) for mac in tree.iter("mac")]
    told["networks"] = [{"mac": mac} for mac in addresses if re.fullmatch(r"([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}", mac)]
    return told
