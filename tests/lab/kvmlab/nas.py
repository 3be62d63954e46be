"""The storage host: a user-space NFS server, as the outer kernel need not have one."""

from __future__ import annotations

from pathlib import Path

from kvmlab.cache import build_log, build_once, key_of
from kvmlab.images import Images
from kvmlab.paths import HostPaths
from kvmlab.run import run
from kvmlab.shape import NAS, NAS_RELEASE
from kvmlab.state import LabRecord

# Part of the key: raise it when the code below changes what it makes.
FORMAT = "1"
EXPORT = "/srv/images"
SIZE_GIB = 16
PACKAGES = ("nfs-ganesha", "nfs-ganesha-vfs")
GANESHA = f"""\
# Version 3 as well: QEMU's own NFS driver speaks it unless told otherwise.
# Everybody is root on this export: QEMU runs as another user on every host, and libvirt hands no network disk over.
NFS_CORE_PARAM {{
    Protocols = 3, 4;
    Enable_NLM = false;
    Enable_RQUOTA = false;
    MNT_Port = 20048;
}}
NFSv4 {{
    Graceless = true;
}}
EXPORT {{
    Export_Id = 1;
    Path = {EXPORT};
    Pseudo = {EXPORT};
    Protocols = 3, 4;
    Transports = TCP;
    Access_Type = RW;
    Squash = All_Squash;
    Anonymous_Uid = 0;
    Anonymous_Gid = 0;
    SecType = sys;
    FSAL {{
        Name = VFS;
    }}
}}
LOG {{
    Default_Log_Level = WARN;
}}
"""


def layer(images: Images) -> Path:
    """What an installed NFS server adds to the root filesystem; built once."""
    root, repository = images.roots[NAS_RELEASE], images.repositories[NAS_RELEASE]
    return (
        build_once(
            "nas", key_of([FORMAT, root.name, repository.name, GANESHA]), lambda t: _install(root, repository, t)
        )
        / "upper"
    )


def _install(root: Path, repository: Path, target: Path) -> None:
    log = build_log("nas")
    paths = HostPaths(target)
    for path in (paths.upper, paths.work, paths.root):
        path.mkdir()
    options = f"lowerdir={root},upperdir={paths.upper},workdir={paths.work}"
    run(["mount", "-t", "overlay", "kvmlab-nas", "-o", options, paths.root])
    try:
        nspawn = [
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--console=pipe",
            "--resolv-conf=off",
            "--timezone=off",
        ]
        nspawn += ["--private-network", f"--directory={paths.root}", f"--bind-ro={repository}:/srv/lab/apt"]
        nspawn += ["--machine=kvmlab-nas-build", "--setenv=DEBIAN_FRONTEND=noninteractive"]
        run([*nspawn, "apt-get", "-q", "update"], log=log)
        run([*nspawn, "apt-get", "-q", "-y", "--no-install-recommends", "install", *PACKAGES], log=log)
        (paths.root / "etc/ganesha/ganesha.conf").write_text(GANESHA)
        (paths.root / EXPORT.lstrip("/")).mkdir(parents=True)
        run([*nspawn, "systemctl", "mask", "run-rpc_pipefs.mount"], log=log)
        run([*nspawn, "systemctl", "enable", "rpcbind.service", "nfs-ganesha.service"], log=log)
    finally:
        run(["umount", paths.root])
        run(["rm", "-rf", paths.work])


def provide_disk(lab: LabRecord, paths: HostPaths) -> None:
    """A disk for the export: an ext4 of its own, as file handles of an overlay cannot be asked for."""
    image, mounted = paths.base / "export.ext4", paths.base / "export"
    paths.base.mkdir(parents=True, exist_ok=True)
    run(["truncate", f"--size={SIZE_GIB}G", image])
    run(["mkfs.ext4", "-q", "-F", "-m", "0", image])
    mounted.mkdir()
    run(["mount", "-o", "loop", image, mounted])
    lab.binds[NAS][EXPORT] = str(mounted)
