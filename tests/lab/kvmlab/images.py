"""Root filesystems of bare hosts, and the apt repository they install from."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kvmlab.cache import build_log, build_once, key_of, read_list
from kvmlab.guest import build_guest
from kvmlab.paths import LAB_DIR
from kvmlab.run import run
from kvmlab.sources import machine_sources

# Part of every key: raise it when the code below changes what it makes.
FORMAT = "1"
APT_LINE = "deb [trusted=yes] file:/srv/lab/apt ./\n"
UNREAD = ("man", "doc", "info", "locale", "bash-completion", "lintian", "bug")
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
    words = ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory", f"--include={','.join(packages)}"]
    words += [f"--aptopt={option}" for option in machine_apt_options()]
    words += ["--dpkgopt=force-unsafe-io", *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNREAD)]
    sources = target.with_suffix(".list")
    sources.write_text("\n".join(machine_sources(release)) + "\n")
    try:
        run([*words, release, target, sources], log=log)
    finally:
        sources.unlink()
    _finish_root(target, log)


def _finish_root(root: Path, log: Path) -> None:
    """Make the root filesystem nobody's in particular: no name, no keys, no address of this machine."""
    for name in ("etc/machine-id", "etc/hostname", "etc/resolv.conf", "var/lib/dbus/machine-id"):
        (root / name).unlink(missing_ok=True)
    for path in [*(root / "etc/ssh").glob("ssh_host_*"), *(root / "etc/apt/sources.list.d").iterdir()]:
        path.unlink()
    (root / "etc/apt/apt.conf.d/99mmdebstrap").unlink(missing_ok=True)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
    (root / "etc/apt/sources.list").write_text(APT_LINE)
    (root / "etc/apt/apt.conf.d/90lab").write_text('Acquire::Languages "none";\nAPT::Sandbox::User "root";\n')
    for unit in MASKED:
        (root / "etc/systemd/system" / unit).unlink(missing_ok=True)
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    run(["chroot", root, "systemctl", "enable", "systemd-networkd.service", "ssh.service"], log=log)
    for name in ("srv/lab/apt", "srv/lab/guest"):
        (root / name).mkdir(parents=True)


def machine_apt_options() -> list[str]:
    """How this machine reaches its archives: proxies, retries, what it checks."""
    told = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Retries", "Acquire::Check-", "Acquire::Max-")
    return [line.rstrip(";") for line in told.splitlines() if line.startswith(wanted) and not line.endswith('"";')]


def _make_repository(release: str, root: Path, packages: list[str], target: Path) -> None:
    """Fetch what `root` lacks to install `packages`, dependencies included, and index it."""
    log = build_log(f"repo-{release}")
    apt = target / "apt"
    for name in ("lists/partial", "etc/sources", "etc/preferences"):
        (apt / name).mkdir(parents=True)
    (target / "partial").mkdir()
    (apt / "etc/sources.list").write_text("\n".join(machine_sources(release)) + "\n")
    options = {
        "Dir::State": apt,
        "Dir::State::status": root / "var/lib/dpkg/status",
        "Dir::Etc::sourcelist": apt / "etc/sources.list",
        "Dir::Etc::sourceparts": apt / "etc/sources",
        "Dir::Etc::preferences": apt / "etc/no-preferences",
        "Dir::Etc::preferencesparts": apt / "etc/preferences",
        "Dir::Cache::archives": target,
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "Debug::NoLocking": "true",
        "APT::Sandbox::User": "root",
        "APT::Keep-Downloaded-Packages": "true",
    }
    get = ["apt-get", "-q", "-y", *(f"-o{name}={value}" for name, value in options.items())]
    run([*get, "update", "--error-on=any"], log=log)
    run([*get, "install", "--download-only", "--no-install-recommends", *packages], log=log)
    shutil.rmtree(apt)
    shutil.rmtree(target / "partial")
    (target / "lock").unlink(missing_ok=True)
    index = subprocess.run(["apt-ftparchive", "packages", "."], cwd=target, capture_output=True, text=True, check=True)
    (target / "Packages").write_text(index.stdout)
    release_file = subprocess.run(
        ["apt-ftparchive", "release", "."], cwd=target, capture_output=True, text=True, check=True
    )
    (target / "Release").write_text(release_file.stdout)
