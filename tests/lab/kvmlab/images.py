"""Root filesystems of bare hosts, and the apt repository they install from."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kvmlab.apt import apt_for, index, machine_apt_options
from kvmlab.cache import build_log, build_once, key_of, read_list
from kvmlab.guest import build_guest
from kvmlab.paths import LAB_DIR
from kvmlab.run import run
from kvmlab.sources import machine_sources

# Part of every key: raise it when the code below changes what it makes.
FORMAT = "1"
APT_LINE = "deb [trusted=yes] file:/srv/lab/apt ./\n"
UNREAD = ("man", "doc", "info", "locale", "bash-completion", "lintian", "bug")
DPKG_OPTIONS = ("force-unsafe-io", *(f"path-exclude=/usr/share/{name}/*" for name in UNREAD))
# Nobody looks at these in a lab host, and each costs time while it boots.
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "console-getty.service",
    "getty.target",
    "systemd-networkd-wait-online.service",
)


@dataclass(frozen=True)
class Images:
    """Directories that hosts stand on: per release a root filesystem and a repository; the guest."""

    roots: dict[str, Path]
    repositories: dict[str, Path]
    guest: Path


def build(releases: set[str]) -> Images:
    """Build what is missing for these releases, side by side."""
    with ThreadPoolExecutor() as pool:
        guest = pool.submit(build_guest)
        futures = {release: pool.submit(_build_release, release) for release in sorted(releases)}
        pairs = {release: future.result() for release, future in futures.items()}
        return Images({r: p[0] for r, p in pairs.items()}, {r: p[1] for r, p in pairs.items()}, guest.result())


def _build_release(release: str) -> tuple[Path, Path]:
    wanted = read_list(LAB_DIR / "bare-packages.txt", release)
    offered = read_list(LAB_DIR / "repo-packages.txt", release)
    root_key = key_of([FORMAT, release, *wanted])
    root = build_once(f"root-{release}", root_key, lambda path: _make_root(release, wanted, path))
    # The root's key is part of it: the repository holds what that root lacks.
    repository_key = key_of([FORMAT, root_key, *offered])
    return root, build_once(
        f"repo-{release}", repository_key, lambda path: _make_repository(release, root, offered, path)
    )


def _make_root(release: str, packages: list[str], target: Path) -> None:
    log = build_log(f"root-{release}")
    bootstrap(release, packages, target, log)
    impersonal(target, log, MASKED)


def bootstrap(release: str, packages: list[str], target: Path, log: Path, options: tuple[str, ...] = ()) -> None:
    """Install a Debian from the archives of this machine."""
    words = ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory", f"--include={','.join(packages)}"]
    words += [f"--aptopt={option}" for option in machine_apt_options()]
    words += [f"--dpkgopt={option}" for option in DPKG_OPTIONS]
    sources = target.with_suffix(".list")
    sources.write_text("\n".join(machine_sources(release)) + "\n")
    try:
        run([*words, *options, release, target, sources], log=log)
    finally:
        sources.unlink()


def impersonal(root: Path, log: Path, masked: Sequence[str]) -> None:
    """Make the root filesystem nobody's in particular: no name, no keys, no address of this machine."""
    for name in ("etc/machine-id", "etc/hostname", "etc/resolv.conf", "var/lib/dbus/machine-id"):
        (root / name).unlink(missing_ok=True)
    for path in [*(root / "etc/ssh").glob("ssh_host_*"), *(root / "etc/apt/sources.list.d").iterdir()]:
        path.unlink()
    (root / "etc/apt/apt.conf.d/99mmdebstrap").unlink(missing_ok=True)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
    (root / "etc/apt/sources.list").write_text(APT_LINE)
    (root / "etc/apt/apt.conf.d/90lab").write_text('Acquire::Languages "none";\nAPT::Sandbox::User "root";\n')
    for unit in masked:
        (root / "etc/systemd/system" / unit).unlink(missing_ok=True)
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    run(["chroot", root, "systemctl", "enable", "systemd-networkd.service", "ssh.service"], log=log)
    for name in ("srv/lab/apt", "srv/lab/guest"):
        (root / name).mkdir(parents=True)


def _make_repository(release: str, root: Path, packages: list[str], target: Path) -> None:
    """Fetch what `root` lacks to install `packages`, dependencies included, and index it."""
    with apt_for(release, target, root / "var/lib/dpkg/status", build_log(f"repo-{release}")) as apt:
        apt.install(packages)
    index(target)
