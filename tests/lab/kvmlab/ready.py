"""Ready hosts: what `site.yml` made of bare ones, kept so that it need not be done again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kvmlab import inventory, lifecycle
from kvmlab.cache import build_log, build_once, key_of
from kvmlab.errors import LabError
from kvmlab.images import Images
from kvmlab.paths import CACHE, REPOSITORY, LabPaths
from kvmlab.run import run, say
from kvmlab.shape import Host, Shape
from kvmlab.state import LabRecord, describe

# Part of the key: raise it when the lab itself changes what it leaves in a host.
FORMAT = "1"
# Instead of kvmops.fleet.site, for tests of the mechanism itself.
PLAYBOOK = os.environ.get("KVMLAB_PLAYBOOK", "kvmops.fleet.site")
MADE_OF = "made-of.json"
# The lab that is rolled out; one at a time, as building holds a lock.
LAB = "ready-build"


def key() -> str:
    """Names what ready hosts are made with, apart from their images and their place in a lab."""
    parts = [FORMAT, PLAYBOOK, inventory.render(Shape(()), LabPaths("any"))]
    sources = [REPOSITORY / "playbooks/site.yml"]
    sources += [*(REPOSITORY / "playbooks/templates").glob("*"), *(REPOSITORY / "roles").rglob("*")]
    # The role host_base installs these.
    sources += [REPOSITORY / "plugins/module_utils/host" / name for name in ("far_side.py", "prober.py")]
    sources += [Path(PLAYBOOK)] if Path(PLAYBOOK).is_file() else []
    for path in sorted(path for path in sources if path.is_file()):
        parts += [os.path.relpath(path, REPOSITORY), hashlib.sha256(path.read_bytes()).hexdigest()]
    return key_of(parts)


def made_of(shape: Shape, images: Images) -> dict[str, Any]:
    """The hosts of a snapshot and the images they stand on."""
    releases = sorted({host.release for host in shape.hosts})
    return {
        "hosts": [asdict(host) for host in shape.hosts],
        "images": {release: [images.roots[release].name, images.repositories[release].name] for release in releases},
    }


def serves(made: dict[str, Any], shape: Shape, images: Images) -> bool:
    """Whether a snapshot begins with the hosts of `shape`, on the same images."""
    wanted = made_of(shape, images)["images"]
    same = {release: made["images"].get(release) for release in wanted} == wanted
    return same and shape.within([Host(**host) for host in made["hosts"]])


def find(shape: Shape, images: Images) -> Path | None:
    """A snapshot that serves, the smallest one."""
    found = []
    for path in CACHE.glob(f"ready-{key()}-*/{MADE_OF}"):
        made = json.loads(path.read_text())
        if serves(made, shape, images):
            found.append((len(made["hosts"]), path.parent))
    if not found:
        return None
    snapshot = min(found)[1]
    # The cache drops what has not been used for longest.
    os.utime(snapshot)
    return snapshot


def build(shape: Shape, images: Images) -> Path:
    """Roll out bare hosts of that shape with the playbook and keep what it wrote."""
    what = key_of([json.dumps(made_of(shape, images))])
    return build_once("ready", f"{key()}-{what}", lambda target: _roll_out(Shape(shape.hosts), images, target))


def _roll_out(shape: Shape, images: Images, target: Path) -> None:
    lifecycle.clear(LAB, lifecycle.load_broken(LAB))
    lab = describe(LAB, shape, images, bare=True)
    log = build_log("ready")
    lifecycle.start_or_clear(lab)
    try:
        say(f"rolling out {' '.join(host.name for host in shape.hosts)} with {PLAYBOOK} (log: {log})")
        play(lab, log)
        lifecycle.halt(lab)
        for host in shape.hosts:
            keep_layer(lab.paths.host(host.name).upper, target / host.name)
        (target / MADE_OF).write_text(json.dumps(made_of(shape, images)))
    finally:
        lifecycle.clear(LAB, lab)


def play(lab: LabRecord, log: Path) -> None:
    """Run the playbook against a lab."""
    ansible = REPOSITORY / ".venv/bin/ansible-playbook"
    if not ansible.exists():
        raise LabError(
            f"{ansible} is not there, and bare hosts cannot be made ready without it",
            "run make setup; or use lab up --bare",
        )
    environment = {**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    with log.open("a") as sink:
        words = [str(ansible), "-i", str(lab.paths.inventory()), PLAYBOOK]
        code = subprocess.run(
            words, cwd=REPOSITORY, env=environment, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL, check=False
        ).returncode
    if code != 0:
        tail = "\n  ".join(log.read_text(errors="replace").strip().splitlines()[-25:])
        raise LabError(f"{PLAYBOOK} failed on bare hosts:\n  {tail}", f"the whole output is in {log}")


def keep_layer(upper: Path, target: Path) -> None:
    """Move what a stopped host wrote to the cache, without its journal."""
    shutil.rmtree(upper / "var/log/journal", ignore_errors=True)
    if upper.stat().st_dev == target.parent.stat().st_dev:
        upper.rename(target)
    else:
        run(["cp", "--archive", upper, target])
