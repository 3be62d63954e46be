"""The tiny guest: a Debian kernel, and an initramfs of busybox and one program."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from kvmlab.apt import apt_for
from kvmlab.cache import build_log, build_once, key_of
from kvmlab.errors import LabError
from kvmlab.paths import LAB_DIR
from kvmlab.run import run

# Part of the key: raise it when the code below changes what it makes.
FORMAT = "1"
RELEASE = "bookworm"
KERNEL = "linux-image-cloud-amd64"
BUSYBOX = Path("/bin/busybox")
MODULES = ("virtio_pci", "virtio_net", "virtio_blk", "virtio_balloon", "virtio_rng", "button", "evdev")
# Loaded only on request: a drive for CD-ROMs and what is on them, and the guest agent's channel.
EXTRA_MODULES = {"seed": ("virtio_scsi", "sr_mod", "isofs"), "agent": ("virtio_console",)}
APPLETS = (
    "sh",
    "mount",
    "umount",
    "dmesg",
    "insmod",
    "cat",
    "hostname",
    "ip",
    "cut",
    "ls",
    "ps",
    "sync",
    "poweroff",
    "sleep",
)
DATA_MIB = 64


def build_guest() -> Path:
    """Directory with vmlinuz, initrd.img, and data.raw: a disk with an empty ext4 for guests that write records."""
    sources = [(LAB_DIR / "guest" / name).read_text() for name in ("kvmguest.c", "init")]
    return build_once(
        "guest",
        key_of([FORMAT, RELEASE, KERNEL, *MODULES, str(EXTRA_MODULES), *APPLETS, str(DATA_MIB), *sources]),
        _make,
    )


def _make(target: Path) -> None:
    log = build_log("guest")
    scratch = target / "scratch"
    scratch.mkdir()
    (scratch / "status").write_text("")
    with apt_for(RELEASE, scratch, scratch / "status", log) as apt:
        names = [name for name in apt.depends(KERNEL) if name.startswith("linux-image-")]
        if not names:
            raise LabError(f"{KERNEL} names no kernel package", f"see {log}")
        package = apt.download(names[0])
    run(["dpkg-deb", "--extract", package, scratch / "kernel"], log=log)
    shutil.copy(next((scratch / "kernel/boot").glob("vmlinuz-*")), target / "vmlinuz")
    tree = scratch / "tree"
    _fill(tree, scratch / "kernel", log)
    names_of_files = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*"))) + "\n"
    pack = [
        "cpio",
        "--create",
        "--format=newc",
        "--owner=0:0",
        f"--directory={tree}",
        f"--file={target / 'initrd.img'}",
    ]
    run(pack, stdin=names_of_files, log=log)
    run(["truncate", f"--size={DATA_MIB}M", target / "data.raw"])
    run(["mkfs.ext4", "-q", "-F", "-L", "kvmops-data", target / "data.raw"], log=log)
    for path in target.iterdir():
        path.chmod(0o644 if path.is_file() else 0o755)
    shutil.rmtree(scratch)


def _fill(tree: Path, kernel: Path, log: Path) -> None:
    """Lay out the initramfs; not compressed, as unpacking costs an emulated processor more than reading."""
    for name in ("bin", "dev", "proc", "sys", "data", "seed", "modules"):
        (tree / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, tree / "bin/busybox")
    for name in APPLETS:
        (tree / "bin" / name).symlink_to("busybox")
    shutil.copy(LAB_DIR / "guest/init", tree / "init")
    (tree / "init").chmod(0o755)
    run(["gcc", "-O2", "-static", "-s", "-o", tree / "bin/kvmguest", LAB_DIR / "guest/kvmguest.c"], log=log)
    files = {path.name.partition(".ko")[0].replace("-", "_"): path for path in kernel.rglob("*.ko")}
    depends = {name: _dependencies(path) for name, path in files.items()}
    order = load_order(MODULES, depends)
    lists = {"order": order}
    for purpose, modules in EXTRA_MODULES.items():
        lists[purpose] = [name for name in load_order((*MODULES, *modules), depends) if name not in order]
    for purpose, names in lists.items():
        for name in names:
            shutil.copy(files[name], tree / "modules" / f"{name}.ko")
        (tree / "modules" / purpose).write_text("".join(f"{name}.ko\n" for name in names))


def _dependencies(module: Path) -> list[str]:
    """What a kernel module says it needs."""
    said = re.search(rb"\0depends=([^\0]*)\0", module.read_bytes())
    return [name.replace("-", "_") for name in said[1].decode().split(",") if name] if said else []


def load_order(wanted: Iterable[str], depends: dict[str, list[str]]) -> list[str]:
    """The wanted modules and what they need, each after what it needs; built-in ones are unknown and left out."""
    order: list[str] = []

    def add(name: str) -> None:
        if name in order or name not in depends:
            return
        for needed in depends[name]:
            add(needed)
        order.append(name)

    for name in wanted:
        add(name)
    return order
