"""An apt of its own for another release: the machine's apt neither notices nor is asked."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kvmlab.run import run
from kvmlab.sources import machine_sources


@dataclass(frozen=True)
class Apt:
    """apt with the archives of one release; `download_dir` receives what it fetches."""

    download_dir: Path
    options: tuple[str, ...]
    log: Path

    def install(self, packages: Sequence[str]) -> None:
        """Fetch packages with the dependencies that are not installed."""
        run(
            ["apt-get", "-q", "-y", *self.options, "install", "--download-only", "--no-install-recommends", *packages],
            log=self.log,
        )

    def download(self, package: str) -> Path:
        """Fetch one package alone."""
        uris = run(["apt-get", "-q", *self.options, "download", "--print-uris", package]).stdout.split()
        # apt-get download writes to the current directory, whatever it is told.
        run(["env", f"--chdir={self.download_dir}", "apt-get", "-q", *self.options, "download", package], log=self.log)
        return self.download_dir / uris[1]

    def depends(self, package: str) -> list[str]:
        """What a package depends on directly."""
        told = run(["apt-cache", *self.options, "depends", package]).stdout
        return [line.split()[-1] for line in told.splitlines() if line.strip().startswith("Depends:")]


@contextmanager
def apt_for(release: str, download_dir: Path, status: Path, log: Path) -> Iterator[Apt]:
    """An Apt whose view of what is installed is the dpkg status file `status`; leaves only what it fetched."""
    base = download_dir / "apt"
    for name in ("lists/partial", "etc/sources", "etc/preferences"):
        (base / name).mkdir(parents=True)
    (download_dir / "partial").mkdir()
    (base / "etc/sources.list").write_text("\n".join(machine_sources(release)) + "\n")
    settings = {
        "Dir::State": base,
        "Dir::State::status": status,
        "Dir::Etc::sourcelist": base / "etc/sources.list",
        "Dir::Etc::sourceparts": base / "etc/sources",
        "Dir::Etc::preferences": base / "etc/no-preferences",
        "Dir::Etc::preferencesparts": base / "etc/preferences",
        "Dir::Cache::archives": download_dir,
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "Debug::NoLocking": "true",
        "APT::Sandbox::User": "root",
    }
    apt = Apt(download_dir, tuple(f"-o{name}={value}" for name, value in settings.items()), log)
    run(["apt-get", "-q", *apt.options, "update", "--error-on=any"], log=log)
    yield apt
    shutil.rmtree(base)
    shutil.rmtree(download_dir / "partial")
    (download_dir / "lock").unlink(missing_ok=True)


def machine_apt_options() -> list[str]:
    """How this machine reaches its archives: proxies, retries, what it checks."""
    told = run(["apt-config", "dump"]).stdout
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Retries", "Acquire::Check-", "Acquire::Max-")
    return [line.rstrip(";") for line in told.splitlines() if line.startswith(wanted) and not line.endswith(' "";')]


def index(directory: Path) -> None:
    """Make a directory of packages a repository."""
    for kind, name in (("packages", "Packages"), ("release", "Release")):
        told = subprocess.run(["apt-ftparchive", kind, "."], cwd=directory, capture_output=True, text=True, check=True)
        (directory / name).write_text(told.stdout)
