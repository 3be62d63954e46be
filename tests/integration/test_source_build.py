# Copyright (c) 2026, kvmops.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""QEMU and libvirt built from Debian's source tarballs on a bare host, as modular daemons; then guests move to and from it.

Takes about half an hour on two cores. `make test-source` runs it; the tarballs are kept beside the lab's other packages.
"""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, Dict, Iterator

import pytest

from .fleet import LAB, ROOT, Lab

sys.path.insert(0, str(ROOT / "tests" / "lab"))
from kvmlab.sources import machine_sources

pytestmark = pytest.mark.long
NAME = "source"
KEPT = Path(os.environ.get("KVMLAB_CACHE", "/var/cache/kvmops-lab")) / "sources-trixie"


def tarballs() -> Dict[str, Path]:
    """Debian's own tarballs of QEMU and libvirt, fetched once."""
    if not list(KEPT.glob("libvirt_*.orig.tar.*")):
        (KEPT / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        sources = KEPT / "source.list"
        sources.write_text("".join(line.replace("deb ", "deb-src ", 1) + "\n" for line in machine_sources("trixie")))
        settings = {
            "Dir::Etc::sourcelist": sources,
            "Dir::Etc::sourceparts": "-",
            "Dir::State::lists": KEPT / "lists",
            "APT::Sandbox::User": "root",
        }
        options = ["-o%s=%s" % item for item in settings.items()]
        subprocess.run(["apt-get", "-q", *options, "update"], check=True)
        fetch = ["apt-get", "-q", *options, "source", "--download-only", "--tar-only", "qemu", "libvirt"]
        subprocess.run(fetch, check=True, cwd=KEPT)
    found = {name: next(KEPT.glob("%s_*.orig.tar.*[!c]" % name)) for name in ("qemu", "libvirt")}
    return dict(found, qemu=complete(found["qemu"]))


def complete(debians: Path) -> Path:
    """QEMU's tarball with empty firmware where Debian has taken it out: its build unpacks it, and nothing here uses it."""
    whole = debians.with_name(debians.name.replace(".orig.tar.xz", ".tar.gz"))
    if not whole.exists():
        new = whole.with_suffix(".new")
        with tarfile.open(debians) as old, tarfile.open(new, "w:gz", compresslevel=1) as target:
            top = ""
            for member in old:
                top = top or member.name.split("/")[0]
                target.addfile(member, old.extractfile(member) if member.isreg() else None)
                if member.name == top + "/pc-bios/meson.build":
                    names = re.findall(r"'(edk2-\S+[.]fd)'", (old.extractfile(member) or io.BytesIO()).read().decode())
            for name in names:
                text = bz2.compress(b"")
                added = tarfile.TarInfo("%s/pc-bios/%s.bz2" % (top, name))
                added.size = len(text)
                target.addfile(added, io.BytesIO(text))
        new.replace(whole)
    return whole


@pytest.fixture(name="built", scope="module")
def fixture_built() -> Iterator[Lab]:
    """kvm1 from packages, monolithic; kvm2 from source, modular."""
    given = os.environ.get("KVMOPS_SOURCE_LAB")
    name = given or NAME
    subprocess.run([str(LAB), "up", "--bare", "--name", name, "--hosts", "2", "--os", "bookworm,trixie"], check=True)
    lab = Lab(name=name, inventory=ROOT / ".lab" / name / "inventory.yml")
    source: Dict[str, Any] = {
        part: {"tarball": str(path), "checksum": hashlib.sha256(path.read_bytes()).hexdigest()}
        for part, path in tarballs().items()
    }
    # Debian's tarball of QEMU has neither firmware nor Python wheels in it, unlike its publisher's.
    source["qemu"]["configure"] = [
        "--target-list=x86_64-softmmu",
        "--disable-docs",
        "--disable-install-blobs",
        "--firmwarepath=/usr/share/qemu:/usr/share/seabios:/usr/lib/ipxe/qemu",
    ]
    more = {
        "hypervisor_install_method": "source",
        "hypervisor_source": source,
        "hypervisor_daemons": "modular",
        "hypervisor_extra_packages": ["ipxe-qemu", "python3-pycotap", "qemu-system-data", "seabios"],
    }
    extra = lab.inventory.parent / "source.json"
    extra.write_text(json.dumps({"all": {"hosts": {"kvm2": more}}}), encoding="utf-8")
    lab.playbook("kvmops.fleet.site", "-i", str(extra), timeout_s=3 * 3600)
    yield lab
    if not given:
        subprocess.run([str(LAB), "down", "--name", name], check=True)


def test_what_runs_is_what_was_built(built: Lab) -> None:
    versions = built.virsh("kvm2", "version")
    for part, path in tarballs().items():
        assert path.name.split("_")[1].split("+")[0].split(".orig")[0] in versions, part
    assert (
        built.sh("kvm2", "sh", "-c", "dpkg -l | grep -cE '^ii +(qemu-system-x86|libvirt-daemon) ' || true").strip()
        == "0"
    )
    units = built.sh("kvm2", "systemctl", "list-units", "--no-legend", "--plain", "virt*.socket", "libvirtd.socket")
    assert "virtqemud.socket" in units and "virtproxyd.socket" in units and "libvirtd.socket" not in units


def test_a_second_run_builds_nothing(built: Lab) -> None:
    extra = built.inventory.parent / "source.json"
    told = built.playbook("kvmops.fleet.site", "-i", str(extra))
    assert {host: stats["changed"] for host, stats in told["stats"].items()} == {"kvm1": 0, "kvm2": 0}


def test_guests_move_between_modular_and_monolithic_daemons(built: Lab) -> None:
    told = built.playbook(
        "kvmops.fleet.verify",
        "-e",
        "verify_kernel=/srv/lab/guest/vmlinuz verify_initrd=/srv/lab/guest/initrd.img verify_machine=pc-q35-7.2",
    )
    report = told["global_custom_stats"]["kvmops_verify"]
    moves = [(move["from"], move["to"]) for move in report["moves"]]
    assert sorted(moves) == [("kvm1", "kvm2"), ("kvm2", "kvm1")]
    assert all(move["outcome"] == "moved" for move in report["moves"]), report
